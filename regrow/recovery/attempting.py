"""One attempt: begin under a lease and the fleet's budget, do what the handler says, test, write it down.

Policy for outages. Without the database nothing begins, because nobody could say that it runs once. When it
goes away in the middle, the attempt runs to its end; if its outcome cannot be written, the log has it and the
row will say *lost*. Without Redis a service that is well again has its breaker left to its own probes.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

import structlog

from regrow import counters
from regrow.breakers import mending
from regrow.engine import Engine
from regrow.errors import ServiceNotFoundError, StoreUnavailableError
from regrow.ids import uuid7
from regrow.recovery import handlers, rules
from regrow.recovery.budget import Limits
from regrow.recovery.declared import Service, services
from regrow.recovery.model import ACTOR, Acted, Action, Course, Outcome, Recovery, Step
from regrow.recovery.observing import look
from regrow.recovery.probing import run_check
from regrow.recovery.store import Attempt, Recoveries

logger = structlog.get_logger(__name__)

_BETWEEN_TESTS = 1.0
"""Seconds between two tests while a service settles."""


def attempt(engine: Engine, name: str) -> dict[str, Any]:
    """Make the attempt that is due for a service, if it still is.

    Keys: ``service``, ``outcome`` (None: nothing was begun, and ``message`` says why), ``attempt``.
    ServiceNotFoundError for one that declares no handler, StoreUnavailableError without the database.
    """
    service = services(engine.settings).get(name)
    if service is None:
        raise ServiceNotFoundError(f"no recovery handler is declared for {name!r}")
    store = Recoveries(engine.database)
    # The task waited in a queue: a hold, a maintenance window or a reset may have come since it was sent.
    seen = look(engine, {name: service}, store.courses())[name].condition
    now = engine.clock()
    wanted = Attempt(
        id=uuid7(now),
        service=name,
        opening=None,
        attempt=0,
        kind=service.handler.kind,
        trigger="",
        actor=None,
        reason="",
        owner=f"{socket.gethostname()}:{os.getpid()}",
        failed_at=None,
        started_at=now,
    )

    def begin(course: Course) -> Step:
        decision = rules.decide(course, service.envelope, now, seen=seen)
        if decision.action is not Action.ATTEMPT:
            return Step(course, accepted=False)
        return rules.begin(course, wanted.id, wanted.owner, now, service.longest)

    begun = store.begin(wanted, begin, limits(engine), now)
    if begun.attempt is None:
        return {"service": name, "outcome": None, "message": begun.why}
    made = begun.attempt
    logger.info("recovery.started", **_told(made), target=handlers.target(service.handler))
    outcome, acted = Outcome.LOST, Acted(ok=False, message="its worker went down")
    try:
        outcome, acted = _carry_out(engine, service, made)
    finally:
        _end(engine, store, service, made, outcome, acted)
    return {
        "service": name,
        "outcome": outcome.value,
        "message": acted.message,
        "attempt": made.attempt,
    }


def limits(engine: Engine) -> Limits:
    recovery = engine.settings.recovery
    return Limits(recovery.concurrency, recovery.per_minute)


def _carry_out(engine: Engine, service: Service, made: Attempt) -> tuple[Outcome, Acted]:
    handler = service.handler
    if handler.dry_run:
        return Outcome.DRY_RUN, Acted(ok=True, message=f"would {handlers.target(handler)}")
    if handler.precondition is not None:
        found = run_check(engine, handler.precondition)
        if not found.ok:
            return Outcome.SKIPPED, Acted(False, f"precondition not met: {found.message}", found.evidence)
    acted = _unless_well_again(engine, service, made) or _act(engine, service, made)
    if acted.ok and service.breaker is not None:
        acted = _with_breaker_closed(engine, service.breaker, acted)
    return (Outcome.SUCCEEDED if acted.ok else Outcome.FAILED), acted


def _unless_well_again(engine: Engine, service: Service, made: Attempt) -> Acted | None:
    """What is well needs no restart. A person who wants the handler run is taken at his word."""
    if service.test is None or made.trigger == "hand" or made.kind == "breaker":
        return None
    found = run_check(engine, service.test)
    if not found.ok:
        return None
    return Acted(True, f"nothing had to be done: {found.message}", found.evidence)


def _act(engine: Engine, service: Service, made: Attempt) -> Acted:
    recovery = Recovery(made.id, made.service, made.attempt, made.trigger, made.reason, made.failed_at)
    try:
        acted = handlers.act(service.handler, recovery, engine)
    except Exception as error:  # a defect of a handler is a failed attempt, not the end of recovery
        logger.exception("recovery.defect", service=service.name)
        return Acted(ok=False, message=f"the handler broke: {type(error).__name__}")
    if not acted.ok or service.test is None:
        return acted
    tested = _settled(lambda: run_check(engine, service.test or ""), service.handler.settle)
    evidence = {**acted.evidence, "test": dict(tested.evidence)}
    return Acted(tested.ok, f"{acted.message}; {tested.message}", evidence)


def _settled(test: Callable[[], Acted], settle: float) -> Acted:
    """Test until it passes or ``settle`` seconds are over; at least once."""
    until = time.monotonic() + settle
    while not (found := test()).ok and time.monotonic() + _BETWEEN_TESTS < until:
        time.sleep(_BETWEEN_TESTS)
    return found


def _with_breaker_closed(engine: Engine, breaker: str, acted: Acted) -> Acted:
    try:
        closed = mending.close(engine.redis, breaker, actor=ACTOR, reason=f"recovered: {acted.message}")
    except StoreUnavailableError as error:
        said = f"{acted.message}; its breaker is left to its own probes: {error}"
        return Acted(True, said, acted.evidence)
    if closed:
        return acted
    return Acted(False, f"{acted.message}; but its breaker does not stay closed, or is held", acted.evidence)


def _end(
    engine: Engine,
    store: Recoveries,
    service: Service,
    made: Attempt,
    outcome: Outcome,
    acted: Acted,
) -> None:
    now = engine.clock()

    def finish(course: Course) -> Step:
        return rules.finish(course, made.id, outcome, service.envelope, now)

    facts = {**_told(made), "outcome": outcome.value, "message": acted.message}
    try:
        step = store.finish(made, outcome, acted, finish, service.handler.severity, now)
    except StoreUnavailableError as error:
        logger.error("recovery.unrecorded", **facts, error=str(error))  # noqa: TRY400 - an outage, not a defect
        return
    if not step.accepted:
        logger.warning("recovery.too_late", **facts)
        return
    log = logger.info if outcome in {Outcome.SUCCEEDED, Outcome.DRY_RUN} else logger.warning
    log(f"recovery.{outcome.value}", **facts, seconds=round((now - made.started_at).total_seconds(), 3))
    counters.add(engine, "regrow_recoveries_total", {"service": made.service, "outcome": outcome.value})
    log_lock(service, step)


def log_lock(service: Service, step: Step) -> None:
    """A person is called: in the log here, for alerts by the row that was written with it."""
    for told in step.told:
        if told.event == "locked":
            severity = service.handler.severity
            facts = {"service": service.name, "severity": severity, "message": told.message}
            logger.error("recovery.locked", **facts, attempts=step.course.attempts)


def _told(made: Attempt) -> dict[str, Any]:
    return {
        "service": made.service,
        "attempt": made.attempt,
        "recovery": made.id,
        "trigger": made.trigger,
        "reason": made.reason,
    }
