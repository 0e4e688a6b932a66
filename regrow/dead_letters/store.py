"""Dead letters in the database. Each function is one atomic step inside the caller's transaction.

The fence: whoever leases a letter gets a token, and a failure or release counts only with the current one.
A success counts from whatever attempt, once: the update names the states it may leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from regrow.database.durations import microseconds_between
from regrow.database.inserting import insert_many
from regrow.database.tables import capture_events, dead_letter_attempts, dead_letter_bodies, dead_letters
from regrow.dead_letters import ledger, ordering, rules
from regrow.dead_letters.captured import Priority
from regrow.dead_letters.rules import SETTLED, UNSETTLED, AttemptOutcome, Next, State
from regrow.failures import FailureClass

ORIGIN = (
    "queue",
    "exchange",
    "routing_key",
    "broker",
    "correlation_id",
    "traceparent",
    "code_version",
    "deliveries",
)
"""Where a message came from, by column: the same names in a capture, a row and a letter."""

T = TypeVar("T")

letters = dead_letters.c
attempts = dead_letter_attempts.c


@dataclass(frozen=True, kw_only=True)
class Addressed:
    """What of a letter is needed to send it home: half of its row. Times are aware UTC."""

    id: str
    idempotency_key: str
    service: str
    message_type: str
    task: str | None
    task_id: str | None
    queue: str | None
    confirm: str
    error_class: str
    error_message: str
    attempts: int
    first_failed_at: datetime
    lease_token: str | None
    lease_owner: str | None
    lease_until: datetime | None
    exchange: str | None = None
    routing_key: str | None = None
    broker: str | None = None
    data_key: str | None = None
    erased_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Letter(Addressed):
    """One row of ``dead_letters``."""

    generation: int
    state: State
    traceback: str | None
    fingerprint: str
    reason: str | None
    seen: int
    max_retries: int
    due_at: datetime
    deadline: datetime | None
    last_failed_at: datetime
    settled_at: datetime | None
    created_at: datetime
    correlation_id: str | None = None
    traceparent: str | None = None
    code_version: str | None = None
    deliveries: int | None = None
    failure_class: FailureClass = FailureClass.UNKNOWN
    priority: Priority = "normal"
    rank: datetime | None = None
    waits: int = 0
    losses: int = 0
    crashes: int = 0
    useful_until: datetime | None = None
    order_key: str | None = None
    subject: str = ""
    digest: str | None = None

    def age(self, now: datetime) -> float:
        """Seconds since we have it."""
        return (now - self.created_at).total_seconds()


_LETTER = tuple(Letter.__dataclass_fields__)


@dataclass(frozen=True)
class Body:
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    body: bytes


@dataclass(frozen=True)
class Attempt:
    token: str
    letter_id: str
    owner: str
    leased_at: datetime
    dispatched_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    error: str | None
    service: str | None = None
    failure_class: str | None = None
    data_key: str | None = None
    holds: int = 0
    held_for: str | None = None


@dataclass(frozen=True)
class SealedError:
    """An attempt's error that is sealed, and the id of its data key."""

    text: str
    data_key: str


@dataclass(frozen=True)
class Newest:
    """The newest letter of a key, purged or not. ``subject``: its digest, "" for nobody in particular."""

    letter_id: str
    state: State
    generation: int
    subject: str


@dataclass(frozen=True)
class Leased:
    letter: Addressed
    body: Body

    @property
    def token(self) -> str:
        if self.letter.lease_token is None:
            raise AssertionError("a leased letter has a token")
        return self.letter.lease_token


def known_events(connection: sa.Connection, event_ids: Iterable[str]) -> dict[str, str]:
    """Event id -> letter id, of those that were captured before."""
    query = sa.select(capture_events.c.event_id, capture_events.c.letter_id).where(
        capture_events.c.event_id.in_(list(event_ids))
    )
    return {row.event_id: row.letter_id for row in connection.execute(query)}


