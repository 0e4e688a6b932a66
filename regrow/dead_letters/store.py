"""Dead letters in the database. Each function is one atomic step inside the caller's transaction.

The fence: whoever leases a letter gets a token, and a failure or release counts only with the current one.
A success counts from whatever attempt, once: the update names the states it may leave.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import capture_events, dead_letter_attempts, dead_letter_bodies, dead_letters
from regrow.dead_letters import ledger
from regrow.dead_letters.rules import SETTLED, UNSETTLED, AttemptOutcome, Next, State

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

letters = dead_letters.c
attempts = dead_letter_attempts.c


@dataclass(frozen=True)
class Letter:
    """One row of ``dead_letters``. Times are aware UTC."""

    id: str
    idempotency_key: str
    generation: int
    state: State
    service: str
    message_type: str
    task: str | None
    task_id: str | None
    queue: str | None
    confirm: str
    error_class: str
    error_message: str
    traceback: str | None
    fingerprint: str
    reason: str | None
    seen: int
    attempts: int
    max_retries: int
    due_at: datetime
    lease_token: str | None
    lease_owner: str | None
    lease_until: datetime | None
    deadline: datetime | None
    first_failed_at: datetime
    last_failed_at: datetime
    settled_at: datetime | None
    created_at: datetime
    exchange: str | None = None
    routing_key: str | None = None
    broker: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    code_version: str | None = None
    deliveries: int | None = None


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


@dataclass(frozen=True)
class Leased:
    letter: Letter
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


def newest_of_keys(connection: sa.Connection, keys: Sequence[str]) -> dict[str, tuple[str, State, int]]:
    """Key -> (letter id, state, generation) of its newest letter, locked against settlement meanwhile."""
    query = (
        sa.select(letters.idempotency_key, letters.id, letters.state, letters.generation)
        .where(letters.idempotency_key.in_(keys))
        .order_by(letters.generation)
        .with_for_update()
    )
    return {
        row.idempotency_key: (row.id, State(row.state), row.generation) for row in connection.execute(query)
    }


def insert(
    connection: sa.Connection,
    rows: Sequence[dict[str, Any]],
    bodies: Sequence[dict[str, Any]],
    events: Sequence[dict[str, Any]],
) -> None:
    """New letters with their bodies, and the events of all captures. IntegrityError: somebody was faster."""
    for table, values in ((dead_letters, rows), (dead_letter_bodies, bodies), (capture_events, events)):
        if values:
            connection.execute(sa.insert(table), list(values))


def seen_again(connection: sa.Connection, letter_id: str, times: int, at: datetime) -> None:
    connection.execute(
        sa.update(dead_letters)
        .where(letters.id == letter_id)
        .values(seen=letters.seen + times, last_failed_at=at)
    )


def lease(
    connection: sa.Connection,
    *,
    owner: str,
    now: datetime,
    seconds: float,
    limit: int,
    only: str | None = None,
) -> list[Leased]:
    """Take up to ``limit`` due letters, oldest due first, skipping what another worker is taking."""
    query = (
        sa.select(dead_letters)
        .where(letters.state == State.PENDING, letters.due_at <= now)
        .order_by(letters.due_at, letters.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if only is not None:
        query = query.where(letters.id == only)
    due = [_letter(row) for row in connection.execute(query).mappings()]
    if not due:
        return []
    ids = [letter.id for letter in due]
    batch = secrets.token_hex(9)
    until = now + timedelta(seconds=seconds)
    connection.execute(
        sa.insert(dead_letter_attempts),
        [
            {"token": _token(batch, letter_id), "letter_id": letter_id, "owner": owner, "leased_at": now}
            for letter_id in ids
        ],
    )
    # One statement for all of them: the database makes each token as _token() does.
    connection.execute(
        sa.update(dead_letters)
        .where(letters.id.in_(ids))
        .values(
            state=State.LEASED,
            lease_token=sa.literal(f"{batch}-") + sa.func.substr(letters.id, _TAIL + 1),
            lease_owner=owner,
            lease_until=until,
        )
    )
    bodies = connection.execute(sa.select(dead_letter_bodies).where(dead_letter_bodies.c.letter_id.in_(ids)))
    body_of = {row["letter_id"]: _body(row) for row in bodies.mappings()}
    return [
        Leased(
            replace(
                letter,
                state=State.LEASED,
                lease_token=_token(batch, letter.id),
                lease_owner=owner,
                lease_until=until,
            ),
            body_of[letter.id],
        )
        for letter in due
    ]


_TAIL = 19
"""Where the random half of a letter's id begins."""


