"""The objectives that hold: those of ``[slo.objectives]``, and one for every check that none is about."""

from __future__ import annotations

from datetime import timedelta

from regrow.recurrence import hours_of
from regrow.settings import CheckSettings, Settings
from regrow.settings.slo import WINDOWS, ObjectiveSettings
from regrow.slo.objectives import Objective

LATENCY_TARGET = 0.95


def objectives(settings: Settings) -> dict[str, Objective]:
    """All objectives by name. A check that is switched off is in none, which may leave one without checks."""
    checks = {name: check for name, check in settings.health.checks.items() if check.enabled}
    told = {name: _declared(name, one, settings, checks) for name, one in settings.slo.objectives.items()}
    covered = {check for one in told.values() for check in one.checks} | set(told)
    implied = {name: _implied(name, check, settings) for name, check in checks.items() if name not in covered}
    return {**told, **implied}


def checks_of(told: ObjectiveSettings, checks: dict[str, CheckSettings]) -> tuple[str, ...]:
    """The checks that an objective is about, in order of their names."""
    if told.kind != "availability":
        return ()
    return tuple(
        name
        for name, check in sorted(checks.items())
        if name in told.checks
        or (told.service is not None and told.service in {name, check.labels.get("service")})
        or (bool(told.labels) and told.labels.items() <= check.labels.items())
    )


def _declared(
    name: str, told: ObjectiveSettings, settings: Settings, checks: dict[str, CheckSettings]
) -> Objective:
    about = checks_of(told, checks)
    default = LATENCY_TARGET if told.kind == "latency" else settings.reports.uptime_target
    return Objective(
        name=name,
        kind=told.kind,
        target=default if told.target is None else told.target,
        window=timedelta(seconds=told.seconds),
        severity=told.severity,
        checks=about,
        service=told.service or "",
        limit=told.latency if told.kind == "latency" else told.rate,
        hours=None if told.hours is None else hours_of(told.hours),
        zone=told.zone,
        exclude_maintenance=told.exclude_maintenance,
        interval=max((checks[c].interval or settings.health.interval for c in about), default=60.0),
        failures=min((checks[c].failures for c in about), default=1),
    )


def _implied(name: str, check: CheckSettings, settings: Settings) -> Objective:
    return Objective(
        name=name,
        kind="availability",
        target=check.slo or settings.reports.uptime_target,
        window=timedelta(seconds=WINDOWS["availability"]),
        severity=check.severity,
        checks=(name,),
        declared=False,
        interval=check.interval or settings.health.interval,
        failures=check.failures,
    )