def newest_of_keys(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Newest]:
    """Key -> its newest letter, locked against settlement and purge meanwhile."""
    query = (
        sa.select(letters.idempotency_key, letters.id, letters.state, letters.generation, letters.subject)
        .where(letters.idempotency_key.in_(keys))
        .order_by(letters.generation)
        .with_for_update()
    )
    return {
        row.idempotency_key: Newest(row.id, State(row.state), row.generation, row.subject)
        for row in connection.execute(query)
    }


def insert(
    connection: sa.Connection,
    rows: Sequence[dict[str, Any]],
    bodies: Sequence[dict[str, Any]],
    events: Sequence[dict[str, Any]],
) -> None:
    """New letters with their bodies, and the events of all captures. IntegrityError: somebody was faster."""
    for table, values in ((dead_letters, rows), (dead_letter_bodies, bodies), (capture_events, events)):
        insert_many(connection, table, values)


def seen_again(connection: sa.Connection, letter_id: str, times: int, at: datetime) -> None:
    connection.execute(
        sa.update(dead_letters)
        .where(letters.id == letter_id)
        .values(seen=letters.seen + times, last_failed_at=at)
    )


@dataclass(frozen=True)
class Resolved:
    """What many successes came to. ``won``: for each of them whether it settled its letter, in order.

    ``ids``: the letters settled. ``took``: (service, microseconds) of those whose current attempt it was.
    ``unmeasured``: the tokens of the others.
    """

    won: list[bool]
    ids: list[str]
    took: list[tuple[str, int]]
    unmeasured: list[str]


def resolve(connection: sa.Connection, letter_id: str, token: str, now: datetime) -> bool:
    """Settle by success, from whatever attempt; False when it was settled before. Keeps the evidence."""
    return resolve_many(connection, [(letter_id, token)], now).won[0]


def resolve_many(connection: sa.Connection, told: Sequence[tuple[str, str]], now: datetime) -> Resolved:
    """:func:`resolve` for many pairs of letter id and token, in four statements."""
    ids = list({letter_id for letter_id, _ in told})
    # All that is needed of them at once: to find two hundred rows by their keys costs more than to read them.
    rows = connection.execute(_UNSETTLED_OF, {"ids": ids, "now": now}).all()
    unsettled = {row.id: row for row in rows if row.state in UNSETTLED}
    if unsettled:
        connection.execute(_RESOLVE, {"ids": list(unsettled), "now": now})
        ledger.settled(connection, [row.service for row in unsettled.values()], State.RESOLVED)
    for service, key in {(row.service, row.order_key) for row in unsettled.values() if row.order_key}:
        ordering.wake(connection, service, key)
    found = Resolved([], [], [], [])
    first, again = list[str](), list[str]()
    for letter_id, token in told:
        row = unsettled.pop(letter_id, None)  # of two that tell the same letter, the first one settles it
        found.won.append(row is not None)
        (again if row is None else first).append(token)
        if row is None:
            continue
        found.ids.append(letter_id)
        if row.lease_token == token and row.took is not None:
            found.took.append((row.service, int(row.took)))
        else:
            found.unmeasured.append(token)
    end_attempts(connection, first, now, AttemptOutcome.SUCCEEDED)
    end_attempts(connection, again, now, AttemptOutcome.SUCCEEDED_AGAIN)
    return found


def current(connection: sa.Connection, letter_id: str, token: str) -> Letter | None:
    """The letter, locked, if ``token`` is that of its current attempt and it is in flight."""
    query = (
        sa.select(dead_letters)
        .where(
            letters.id == letter_id,
            letters.lease_token == token,
            letters.state.in_([State.LEASED, State.DISPATCHED]),
        )
        .with_for_update()
    )
    row = connection.execute(query).mappings().first()
    return letter_of(row) if row else None


def amendable(connection: sa.Connection, letter_id: str, token: str) -> Letter | None:
    """The letter, locked, if ``token`` is that of its last attempt, which failed and nobody said why.

    Celery's own callback tells that a task failed; an app with Regrow installed tells the same attempt's
    error too, and may be the second to speak.
    """
    letter = locked(connection, letter_id)
    if letter is None or letter.state not in {State.PENDING, State.QUARANTINED}:
        return None
    query = (
        sa.select(attempts.token, attempts.outcome, attempts.error)
        .where(attempts.letter_id == letter_id)
        .order_by(attempts.leased_at.desc())
        .limit(1)
    )
    last = connection.execute(query).first()
    if last is None or (last.token, last.outcome, last.error) != (token, AttemptOutcome.FAILED, None):
        return None
    return letter


