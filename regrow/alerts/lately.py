"""Which incidents of late may have spent what burns, and what that means for who is told.

While an incident is open, a burn that it spent alone is told with it. When it is over, such a burn says
nothing that was not told: it is inhibited for as long as it lasts, which is while the incident lies within
the long window of the rule.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from regrow.alerts.model import Signal
from regrow.engine import Engine
from regrow.incidents import model
from regrow.incidents import service as incidents
from regrow.incidents.model import Incident
from regrow.settings import Settings
from regrow.slo import service as slo
from regrow.slo.objectives import Objective


class Lately:
    """The incidents as far back as burn rules look, read when something burns."""

    def __init__(self, engine: Engine, now: datetime) -> None:
        self._engine, self._now = engine, now
        self._settings = engine.settings
        self._found: dict[str, Incident] | None = None
        self._of: dict[str, list[str]] = {}

    def outages(self, one: Objective) -> list[slo.Outage]:
        """The incidents that a check of the objective, or of its service, was in."""
        incidents_ = self._incidents()
        ids = {name for check in checks_about(one, self._settings) for name in self._of.get(check, ())}
        return [
            slo.Outage(name, incidents_[name].began_at, incidents_[name].resolved_at or self._now)
            for name in sorted(ids)
        ]

    def is_over(self, name: str | None) -> bool:
        return name is not None and not self._incidents()[name].is_open

    def placed(self, signal: Signal, of: Objective, name: str | None) -> Signal:
        """With the incident that spent it. It is bad because of the root of an open one, unless it is about
        that, and because of one that is over, which was told."""
        if name is None:
            return signal
        one = self._incidents()[name]
        is_root = one.is_open and one.root in checks_about(of, self._settings)
        return replace(signal, incident=name, parent=None if is_root else one.root)

    def _incidents(self) -> dict[str, Incident]:
        if self._found is None:
            since = self._now - slo.LONGEST
            found = incidents.of_period(self._engine, since, self._now + timedelta(microseconds=1))
            self._found = {one.id: one for one in found if one.status != "merged"}
            for member in incidents.members(self._engine, list(self._found)):
                self._of.setdefault(member.subject, []).append(member.incident)
        return self._found


def checks_about(one: Objective, settings: Settings) -> list[str]:
    """The subjects of the checks that an objective is about, or that bear the name of its service."""
    if one.kind == "availability":
        return [model.check(name) for name in one.checks]
    return [
        model.check(name)
        for name, check in settings.health.checks.items()
        if one.service in {name, check.labels.get("service")}
    ]
