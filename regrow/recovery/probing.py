"""Tests of services: whether one is back. They go past its breaker, which does not count them.

While a breaker is not closed its service is tested every ``recovery.probe_interval``; a test that passes
resets the breaker, whatever pause or lock the handler is under. This needs Redis alone: while the
database is away services come back all the same, and only the rows of that are missing.

A reset that did not hold makes the next tests rarer (by ``backoff``, up to ``interval``): what passes the
test and fails its callers must not be closed and opened every few seconds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import redis
import structlog

from regrow import counters
from regrow.breakers import mending
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health.checks import probe_of
from regrow.health.rules import Declared, Finding, finding
from regrow.health.sweep import Sweeper, Task
from regrow.ids import uuid7
from regrow.recovery import rules
from regrow.recovery.declared import Service, services
from regrow.recovery.handlers import database
from regrow.recovery.model import ACTOR, Acted, Course, Outcome, Step
from regrow.recovery.observing import is_open, look_at_breakers
from regrow.recovery.store import Attempt, Recoveries
from regrow.settings.recovery import DatabaseHandler

logger = structlog.get_logger(__name__)

LONGEST = 3.0
"""Seconds for one test of an open service: the next tick is not to be missed."""
_EARLY = 0.8
"""A test may come so much earlier than its interval, or late ticks would skip every other one."""
_WELL = ("healthy", "degraded")

_sweepers: WeakKeyDictionary[Engine, Sweeper] = WeakKeyDictionary()


def probe_open_services(engine: Engine) -> dict[str, Any]:
    """Test every service whose breaker is not closed and whose turn it is; reset what passes.

    Keys: ``open`` (services), ``tested``, ``recovered`` (names), ``hanging`` (tests that never came back).
    """
    declared = {
        name: service
        for name, service in services(engine.settings).items()
        if service.breaker and _can_be_tested(service) and not service.handler.dry_run
    }
    if not declared:
        return {"open": 0, "tested": 0, "recovered": [], "hanging": 0}
    breakers = look_at_breakers(engine, declared)
    waiting = {name: s for name, s in declared.items() if is_open(breakers.get(s.breaker or ""))}
    chosen = [service for service in waiting.values() if _claim(engine, service)]
    sweeper = _sweepers.setdefault(engine, Sweeper(engine.settings.health.concurrency))
    tasks = [_task(engine, service) for service in chosen]
    recovered = []
    for batch in sweeper.sweep(tasks, engine.clock, LONGEST):
        for result in batch:
            service = declared[result.check]
            logger.info("recovery.tested", service=service.name, status=result.status, message=result.message)
            status = breakers[service.breaker or ""]
            since = status.since if status else None
            if result.status in _WELL and _recovered(engine, service, result.message, result.at, since):
                recovered.append(service.name)
    return {
        "open": len(waiting),
        "tested": len(chosen),
        "recovered": recovered,
        "hanging": sweeper.hanging,
    }


def run_check(engine: Engine, name: str) -> Acted:
    """Probe a declared check here and now, in a thread that is left behind when its time is over."""
    check = engine.settings.health.checks[name]
    declared = Declared(name, check.kind, 1.0, check.timeout)
    task = Task(declared, probe_of(check, engine.settings))
    (result,) = next(iter(Sweeper(1).sweep([task], engine.clock, check.timeout)))
    return Acted(
        result.status in _WELL, f"{name} is {result.status}: {result.message}", {"status": result.status}
    )


def _can_be_tested(service: Service) -> bool:
    return service.test is not None or isinstance(service.handler, DatabaseHandler)


def _claim(engine: Engine, service: Service) -> bool:
    """Whether this service's turn has come, and nobody else tests it now."""
    recovery = engine.settings.recovery
    try:
        relapses = int(engine.redis.get(_key("relapses", service)) or 0)
        pause = recovery.probe_interval * service.envelope.backoff**relapses
        pause = _EARLY * min(pause, max(service.envelope.interval, recovery.probe_interval))
        owner = f"{socket.gethostname()}:{os.getpid()}"
        return bool(engine.redis.set(_key("test", service), owner, nx=True, px=max(1, int(pause * 1000))))
    except (redis.RedisError, OverflowError):
        return False


def _task(engine: Engine, service: Service) -> Task:
    probe: Callable[[], Finding]
    if service.test is not None:
        declared = engine.settings.health.checks[service.test]
        check = declared.model_copy(update={"timeout": min(declared.timeout, LONGEST)})
        probe = probe_of(check, engine.settings)
    else:
        assert isinstance(service.handler, DatabaseHandler)  # noqa: S101 - nothing else is tested without a check
        probe = partial(_ask_database, service.handler, engine)
    return Task(Declared(service.name, "test", 1.0, LONGEST), probe)


def _ask_database(handler: DatabaseHandler, engine: Engine) -> Finding:
    acted = database.probe(handler, engine, LONGEST)
    return finding("healthy" if acted.ok else "unhealthy", acted.message)


def _recovered(
    engine: Engine, service: Service, message: str, began: datetime, since: datetime | None
) -> bool:
    """Reset the breaker of a service whose test passed; whether that was done."""
    breaker = service.breaker or ""
    try:
        if not mending.close(engine.redis, breaker, actor=ACTOR, reason=f"test passed: {message}"):
            return False
        engine.redis.incr(_key("relapses", service))
        engine.redis.pexpire(_key("relapses", service), int(service.envelope.interval * 1000))
    except (StoreUnavailableError, redis.RedisError) as error:
        logger.warning("recovery.not_reset", service=service.name, error=str(error))
        return False
    told = {"service": service.name, "attempt": 0, "trigger": "test", "message": message}
    logger.info("recovery.succeeded", **told)
    counters.add(engine, "regrow_recoveries_total", {"service": service.name, "outcome": "succeeded"})
    try:
        _write_down(engine, service, message, began, since)
    except StoreUnavailableError as error:
        logger.warning("recovery.unrecorded", **told, outcome="succeeded", error=str(error))
    return True


def _write_down(
    engine: Engine, service: Service, message: str, began: datetime, since: datetime | None
) -> None:
    store, now = Recoveries(engine.database), engine.clock()
    course = store.courses().get(service.name, Course())

    def over(course: Course) -> Step:
        return rules.recovered(course, now, "a test")

    store.advance(service.name, over, service.handler.severity, now)
    store.note(
        Attempt(
            id=uuid7(now),
            service=service.name,
            opening=course.opening,
            attempt=0,
            kind="test",
            trigger="test",
            actor=None,
            reason=course.reason or f"circuit breaker {service.breaker} was not closed",
            owner=f"{socket.gethostname()}:{os.getpid()}",
            failed_at=course.opened_at or since,
            started_at=began,
            ended_at=now,
            outcome=Outcome.SUCCEEDED.value,
            message=message,
            evidence={},
        )
    )


def _key(what: str, service: Service) -> str:
    return f"regrow:{{recovery}}:{what}:{service.name}"