_OUT_OF_FLIGHT: Mapping[str, None] = dict.fromkeys(
    ("lease_token", "lease_owner", "lease_until", "deadline", "inflight_key")
)

_IDS = letters.id.in_(sa.bindparam("ids", expanding=True))
_UNSETTLED_OF = (
    # Which of them are settled is seen here, not asked for: for a condition on the state a planner would
    # weigh every index that begins with it, for each id.
    sa.select(
        letters.id,
        letters.state,
        letters.service,
        letters.order_key,
        letters.lease_token,
        microseconds_between(
            sa.func.coalesce(attempts.dispatched_at, attempts.leased_at),
            sa.bindparam("now", type_=letters.settled_at.type),
        ).label("took"),
    )
    .outerjoin(dead_letter_attempts, attempts.token == letters.lease_token)
    .where(_IDS)
    .with_for_update()
)
_RESOLVE = (
    sa.update(dead_letters)
    .where(_IDS)
    .values(state=State.RESOLVED, settled_at=sa.bindparam("now"), reason=None, **_OUT_OF_FLIGHT)
)


def settled_by(connection: sa.Connection, letter_id: str, token: str) -> tuple[Letter | None, bool]:
    """The letter that this very attempt settled, or None; and whether the attempt is known at all."""
    outcome = connection.execute(
        sa.select(attempts.outcome).where(attempts.token == token, attempts.letter_id == letter_id)
    ).first()
    if outcome is None or outcome[0] != AttemptOutcome.SUCCEEDED:
        return None, outcome is not None
    row = connection.execute(sa.select(dead_letters).where(letters.id == letter_id)).mappings().first()
    return (letter_of(row) if row else None), True


def settled_by_publication(connection: sa.Connection, letter_id: str, token: str) -> bool:
    """Whether the broker's word settled the letter with this very attempt, and no outcome did.

    Both are written at one moment then: that it was dispatched, and that this settled it.
    """
    query = sa.select(attempts.token).where(
        attempts.token == token,
        attempts.letter_id == letter_id,
        attempts.outcome == AttemptOutcome.SUCCEEDED,
        attempts.dispatched_at == attempts.ended_at,
    )
    return connection.execute(query).first() is not None


def move(
    connection: sa.Connection, letter: Letter, to: Next, *, now: datetime, **changed: int | str | None
) -> None:
    """Out of flight, or by hand: the lease ends and the letter waits for its due time or for a person.

    ``changed``: other columns that change with it. The caller holds the row's lock (see :func:`current` and
    :func:`locked`).
    """
    values: dict[str, Any] = {
        "state": to.state,
        "reason": to.reason,
        "settled_at": now if to.state in SETTLED else None,
        **_OUT_OF_FLIGHT,
        **changed,
    }
    if to.state == State.PENDING:
        due = to.due_at or letter.due_at
        values["due_at"] = due
        values["rank"] = rules.rank_of(due, letter.priority, letter.age(now))
    connection.execute(sa.update(dead_letters).where(letters.id == letter.id).values(values))
    ledger.moved(connection, letter.service, letter.state, to.state)
    ordering.park(connection, letter.service, letter.order_key)
    ordering.wake(connection, letter.service, letter.order_key)