def _token(batch: str, letter_id: str) -> str:
    """A fencing token that nobody had before: the batch's 72 random bits and the letter's own 62."""
    return f"{batch}-{letter_id[_TAIL:]}"


def dispatched(
    connection: sa.Connection, letter_id: str, token: str, *, now: datetime, deadline: datetime
) -> bool:
    """leased -> dispatched, if the token is current; False: its outcome, or another lease, came first."""
    moved = connection.execute(
        sa.update(dead_letters)
        .where(letters.id == letter_id, letters.lease_token == token, letters.state == State.LEASED)
        .values(state=State.DISPATCHED, attempts=letters.attempts + 1, lease_until=None, deadline=deadline)
    )
    connection.execute(
        sa.update(dead_letter_attempts)
        .where(attempts.token == token, attempts.dispatched_at.is_(None))
        .values(dispatched_at=now)
    )
    return moved.rowcount == 1


def resolve(connection: sa.Connection, letter_id: str, token: str, now: datetime) -> bool:
    """Settle by success, from whatever attempt; False when it was settled before. Keeps the evidence."""
    moved = connection.execute(
        sa.update(dead_letters)
        .where(letters.id == letter_id, letters.state.in_(UNSETTLED))
        .values(**_RESOLVED, settled_at=now)
    )
    won = moved.rowcount == 1
    if won:
        ledger.settled(connection, [letter_id], State.RESOLVED)
    end_attempt(connection, token, now, AttemptOutcome.SUCCEEDED if won else AttemptOutcome.SUCCEEDED_AGAIN)
    return won


def resolve_many(connection: sa.Connection, told: Sequence[tuple[str, str]], now: datetime) -> list[bool]:
    """:func:`resolve` for many pairs of letter id and token, in five statements; the answers in order."""
    query = (
        sa.select(letters.id)
        .where(letters.id.in_({letter_id for letter_id, _ in told}), letters.state.in_(UNSETTLED))
        .with_for_update()
    )
    unsettled = set(connection.execute(query).scalars())
    open_yet = set(unsettled)
    won = []
    for letter_id, _ in told:  # of two that tell the same letter, the first one settles it
        won.append(letter_id in open_yet)
        open_yet.discard(letter_id)
    if unsettled:
        connection.execute(
            sa.update(dead_letters).where(letters.id.in_(unsettled)).values(**_RESOLVED, settled_at=now)
        )
        ledger.settled(connection, sorted(unsettled), State.RESOLVED)
    for outcome, first in ((AttemptOutcome.SUCCEEDED, True), (AttemptOutcome.SUCCEEDED_AGAIN, False)):
        tokens = [token for (_, token), was_first in zip(told, won, strict=True) if was_first is first]
        if tokens:
            _end_attempts(connection, attempts.token.in_(tokens), now, outcome, None)
    return won


_RESOLVED: dict[str, Any] = {
    "state": State.RESOLVED,
    "lease_token": None,
    "lease_owner": None,
    "lease_until": None,
    "deadline": None,
    "reason": None,
}


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
    return _letter(row) if row else None


def move(
    connection: sa.Connection, letter: Letter, to: Next, *, now: datetime, attempts_made: int | None = None
) -> None:
    """Out of flight, or by hand: the lease ends and the letter waits for its due time or for a person.

    The caller holds the row's lock (see :func:`current` and :func:`locked`).
    """
    values: dict[str, Any] = {
        "state": to.state,
        "lease_token": None,
        "lease_owner": None,
        "lease_until": None,
        "deadline": None,
        "reason": to.reason,
        "settled_at": now if to.state in SETTLED else None,
    }
    if to.due_at is not None:
        values["due_at"] = to.due_at
    if attempts_made is not None:
        values["attempts"] = attempts_made
    connection.execute(sa.update(dead_letters).where(letters.id == letter.id).values(values))
    ledger.moved(connection, letter.service, letter.state, to.state)


def end_attempt(
    connection: sa.Connection, token: str, now: datetime, outcome: AttemptOutcome, error: str | None = None
) -> None:
    """Write how an attempt ended. A later, truer word (a success after silence) replaces an earlier one."""
    _end_attempts(connection, attempts.token == token, now, outcome, error)


