"""Recovery as tasks, pages and the command line ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from regrow.database.retention import delete_older
from regrow.database.tables import recoveries, recovery_events
from regrow.engine import Engine
from regrow.errors import RecoveryRefusedError, ServiceNotFoundError
from regrow.recovery import handlers, rules
from regrow.recovery.attempting import attempt
from regrow.recovery.declared import Service, services
from regrow.recovery.early_warning import watch_trends
from regrow.recovery.model import Action, Course, Decision, Step, Told
from regrow.recovery.observing import look
from regrow.recovery.probing import probe_open_services
from regrow.recovery.starting import QUEUE, TASK, decision, start_recoveries
from regrow.recovery.store import Attempt, Audit, Event, Recoveries

logger = structlog.get_logger(__name__)

__all__ = [
    "STATES",
    "Attempt",
    "Event",
    "ServiceStatus",
    "attempt",
    "events",
    "history",
    "probe_open_services",
    "prune",
    "start_recoveries",
    "status",
    "trigger",
    "unlock",
    "watch_trends",
]


@dataclass(frozen=True)
class ServiceStatus:
    """One service that declares a handler, at one moment.

    ``state``: well, down, recovering (an attempt is under way), waiting (for a pause or a parent), locked (a
    person is wanted), held (a person holds its breaker), unknown. ``why``: in words; ``until``: how long it
    waits. ``action``: what the handler would do. ``attempts`` of ``max_attempts`` were begun.
    """

    name: str
    state: str
    why: str
    until: datetime | None
    kind: str
    action: str
    breaker: str | None
    check: str | None
    depends_on: tuple[str, ...]
    attempts: int
    max_attempts: int
    down_since: datetime | None
    locked_at: datetime | None
    recovered_at: datetime | None
    dry_run: bool
    severity: str
    last: Attempt | None

    def as_dict(self) -> dict[str, Any]:
        """JSON values, but for times."""
        return asdict(self)


def status(engine: Engine) -> list[ServiceStatus]:
    """Every declared service. StoreUnavailableError when the database is away."""
    declared = services(engine.settings)
    if not declared:
        return []
    store, now = Recoveries(engine.database), engine.clock()
    courses = {name: course for name, course in store.courses().items() if name in declared}
    newest = store.newest(declared)
    seen = look(engine, declared, courses)
    parents = {name: service.parents for name, service in declared.items()}
    return [
        _status(
            service,
            courses.get(name, Course()),
            seen[name].condition.value,
            decision(service, courses, parents, seen[name], now),
            newest.get(name),
        )
        for name, service in declared.items()
    ]


def trigger(engine: Engine, name: str, *, actor: str, reason: str) -> bool:
    """Have a service's handler run now, whatever pause, lock or budget there is; whether it was sent at once.

    When the broker is away the next scheduled look begins it. ServiceNotFoundError; RecoveryRefusedError
    while an attempt is under way; StoreUnavailableError without the database.
    """
    service, now = _service(engine, name), engine.clock()

    def rule(course: Course) -> Step:
        course = rules.expire(course, service.envelope, now).course
        if course.lease is not None:
            said = f"an attempt is under way at {course.lease.owner} until {course.lease.until:%H:%M:%S} UTC"
            raise RecoveryRefusedError(f"{name}: {said}; wait for its end")
        return Step(rules.order(course, actor, reason, now))

    written = Audit(actor, "recovery.trigger", reason)
    Recoveries(engine.database).advance(name, rule, service.handler.severity, now, written=written)
    try:
        engine.sender.send(TASK, {"service": name}, queue=QUEUE)
    except (
        Exception
    ) as error:  # whatever a broker's driver raises: the order stands, and the next look sees it
        logger.warning("recovery.not_sent", service=name, error=f"{type(error).__name__}: {error}")
        return False
    return True


def unlock(engine: Engine, name: str, *, actor: str, reason: str) -> bool:
    """Lift a service's lock and pause, so that attempts begin anew; whether there was anything to lift."""
    service, now = _service(engine, name), engine.clock()

    def rule(course: Course) -> Step:
        step = rules.unlock(course, now)
        told = (Told("unlocked", f"by {actor}: {reason}"),) if step.accepted else ()
        return Step(step.course, told, step.accepted)

    written = Audit(actor, "recovery.unlock", reason)
    return (
        Recoveries(engine.database)
        .advance(name, rule, service.handler.severity, now, written=written)
        .accepted
    )


def history(engine: Engine, name: str | None = None, limit: int = 50) -> list[Attempt]:
    """The newest attempts first, of one service or of all."""
    return Recoveries(engine.database).history(name, limit)


def events(engine: Engine, since: datetime, limit: int = 200) -> list[Event]:
    """What was told since: locked, unlocked, recovered, storm, early_warning; the newest first."""
    return Recoveries(engine.database).events(since, limit=limit)


def prune(engine: Engine) -> dict[str, int]:
    """Delete what is older than ``recovery.retention_days``; how many rows of each table went."""
    before = engine.clock() - timedelta(days=engine.settings.recovery.retention_days)
    database = engine.database
    return {
        "recoveries": delete_older(database, recoveries, recoveries.c.started_at, before),
        "recovery_events": delete_older(database, recovery_events, recovery_events.c.at, before),
    }


STATES = ("well", "down", "recovering", "waiting", "locked", "held", "unknown")
"""Every state that a service may be in, in words that stay."""

_STATES: Mapping[Action, str] = {
    Action.ATTEMPT: "down",
    Action.WAIT: "waiting",
    Action.REST: "well",
    Action.LOCKED: "locked",
}


def _status(
    service: Service, course: Course, condition: str, decided: Decision, last: Attempt | None
) -> ServiceStatus:
    state = _STATES[decided.action]
    if course.lease is not None:
        state = "recovering"
    elif condition == "held" or (state == "well" and condition != "well"):
        state = condition
    return ServiceStatus(
        name=service.name,
        state=state,
        why=decided.why,
        until=decided.until,
        kind=service.handler.kind,
        action=handlers.target(service.handler),
        breaker=service.breaker,
        check=service.check,
        depends_on=service.parents,
        attempts=course.attempts,
        max_attempts=service.envelope.max_attempts,
        down_since=course.opened_at,
        locked_at=course.locked_at,
        recovered_at=course.recovered_at,
        dry_run=service.handler.dry_run,
        severity=service.handler.severity,
        last=last,
    )


def _service(engine: Engine, name: str) -> Service:
    declared = services(engine.settings)
    if name not in declared:
        known = ", ".join(sorted(declared)) or "none are declared under [recovery.services]"
        raise ServiceNotFoundError(f"no recovery handler is declared for {name!r}; there are: {known}")
    return declared[name]