def end_attempts(
    connection: sa.Connection,
    tokens: Sequence[str],
    now: datetime,
    outcome: AttemptOutcome,
    error: str | SealedError | None = None,
    failure_class: str | None = None,
) -> None:
    """Write how attempts ended. A truer word replaces an earlier one: success > failure > silence."""
    if not tokens:
        return
    truer: sa.ColumnElement[bool] = attempts.outcome.in_(
        [AttemptOutcome.SUCCEEDED, AttemptOutcome.SUCCEEDED_AGAIN]
    )
    if outcome not in {AttemptOutcome.SUCCEEDED, AttemptOutcome.SUCCEEDED_AGAIN}:
        failed = attempts.outcome == AttemptOutcome.FAILED
        # The same failure told again, and this time with its error, says more.
        truer |= failed if error is None else sa.and_(failed, attempts.error.is_not(None))
    connection.execute(
        sa.update(dead_letter_attempts)
        .where(attempts.token.in_(tokens), sa.or_(attempts.outcome.is_(None), sa.not_(truer)))
        .values(
            ended_at=now,
            outcome=outcome,
            error=error.text if isinstance(error, SealedError) else error,
            data_key=error.data_key if isinstance(error, SealedError) else None,
            failure_class=failure_class,
        )
    )


def overdue(connection: sa.Connection, now: datetime, limit: int) -> list[Letter]:
    """Letters in flight whose lease or deadline has passed, locked for the caller."""
    every = sa.select(dead_letters).limit(limit).with_for_update(skip_locked=True)
    # As many are leased as workers have in hand, so all of them are looked at; dispatched may be a million.
    leased = every.where(letters.state == State.LEASED, letters.lease_until <= now).order_by(letters.id)
    dispatched = past_deadline(every, now)
    late = [row for query in (leased, dispatched) for row in connection.execute(query).mappings()]
    return [letter_of(row) for row in late]


def past_deadline(query: sa.Select[Any], now: datetime) -> sa.Select[Any]:
    """Those dispatched letters whose deadline has passed, the longest overdue first.

    By that index: another would have to be sorted, and a sort locks all that it reads.
    """
    index = next(f"FORCE INDEX ({i.name})" for i in dead_letters.indexes if i.columns.keys() == ["deadline"])
    return (
        query.where(letters.state == State.DISPATCHED, letters.deadline <= now)
        .order_by(letters.deadline)
        .with_hint(dead_letters, index, "mysql")
        .with_hint(dead_letters, index, "mariadb")
    )


def locked(connection: sa.Connection, letter_id: str) -> Letter | None:
    query = sa.select(dead_letters).where(letters.id == letter_id).with_for_update()
    row = connection.execute(query).mappings().first()
    return letter_of(row) if row else None


def find_id(connection: sa.Connection, letter_or_event: str) -> str | None:
    """Both ids find a letter: its own, and that of any event it was captured by."""
    own = connection.execute(sa.select(letters.id).where(letters.id == letter_or_event)).scalar()
    if own is not None:
        return str(own)
    query = sa.select(capture_events.c.letter_id).where(capture_events.c.event_id == letter_or_event)
    found = connection.execute(query).scalar()
    return None if found is None else str(found)


def read(connection: sa.Connection, letter_id: str) -> tuple[Letter, Body, list[Attempt]] | None:
    row = (
        connection.execute(
            sa.select(dead_letters, *(c for c in dead_letter_bodies.c if c.name != "letter_id"))
            .join(dead_letter_bodies, dead_letter_bodies.c.letter_id == letters.id)
            .where(letters.id == letter_id)
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    history = connection.execute(
        sa.select(dead_letter_attempts)
        .where(attempts.letter_id == letter_id)
        .order_by(attempts.leased_at, attempts.token)
    ).mappings()
    return letter_of(row), body_of(row), [Attempt(**line) for line in history]


def letter_of(row: Any) -> Letter:
    values = {name: row[name] for name in _LETTER}
    values["state"] = State(values["state"])
    values["failure_class"] = FailureClass(values["failure_class"])
    return _made(Letter, values)


def addressed_of(values: Mapping[str, Any]) -> Addressed:
    """``values``: one for each field."""
    return _made(Addressed, values)


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    """A frozen dataclass sets its fields one by one: for 46 of them that is dearer than to read the row."""
    made = object.__new__(kind)
    made.__dict__.update(values)
    return made


def body_of(row: Any) -> Body:
    return Body(row["content_type"], row["content_encoding"], row["headers"], row["body"])