def _end_attempts(
    connection: sa.Connection,
    which: sa.ColumnElement[bool],
    now: datetime,
    outcome: AttemptOutcome,
    error: str | None,
) -> None:
    final = [AttemptOutcome.SUCCEEDED, AttemptOutcome.SUCCEEDED_AGAIN, AttemptOutcome.FAILED]
    connection.execute(
        sa.update(dead_letter_attempts)
        .where(which, sa.or_(attempts.outcome.is_(None), attempts.outcome.not_in(final)))
        .values(ended_at=now, outcome=outcome, error=error)
    )


def overdue(connection: sa.Connection, now: datetime, limit: int) -> list[Letter]:
    """Letters in flight whose lease or deadline has passed, locked for the caller."""
    late = []
    for state, column in ((State.LEASED, letters.lease_until), (State.DISPATCHED, letters.deadline)):
        query = (
            sa.select(dead_letters)
            .where(letters.state == state, column <= now)
            .order_by(column)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        late += [_letter(row) for row in connection.execute(query).mappings()]
    return late


def locked(connection: sa.Connection, letter_id: str) -> Letter | None:
    query = sa.select(dead_letters).where(letters.id == letter_id).with_for_update()
    row = connection.execute(query).mappings().first()
    return _letter(row) if row else None


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
    return _letter(row), _body(row), [Attempt(**line) for line in history]


def page(
    connection: sa.Connection,
    *,
    state: State | None,
    service: str | None,
    message_type: str | None,
    limit: int,
    before: str | None,
) -> list[Letter]:
    """Newest first; ``before`` is the last id of the page before (keyset paging, no OFFSET)."""
    query = sa.select(dead_letters).order_by(letters.id.desc()).limit(limit)
    for column, value in (
        (letters.state, state),
        (letters.service, service),
        (letters.message_type, message_type),
    ):
        if value is not None:
            query = query.where(column == value)
    if before is not None:
        query = query.where(letters.id < before)
    return [_letter(row) for row in connection.execute(query).mappings()]


def counts(connection: sa.Connection) -> dict[str, int]:
    """How many letters are in each state; every state is named, empty ones too."""
    found = connection.execute(sa.select(letters.state, sa.func.count()).group_by(letters.state))
    return {**dict.fromkeys((s.value for s in State), 0), **{row[0]: row[1] for row in found}}


def oldest_unsettled(connection: sa.Connection) -> datetime | None:
    query = sa.select(sa.func.min(letters.first_failed_at)).where(letters.state.in_(UNSETTLED))
    oldest: datetime | None = connection.execute(query).scalar()
    return oldest


def flow(connection: sa.Connection, since: datetime, until: datetime) -> dict[str, int]:
    """Captured events, and letters settled, within [since, until)."""
    captured = connection.execute(
        sa.select(sa.func.count())
        .select_from(capture_events)
        .where(capture_events.c.received_at >= since, capture_events.c.received_at < until)
    ).scalar_one()
    settled = connection.execute(
        sa.select(letters.state, sa.func.count())
        .where(letters.state.in_(SETTLED), letters.settled_at >= since, letters.settled_at < until)
        .group_by(letters.state)
    )
    return {"captured": captured, "resolved": 0, "discarded": 0, **{row[0]: row[1] for row in settled}}


def purge_settled(connection: sa.Connection, before: datetime, limit: int) -> int:
    """Delete letters that were settled before ``before``; unsettled ones never go."""
    query = (
        sa.select(letters.id, letters.service, letters.state)
        .where(letters.state.in_(SETTLED), letters.settled_at < before)
        .order_by(letters.settled_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(query).all()
    if rows:
        # Bodies and attempts go with their letter (ON DELETE CASCADE); events stay as tombstones, so that a
        # capture told twice is known however late the second one comes.
        connection.execute(sa.delete(dead_letters).where(letters.id.in_([row.id for row in rows])))
        ledger.purged(connection, [(row.service, State(row.state)) for row in rows])
    return len(rows)


def _letter(row: Any) -> Letter:
    values = {name: row[name] for name in Letter.__dataclass_fields__}
    return Letter(**{**values, "state": State(values["state"])})


def _body(row: Any) -> Body:
    return Body(row["content_type"], row["content_encoding"], row["headers"], row["body"])
