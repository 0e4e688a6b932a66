"""What is seen of the declared services: their breakers in Redis, their checks as health tells them.

A breaker that is not closed, or a check that is confirmed unhealthy, means down. Where Redis is away its
breakers are unknown, and unknown is neither down nor well: nothing begins, and nothing is over. What a person
holds, or a maintenance window covers, is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import structlog

from regrow.breakers import BreakerStatus, mending
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health import maintenance
from regrow.health import service as health
from regrow.health.rules import CheckView, Declared, declare
from regrow.health.windows import Window, covering
from regrow.recovery.declared import Service
from regrow.recovery.model import Condition, Course, Seen

logger = structlog.get_logger(__name__)

Breakers = Mapping[str, BreakerStatus | None]

_WITHOUT_A_CHECK = Declared("", "service", 0.0, 0.0)
"""What a window for everything holds for, and no other one."""


def look(engine: Engine, declared: Mapping[str, Service], courses: Mapping[str, Course]) -> dict[str, Seen]:
    """Every declared service as it stands. ``courses`` tell of which ones it matters who closed a breaker."""
    breakers = look_at_breakers(engine, declared)
    checks: dict[str, CheckView] = {}
    if any(service.check for service in declared.values()):
        checks = {check.name: check for check in health.overview(engine).checks}
    now = engine.clock()
    windows = maintenance.around(engine, now) if declared else []
    found = {}
    for name, service in declared.items():
        course = courses.get(name, Course())
        breaker = _of_breaker(service, breakers, course, now)
        seen = _together(breaker, _of_check(service, checks, now), now)
        if _is_in_maintenance(engine, service, windows, now):
            seen = Seen(Condition.HELD, now)
        if course.opening is not None and seen.is_over(course.trigger):
            seen = _with_closer(engine, service, seen)
        found[name] = seen
    return found


def _is_in_maintenance(engine: Engine, service: Service, windows: list[Window], now: datetime) -> bool:
    """Whether a window holds for everything, or for the service's check or test, also one that never runs."""
    known, interval = engine.settings.health.checks, engine.settings.health.interval
    named = {name for name in (service.check, service.test) if name is not None}
    checks = [declare(name, known[name], interval) for name in sorted(named)]
    return any(covering(windows, check, now) for check in checks or [_WITHOUT_A_CHECK])


def look_at_breakers(engine: Engine, declared: Mapping[str, Service]) -> Breakers:
    """The breakers of the services, as far as they can be read."""
    names = {service.breaker for service in declared.values() if service.breaker}
    try:
        return mending.look_at(engine.redis, sorted(names))
    except StoreUnavailableError as error:
        logger.warning("recovery.breakers_unknown", error=str(error))
        return {}


def is_open(status: BreakerStatus | None) -> bool:
    """Whether a breaker refuses calls of its own accord, or is about to find out whether it still must."""
    return status is not None and status.override is None and status.state != "closed"


def _of_breaker(service: Service, breakers: Breakers, course: Course, now: datetime) -> Seen | None:
    if service.breaker is None:
        return None
    if service.breaker not in breakers:
        return Seen(Condition.UNKNOWN, now)
    status = breakers[service.breaker]
    if status is not None and status.override is not None:
        return Seen(Condition.HELD, now)
    if status is None and course.opening is not None and course.trigger == "breaker":
        # It was open, and Redis has lost it: that is no news of the service. A check has the word alone.
        return None if service.check else Seen(Condition.UNKNOWN, now)
    if status is None or not is_open(status):
        return Seen(Condition.WELL, now)  # one that nobody uses refuses nobody
    return Seen(
        Condition.DOWN,
        now,
        opening=f"breaker:{status.name}:{status.epoch}",
        since=status.since,
        trigger="breaker",
        reason=f"circuit breaker {status.name} is {status.state.replace('_', '-')}",
    )


def _of_check(service: Service, checks: Mapping[str, CheckView], now: datetime) -> Seen | None:
    if service.check is None:
        return None
    check = checks.get(service.check)
    if check is None or check.confirmed == "unknown" or check.at is None:
        return Seen(Condition.UNKNOWN, now)
    if check.maintenance is not None:
        return Seen(Condition.HELD, now)
    if check.confirmed != "unhealthy":
        return Seen(Condition.WELL, now)
    if check.status != "unhealthy":
        return Seen(Condition.UNKNOWN, now)  # it may be coming back: let its next results say so
    since = check.since or check.at
    return Seen(
        Condition.DOWN,
        check.at,
        opening=f"check:{check.name}:{since.isoformat(timespec='seconds')}",
        since=since,
        trigger="check",
        reason=f"check {check.name} is unhealthy: {check.message}",
    )


def _together(breaker: Seen | None, check: Seen | None, now: datetime) -> Seen:
    """Down when either says so, the breaker first; well when nothing known speaks against it."""
    told = {name: seen for name, seen in (("breaker", breaker), ("check", check)) if seen is not None}
    for condition in (Condition.HELD, Condition.DOWN):
        if found := next((seen for seen in told.values() if seen.condition is condition), None):
            return found
    well = tuple(name for name, seen in told.items() if seen.condition is Condition.WELL)
    return Seen(Condition.WELL if len(well) == len(told) else Condition.UNKNOWN, now, well=well)


def _with_closer(engine: Engine, service: Service, seen: Seen) -> Seen:
    if service.breaker is None:
        return seen
    try:
        who = mending.closed_by(engine.redis, service.breaker)
    except StoreUnavailableError:
        return seen
    return replace(seen, closed_by=who)
