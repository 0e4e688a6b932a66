"""What each rule sees now: one function a rule, each reading one source of facts.

A source that cannot be read makes its rule blind: a signal that is neither bad nor fine.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import redis
import sqlalchemy as sa
import structlog

from regrow.alerts.lately import Lately
from regrow.alerts.model import ANY, Signal
from regrow.breakers import list_breakers
from regrow.capacity import service as capacity
from regrow.database.tables import check_results
from regrow.dead_letters import service as dead_letters
from regrow.drain import record
from regrow.engine import Engine
from regrow.errors import RegrowError
from regrow.incidents import model
from regrow.incidents import service as incidents
from regrow.incidents.model import MONITOR, Incident, Member
from regrow.recovery import service as recovery
from regrow.requests import store as requests
from regrow.settings.alerts import RuleName, RuleSettings
from regrow.slo import service as slo
from regrow.slo.burn import Burning
from regrow.slo.objectives import Objective

logger = structlog.get_logger(__name__)

Source = Callable[[Engine, datetime, RuleSettings], Iterable[Signal]]
HOUR = timedelta(hours=1)
_ENOUGH_RESULTS = 20
_ENOUGH_REQUESTS = 100


def gather(engine: Engine, now: datetime) -> list[Signal]:
    """What all rules that are switched on see, with the incidents that it belongs to."""
    found: list[Signal] = []
    for name, chosen in engine.settings.alerts.rules.items():
        if chosen.enabled and (source := SOURCES.get(name)) is not None:
            found += _looked(name, source, engine, now, chosen)
    return list(_with_incidents(engine, found))


def _looked(
    name: RuleName, source: Source, engine: Engine, now: datetime, chosen: RuleSettings
) -> list[Signal]:
    try:
        return list(source(engine, now, chosen))
    except (RegrowError, redis.RedisError, sa.exc.DBAPIError) as error:
        why = str(error) if isinstance(error, RegrowError) else type(error).__name__
    except Exception as error:
        logger.exception("alert.defect", rule=name)
        why = f"a defect ({type(error).__name__}); the log says more"
    return [Signal(name, ANY, None, chosen.severity, f"could not look: {why}")]


def _with_incidents(engine: Engine, signals: list[Signal]) -> Iterator[Signal]:
    """Signals of what is in an open incident belong to it; of what hangs on its root, because of that."""
    try:
        open_ones = {one.id: one for one in incidents.listed(engine, status="open", limit=1_000)}
        members = incidents.members(engine, list(open_ones))
    except RegrowError as error:
        logger.warning("alert.incidents_unknown", error=str(error))
        yield from signals
        return
    of: Mapping[str, Member] = {one.subject: one for one in members if one.state != "well"}
    for signal in signals:
        member = of.get(signal.check or signal.subject) or of.get(signal.subject)
        if signal.incident is not None or member is None or not signal.bad:
            yield signal
            continue
        yield _placed(signal, member, open_ones[member.incident])


def _placed(signal: Signal, member: Member, one: Incident) -> Signal:
    parent = one.root if member.subject != one.root else None
    return replace(signal, incident=one.id, parent=parent)


def _incident(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    del now, chosen
    for one in incidents.listed(engine, status="open", limit=1_000):
        if one.kind != "monitor":
            yield Signal(
                "incident", one.root, True, one.severity, one.title, one.detected_at, incident=one.id
            )


def _monitor_silent(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    del now
    for one in incidents.listed(engine, status="open", limit=1_000):
        if one.kind == "monitor":
            said = f"no check has had a result since {one.began_at:%Y-%m-%d %H:%M:%S} UTC"
            yield Signal("monitor_silent", MONITOR, True, chosen.severity, said, one.detected_at, one.id)


def _breaker_open(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    """Of the fleet; one that a person switched is a decision."""
    for status in list_breakers(engine.redis):
        if status.reporter is None and status.override is None and status.state != "closed":
            said = f"circuit breaker {status.name} is {status.state.replace('_', '-')}"
            subject = model.breaker(status.name)
            yield Signal("breaker_open", subject, True, chosen.severity, said, status.since or now)


def _drain_timed_out(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    _under_way, ended = record.read(engine.redis, now.timestamp())
    lasts = timedelta(seconds=chosen.threshold or 0.0)
    for course in ended:
        if not course.timed_out or not course.in_hand or course.ended is None:
            continue
        at = datetime.fromtimestamp(course.ended, UTC)
        if now - at < lasts:
            said = (
                f"{course.process} on {course.host} stopped with {course.in_hand} in hand ({course.reason})"
            )
            yield Signal("drain_timed_out", f"drain:{course.key}", True, chosen.severity, said, at)


def _checks_failing(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    """Of the last hour's results, those in maintenance aside; unknown ones count for nothing."""
    c = check_results.c
    known = sa.and_(c.at > now - HOUR, c.at <= now, c.maintenance.is_(None), c.status != "unknown")
    query = sa.select(
        sa.func.count(), sa.func.coalesce(sa.func.sum(sa.case((c.status == "unhealthy", 1), else_=0)), 0)
    ).where(known)
    with engine.database.snapshot() as connection:
        total, failed = connection.execute(query).one()
    limit = 0.05 if chosen.threshold is None else chosen.threshold
    if total < _ENOUGH_RESULTS:
        said = f"{total} results in the last hour are too few to tell"
        yield Signal("checks_failing", "checks", None, chosen.severity, said)
        return
    share = int(failed) / total
    said = f"{share:.1%} of {total} results in the last hour failed (limit {limit:.1%})"
    yield Signal("checks_failing", "checks", share > limit, chosen.severity, said)


