"""Where the course of each service is kept: the database. Each method is one transaction.

Rules come in as functions and are applied to the locked row, so that two workers who saw the same thing act
on it once. Who begins an attempt holds the row of the fleet's budget as well, always before the service's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from regrow import audit
from regrow.database import Database
from regrow.database.tables import recoveries, recovery_budget, recovery_courses, recovery_events
from regrow.errors import StoreUnavailableError
from regrow.recovery.budget import MINUTE, Limits, refusal
from regrow.recovery.model import Acted, Course, Lease, Order, Outcome, Step, Told

T = TypeVar("T")
Rule = Callable[[Course], Step]

_BUDGET = 1
_QUIET = frozenset({"recovered", "unlocked"})
TEXT = 2000
"""Characters of a message that are kept."""


@dataclass(frozen=True)
class Attempt:
    """One row of ``recoveries``. ``outcome`` is None while it is under way; times are UTC."""

    id: str
    service: str
    opening: str | None
    attempt: int
    kind: str
    trigger: str
    actor: str | None
    reason: str
    owner: str
    failed_at: datetime | None
    started_at: datetime
    ended_at: datetime | None = None
    outcome: str | None = None
    message: str = ""
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Event:
    """One row of ``recovery_events``."""

    at: datetime
    subject: str
    event: str
    severity: str
    message: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Begun:
    """What became of a wish to begin: the attempt, or why not."""

    attempt: Attempt | None
    why: str = ""


@dataclass(frozen=True)
class Load:
    """What the fleet does now: handlers under way, and begun within the last minute."""

    running: int
    begun: int


class Recoveries:
    """The tables of recovery. Any method raises StoreUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def courses(self) -> dict[str, Course]:
        """The course of every service that has one."""
        with _errors(), self._database.snapshot() as connection:
            return {row["service"]: _course(row) for row in _rows(connection, sa.select(recovery_courses))}

    def advance(
        self, service: str, rule: Rule, severity: str, now: datetime, *, written: Audit | None = None
    ) -> Step:
        """Apply a rule to a service's course, and write down what it tells, together or not at all.

        An attempt whose lease the rule ended is closed as lost.
        """

        def work(connection: sa.Connection) -> Step:
            before = self._locked(connection, service)
            step = rule(before)
            if step.course != before:
                self._keep(connection, service, step.course)
            if before.lease is not None and step.course.lease is None:
                _close(connection, before.lease.token, Outcome.LOST, _LOST, now)
            self._tell(connection, now, service, severity, step.told)
            if written is not None and step.accepted:
                written.write(connection, now, service)
            return step

        return self._run(work)

    def begin(self, attempt: Attempt, rule: Rule, limits: Limits, now: datetime) -> Begun:
        """Begin an attempt where the rule and the fleet's budget allow it; a person's order needs no budget.

        Number, opening and reason of the attempt are those of the course.
        """

        def work(connection: sa.Connection) -> Begun:
            self._budget(connection)
            course = self._locked(connection, attempt.service)
            step = rule(course)
            lease = step.course.lease
            if not step.accepted or lease is None:
                return Begun(None, "nothing is to be done any more")
            if not lease.by_hand and (why := self._refusal(connection, limits, now)) is not None:
                return Begun(None, why)
            number = 0 if lease.by_hand else step.course.attempts
            by = course.ordered if lease.by_hand else None
            begun = Attempt(
                **{
                    **asdict(attempt),
                    "attempt": number,
                    "opening": course.opening,
                    "trigger": "hand" if by else course.trigger,
                    "actor": by.actor if by else None,
                    "reason": by.reason if by else course.reason,
                    "failed_at": course.opened_at,
                }
            )
            self._keep(connection, attempt.service, step.course)
            connection.execute(sa.insert(recoveries).values(_row(begun)))
            return Begun(begun)

        return self._run(work)

    def finish(
        self, attempt: Attempt, outcome: Outcome, acted: Acted, rule: Rule, severity: str, now: datetime
    ) -> Step:
        """Close an attempt. Not accepted when its lease is over; its row then stays lost, as it was told."""

        def work(connection: sa.Connection) -> Step:
            before = self._locked(connection, attempt.service)
            step = rule(before)
            if not step.accepted:
                return step
            self._keep(connection, attempt.service, step.course)
            _close(connection, attempt.id, outcome, acted, now)
            self._tell(connection, now, attempt.service, severity, step.told)
            return step

        return self._run(work)

    def note(self, attempt: Attempt) -> None:
        """Write down an attempt that needed no lease: a test that passed."""
        self._run(lambda connection: connection.execute(sa.insert(recoveries).values(_row(attempt))))

    def tell(self, events: Sequence[Event]) -> None:
        """Write events down."""
        rows = [{**asdict(event), "data": dict(event.data)} for event in events]
        if rows:
            self._run(lambda connection: connection.execute(sa.insert(recovery_events), rows))

    def exhausted(self, now: datetime, message: str) -> bool:
        """More is due than the budget allows: tell it once a storm. Ten minutes without one end it."""

        def work(connection: sa.Connection) -> bool:
            before = self._budget(connection)
            connection.execute(sa.update(recovery_budget).values(exhausted_at=now))
            news = before is None or now - before > 10 * MINUTE
            if news:
                self._tell(connection, now, "fleet", "high", [Told("storm", message)])
            return news

        return self._run(work)

    def load(self, now: datetime) -> Load:
        with _errors(), self._database.snapshot() as connection:
            return _load(connection, now)

    def history(self, service: str | None = None, limit: int = 50) -> list[Attempt]:
        """The newest attempts first, of one service or of all."""
        query = sa.select(recoveries).order_by(recoveries.c.started_at.desc(), recoveries.c.id.desc())
        if service is not None:
            query = query.where(recoveries.c.service == service)
        with _errors(), self._database.snapshot() as connection:
            return [Attempt(**row) for row in _rows(connection, query.limit(limit))]

    def newest(self, services: Iterable[str]) -> dict[str, Attempt]:
        """The newest attempt of each service that has one."""
        newest = (
            sa.select(recoveries.c.service, sa.func.max(recoveries.c.id).label("id"))
            .where(recoveries.c.service.in_(sorted(services)))
            .group_by(recoveries.c.service)
            .subquery()
        )
        query = sa.select(recoveries).join(newest, recoveries.c.id == newest.c.id)
        with _errors(), self._database.snapshot() as connection:
            return {row["service"]: Attempt(**row) for row in _rows(connection, query)}

    def events(self, since: datetime, event: str | None = None, limit: int = 200) -> list[Event]:
        """The newest events first."""
        query = sa.select(recovery_events).where(recovery_events.c.at >= since)
        if event is not None:
            query = query.where(recovery_events.c.event == event)
        ordered = query.order_by(recovery_events.c.at.desc(), recovery_events.c.id.desc()).limit(limit)
        with _errors(), self._database.snapshot() as connection:
            return [
                Event(**{name: row[name] for name in Event.__dataclass_fields__})
                for row in _rows(connection, ordered)
            ]

    def _run(self, work: Callable[[sa.Connection], T]) -> T:
        with _errors():
            return self._database.run(work)

    def _locked(self, connection: sa.Connection, service: str) -> Course:
        self._insert(connection, recovery_courses, {"service": service, **_columns(Course())})
        query = sa.select(recovery_courses).where(recovery_courses.c.service == service).with_for_update()
        return _course(_rows(connection, query)[0])

    def _budget(self, connection: sa.Connection) -> datetime | None:
        """Hold the fleet's budget until the end of the transaction; when it was exhausted last."""
        self._insert(connection, recovery_budget, {"id": _BUDGET})
        query = sa.select(recovery_budget.c.exhausted_at).where(recovery_budget.c.id == _BUDGET)
        exhausted_at: datetime | None = connection.execute(query.with_for_update()).scalar_one()
        return exhausted_at

    def _insert(self, connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
        prefix = "OR IGNORE" if self._database.is_sqlite else "IGNORE"
        connection.execute(sa.insert(table).prefix_with(prefix).values(**values))

    @staticmethod
    def _refusal(connection: sa.Connection, limits: Limits, now: datetime) -> str | None:
        load = _load(connection, now)
        return refusal(limits, running=load.running, begun=load.begun)

    @staticmethod
    def _keep(connection: sa.Connection, service: str, course: Course) -> None:
        changed = sa.update(recovery_courses).where(recovery_courses.c.service == service)
        connection.execute(changed.values(_columns(course)))

    @staticmethod
    def _tell(
        connection: sa.Connection, now: datetime, service: str, severity: str, told: Iterable[Told]
    ) -> None:
        for one in told:
            event = {
                "at": now,
                "subject": service,
                "event": one.event,
                "severity": "low" if one.event in _QUIET else severity,
                "message": one.message,
                "data": dict(one.data),
            }
            connection.execute(sa.insert(recovery_events).values(event))


@dataclass(frozen=True)
class Audit:
    """An act by hand, written down in the transaction that does it."""

    actor: str
    act: str
    reason: str

    def write(self, connection: sa.Connection, at: datetime, subject: str) -> None:
        audit.write(connection, at=at, actor=self.actor, act=self.act, subject=subject, reason=self.reason)


_LOST = Acted(ok=False, message="nobody told what became of it; its worker is gone")


def _load(connection: sa.Connection, now: datetime) -> Load:
    running = sa.select(sa.func.count()).where(recovery_courses.c.lease_until > now)
    begun = sa.select(sa.func.count()).where(
        recoveries.c.started_at > now - MINUTE,
        recoveries.c.kind != "test",
    )
    return Load(connection.execute(running).scalar_one(), connection.execute(begun).scalar_one())


def _close(connection: sa.Connection, attempt_id: str, outcome: Outcome, acted: Acted, now: datetime) -> None:
    connection.execute(
        sa.update(recoveries)
        .where(recoveries.c.id == attempt_id, recoveries.c.outcome.is_(None))
        .values(
            ended_at=now,
            outcome=outcome.value,
            message=acted.message[:TEXT],
            evidence=dict(acted.evidence),
        )
    )


@contextmanager
def _errors() -> Any:
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise StoreUnavailableError(f"the database refused: {error.orig}") from error


def _rows(connection: sa.Connection, query: Any) -> Sequence[Any]:
    return connection.execute(query).mappings().all()


def _row(attempt: Attempt) -> dict[str, Any]:
    return {**asdict(attempt), "evidence": dict(attempt.evidence or {})}


def _course(row: Any) -> Course:
    ordered = lease = None
    if row["ordered_by"] is not None:
        ordered = Order(row["ordered_by"], row["ordered_reason"] or "", row["ordered_at"])
    if row["token"] is not None:
        lease = Lease(row["token"], row["owner"] or "", row["lease_until"], bool(row["by_hand"]))
    plain = ("opening", "opened_at", "trigger", "reason", "attempts", "next_at", "locked_at", "recovered_at")
    return Course(**{name: row[name] for name in plain}, ordered=ordered, lease=lease)


def _columns(course: Course) -> dict[str, Any]:
    ordered, lease = course.ordered, course.lease
    return {
        "opening": course.opening,
        "opened_at": course.opened_at,
        "trigger": course.trigger,
        "reason": course.reason[:TEXT],
        "attempts": course.attempts,
        "next_at": course.next_at,
        "locked_at": course.locked_at,
        "recovered_at": course.recovered_at,
        "ordered_by": ordered.actor if ordered else None,
        "ordered_reason": ordered.reason if ordered else None,
        "ordered_at": ordered.at if ordered else None,
        "token": lease.token if lease else None,
        "owner": lease.owner if lease else None,
        "lease_until": lease.until if lease else None,
        "by_hand": int(lease.by_hand) if lease else 0,
    }
