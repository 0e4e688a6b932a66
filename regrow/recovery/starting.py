"""The scheduled look at all declared services: what is down is opened, what is due is begun.

Who is due is sent as a task of its own, so that a handler that takes its time holds up no other. Parents come
before children; no more are sent than the fleet's budget has room for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from regrow import counters
from regrow.engine import Engine
from regrow.recovery import budget, rules
from regrow.recovery.attempting import limits, log_lock
from regrow.recovery.declared import Service, services
from regrow.recovery.graph import blocked_by
from regrow.recovery.model import Action, Course, Decision, Seen, Step
from regrow.recovery.observing import look
from regrow.recovery.store import Recoveries

logger = structlog.get_logger(__name__)

TASK, QUEUE = "regrow.recovery.recover_service", "regrow.control"


def start_recoveries(engine: Engine) -> dict[str, Any]:
    """Look at every declared service and begin what is due.

    Keys: ``services``, ``down``, ``locked``, ``due``, ``begun`` (names that were sent), ``changed`` (names
    whose course went on), ``lost`` (names whose worker died). StoreUnavailableError without the database.
    """
    declared = services(engine.settings)
    if not declared:
        return {"services": 0, "down": 0, "locked": [], "due": 0, "begun": [], "changed": [], "lost": []}
    store = Recoveries(engine.database)
    courses = {name: Course() for name in declared} | store.courses()
    seen = look(engine, declared, courses)
    changed, lost = [], []
    for name, service in declared.items():
        before = courses[name]
        courses[name] = _advanced(engine, store, service, seen[name], before)
        if courses[name] != before:
            changed.append(name)
        if before.lease is not None and courses[name].lease is None:
            lost.append(name)
    now = engine.clock()
    due = _due(declared, courses, seen, now)
    begun = _send(engine, store, due, courses, now) if due else []
    down = [name for name in declared if courses[name].opening is not None]
    return {
        "services": len(declared),
        "down": len(down),
        "locked": sorted(name for name in down if courses[name].locked_at is not None),
        "due": len(due),
        "begun": begun,
        "changed": changed,
        "lost": lost,
    }


def decision(
    service: Service,
    courses: Mapping[str, Course],
    parents: Mapping[str, tuple[str, ...]],
    seen: Seen,
    now: datetime,
) -> Decision:
    """What is to be done about one service now, as the others stand."""
    down = {name for name, course in courses.items() if course.opening is not None}
    parent = blocked_by(service.name, parents, down)
    course = courses.get(service.name, Course())
    return rules.decide(course, service.envelope, now, seen=seen.condition, blocked_by=parent)


def _advanced(engine: Engine, store: Recoveries, service: Service, seen: Seen, course: Course) -> Course:
    """The course after what was seen; written only when something changes."""

    def rule(course: Course) -> Step:
        expired = rules.expire(course, service.envelope, engine.clock())
        observed = rules.observe(expired.course, seen, service.envelope)
        return Step(observed.course, (*expired.told, *observed.told))

    if rule(course).course == course:
        return course
    step = store.advance(service.name, rule, service.handler.severity, engine.clock())
    if course.lease is not None and step.course.lease is None:
        logger.warning("recovery.lost", service=service.name, recovery=course.lease.token)
        counters.add(engine, "regrow_recoveries_total", {"service": service.name, "outcome": "lost"})
    if course.opening is None and step.course.opening is not None:
        logger.warning("recovery.down", service=service.name, reason=step.course.reason)
    for told in step.told:
        if told.event == "recovered":
            logger.info("recovery.back", service=service.name, **told.data)
    log_lock(service, step)
    return step.course


def _due(
    declared: Mapping[str, Service],
    courses: Mapping[str, Course],
    seen: Mapping[str, Seen],
    now: datetime,
) -> list[str]:
    """Who may be tried now: what a person ordered first, then what has been down longest."""
    parents = {name: service.parents for name, service in declared.items()}
    due = [
        name
        for name, service in declared.items()
        if decision(service, courses, parents, seen[name], now).action is Action.ATTEMPT
    ]
    return sorted(due, key=lambda name: (courses[name].ordered is None, courses[name].opened_at or now, name))


def _send(
    engine: Engine, store: Recoveries, due: list[str], courses: Mapping[str, Course], now: datetime
) -> list[str]:
    load = store.load(now)
    ordered = [name for name in due if courses[name].ordered is not None]
    others = [name for name in due if courses[name].ordered is None]
    room = budget.left(limits(engine), running=load.running, begun=load.begun)
    chosen = [*ordered, *others[:room]]
    if len(others) > room:
        said = f"{len(others)} services wait to be recovered, and the fleet's budget has room for {room}"
        if store.exhausted(now, said):
            logger.warning("recovery.storm", waiting=len(others), room=room)
    for name in chosen:
        engine.sender.send(TASK, {"service": name}, queue=QUEUE)
    return chosen