def _request_failures(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    """Of the last hour's requests, by service. Of one that told nothing, nothing is known."""
    limit = 0.01 if chosen.threshold is None else chosen.threshold
    for service in requests.services(engine.database, now - HOUR):
        rollups = requests.read(engine.database, requests.MINUTE, now - HOUR, now, [service])
        count = sum(one.count for one in rollups)
        failed = sum(one.failed for one in rollups)
        subject = f"requests:{service}"
        if count < _ENOUGH_REQUESTS:
            said = f"{count} requests in the last hour are too few to tell"
            yield Signal("request_failures", subject, None, chosen.severity, said)
            continue
        said = f"{failed / count:.2%} of {count} requests of {service} failed in the last hour ({limit:.2%})"
        yield Signal("request_failures", subject, failed / count > limit, chosen.severity, said)


def _oldest_letter(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    oldest = dead_letters.oldest_pending(engine)
    limit = timedelta(seconds=chosen.threshold or 0.0)
    if oldest is not None and now - oldest > limit:
        hours = (now - oldest).total_seconds() / 3600
        said = f"the oldest dead letter that is not settled failed {hours:.0f} h ago"
        yield Signal("oldest_letter", "letters", True, chosen.severity, said, oldest + limit)


def _ledger_off(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    """The books and the letters differ. They may while a run is under way, which ``hold`` is there for."""
    del now
    for account in dead_letters.read_ledger(engine).unbalanced:
        said = f"the ledger of {account.service} is off: letters and books differ"
        yield Signal("ledger_off", f"ledger:{account.service}", True, chosen.severity, said)


def _recovery_locked(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    for one in recovery.status(engine):
        if one.state == "locked":
            said = f"recovery of {one.name} is locked after {one.attempts} attempts: a person is wanted"
            severity = chosen.severity
            subject = model.recovery(one.name)
            yield Signal("recovery_locked", subject, True, severity, said, one.locked_at or now)


def _disk_full_soon(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    """By the trends that the job of capacity found within the last hour."""
    found = capacity.filling(engine, now, timedelta(seconds=chosen.threshold or 0.0))
    if found is None:
        yield Signal("disk_full_soon", ANY, None, chosen.severity, "nobody has looked for trends lately")
        return
    for one in found:
        if one.kind == "disk":
            check = model.check(one.subject)
            said = f"disk {one.subject} will be full: {one.why}"
            yield Signal(
                "disk_full_soon", f"forecast:{one.subject}", True, chosen.severity, said, check=check
            )


def _burn_rate(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    """The most severe burn of each objective, those aside that an incident which is over has spent alone."""
    declared = slo.objectives(engine.settings)
    lately = Lately(engine, now)
    found = slo.burns(engine, now, lately.outages)
    for name in found.unknown:
        said = f"nothing is heard of what {name} is about"
        yield Signal("burn_rate", f"objective:{name}", None, chosen.severity, said)
    by_objective: dict[str, list[Burning]] = {}
    for burning in found.firing:
        by_objective.setdefault(burning.objective, []).append(burning)
    for name, rules in by_objective.items():
        worst = next((rule for rule in rules if not lately.is_over(rule.spent_by)), rules[0])
        check = _check_of(declared[name])
        signal = Signal("burn_rate", f"objective:{name}", True, worst.severity, worst.message, check=check)
        yield lately.placed(signal, declared[name], worst.spent_by)


def _uptime_under_target(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    """Of availability objectives, over their windows. It moves slowly, and is dear: looked at every 5 min."""
    last = _uptimes.get(engine)
    if last is None or not timedelta(0) <= now - last[0] < _UPTIME_EVERY:
        last = _uptimes[engine] = (now, list(_uptime_now(engine, now, chosen)))
    yield from last[1]


_UPTIME_EVERY = timedelta(minutes=5)
_uptimes: weakref.WeakKeyDictionary[Engine, tuple[datetime, list[Signal]]] = weakref.WeakKeyDictionary()


def _uptime_now(engine: Engine, now: datetime, chosen: RuleSettings) -> Iterator[Signal]:
    declared = slo.objectives(engine.settings)
    names = [name for name, one in declared.items() if one.kind == "availability"]
    for found in slo.standing(engine, now, names):
        one = found.objective
        uptime = "unknown" if found.uptime is None else f"{found.uptime:.4%}"
        said = f"uptime of {one.name} is {uptime}, promised are {one.target:.4%} ({found.words})"
        bad = None if found.met is None else not found.met
        subject = f"objective:{one.name}"
        yield Signal("uptime_under_target", subject, bad, chosen.severity, said, check=_check_of(one))


def _check_of(one: Objective) -> str | None:
    """The subject of its check, where it is about a single one."""
    return model.check(one.checks[0]) if len(one.checks) == 1 else None


SOURCES: dict[RuleName, Source] = {
    "incident": _incident,
    "monitor_silent": _monitor_silent,
    "breaker_open": _breaker_open,
    "drain_timed_out": _drain_timed_out,
    "checks_failing": _checks_failing,
    "request_failures": _request_failures,
    "oldest_letter": _oldest_letter,
    "ledger_off": _ledger_off,
    "recovery_locked": _recovery_locked,
    "disk_full_soon": _disk_full_soon,
    "burn_rate": _burn_rate,
    "uptime_under_target": _uptime_under_target,
}
"""What each rule looks at."""
