"""Taking due letters for a redrive, in SQL steps inside the caller's transaction.

A service's letters stand in an index by their stored rank, so that a lease reads and locks no more rows than
it takes and several workers take different ones (SKIP LOCKED). An order that had to be computed would make
the first worker lock the whole table. SQLite has one writer at a time, which comes to the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import dead_letter_attempts, dead_letter_bodies, dead_letters
from regrow.dead_letters import ordering, rules
from regrow.dead_letters.rules import PENALTY, State
from regrow.dead_letters.store import Addressed, Body, Leased, Letter, addressed_of, letter_of, past_deadline

letters = dead_letters.c
attempts = dead_letter_attempts.c

# Without it a planner may sort, and a sort locks every row that it reads.
_BY_RANK = f"FORCE INDEX ({next(i.name for i in dead_letters.indexes if 'rank' in i.columns)})"


def services(connection: sa.Connection) -> list[str]:
    """Every service that has letters, by name; one dive into the index for each."""
    found: list[str] = []
    following = sa.select(sa.func.min(letters.service)).where(letters.service > sa.bindparam("last"))
    while (name := connection.execute(following, {"last": found[-1] if found else ""}).scalar()) is not None:
        found.append(name)
    return found


def any_due(connection: sa.Connection, service: str, now: datetime) -> bool:
    """Whether a lease would find a letter; takes no lock."""
    return connection.execute(_due(sa.select(letters.id), service, now).limit(1)).first() is not None


def lease_some(
    connection: sa.Connection,
    service: str,
    *,
    owner: str,
    now: datetime,
    seconds: float,
    limit: int,
) -> tuple[list[Leased], bool]:
    """Take up to ``limit`` due letters of a service by rank, skipping what another worker is taking.

    And whether others were left that may go now: some were parked behind others, or a suspect goes alone.
    IntegrityError: another worker was faster with a letter of the same order key; nothing is taken.
    """
    query = _due(_PENDING, service, now).limit(limit).with_for_update(skip_locked=True)
    candidates = connection.execute(query).all()
    taken = _take(connection, candidates, owner, now, seconds)
    return taken, len(taken) < len(candidates)


def _due(query: sa.Select[Any], service: str, now: datetime) -> sa.Select[Any]:
    return (
        query.where(
            letters.service == service,
            letters.state == State.PENDING,
            # No letter stands further behind its due time; beyond it the index need not be read.
            letters.rank <= now + timedelta(seconds=max(PENALTY.values())),
            letters.due_at <= now,
            sa.or_(letters.useful_until.is_(None), letters.useful_until > now),
        )
        .order_by(letters.rank, letters.id)
        .with_hint(dead_letters, _BY_RANK, "mysql")
        .with_hint(dead_letters, _BY_RANK, "mariadb")
    )


def lease_one(
    connection: sa.Connection, letter_id: str, *, owner: str, now: datetime, seconds: float
) -> list[Leased]:
    """Take this letter, if it is due and nobody has it."""
    query = _PENDING.where(
        letters.id == letter_id,
        letters.state == State.PENDING,
        letters.rank.is_not(None),
        letters.due_at <= now,
        sa.or_(letters.useful_until.is_(None), letters.useful_until > now),
    ).with_for_update(skip_locked=True)
    return _take(connection, connection.execute(query).all(), owner, now, seconds)


_WRITTEN = ("lease_token", "lease_owner", "lease_until")
_ADDRESS = tuple(name for name in Addressed.__dataclass_fields__ if name not in _WRITTEN)
_COLUMNS = (
    *(letters[name] for name in _ADDRESS),
    *(dead_letter_bodies.c[name] for name in Body.__dataclass_fields__),
    letters.crashes,
    letters.order_key,
)
_PENDING = (
    sa.select(*_COLUMNS)
    .join_from(dead_letters, dead_letter_bodies, dead_letter_bodies.c.letter_id == letters.id)
    # The letters first, by rank; each finds its body.
    .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    .prefix_with("STRAIGHT_JOIN", dialect="mariadb")
)


def _take(
    connection: sa.Connection, candidates: Sequence[sa.Row[Any]], owner: str, now: datetime, seconds: float
) -> list[Leased]:
    due = _whose_turn_it_is(connection, candidates)
    if not due:
        return []
    due = due[: rules.together([letter.crashes for letter in due])]
    ids = [letter.id for letter in due]
    batch = secrets.token_hex(9)
    until = now + timedelta(seconds=seconds)
    lease = {"ids": ids, "batch": f"{batch}-", "owner": owner, "until": until}
    connection.execute(_ATTEMPTS, {**lease, "now": now})
    connection.execute(_LEASE, lease)
    written = {"lease_owner": owner, "lease_until": until}
    return [
        Leased(
            addressed_of(
                {**dict(zip(_ADDRESS, row, strict=False)), **written, "lease_token": _token(batch, row.id)}
            ),
            Body(row.content_type, row.content_encoding, row.headers, row.body),
        )
        for row in due
    ]


_TAIL = 19
"""Where the random half of a letter's id begins."""
_IDS = letters.id.in_(sa.bindparam("ids", expanding=True))
# One statement for all of them: the database makes each token as _token() does.
_TOKEN = sa.bindparam("batch", type_=sa.String) + sa.func.substr(letters.id, _TAIL + 1)
_ATTEMPTS = sa.insert(dead_letter_attempts).from_select(
    ["token", "letter_id", "owner", "leased_at", "service"],
    sa.select(
        _TOKEN,
        letters.id,
        sa.bindparam("owner", type_=sa.String),
        sa.bindparam("now", type_=attempts.leased_at.type),
        letters.service,
    ).where(_IDS),
)
_LEASE = (
    sa.update(dead_letters)
    .where(_IDS)
    .values(
        state=State.LEASED,
        lease_token=_TOKEN,
        lease_owner=sa.bindparam("owner"),
        lease_until=sa.bindparam("until"),
        inflight_key=letters.order_key,
    )
)


def _whose_turn_it_is(connection: sa.Connection, candidates: Sequence[sa.Row[Any]]) -> list[sa.Row[Any]]:
    """All but those that another letter of their order key goes before; these are parked behind it."""
    keys = {letter.order_key: letter.service for letter in candidates if letter.order_key is not None}
    if not keys:
        return list(candidates)
    (service,) = set(keys.values())
    first = ordering.heads(connection, service, keys)
    busy = ordering.in_flight(connection, service, keys)
    for key in keys:
        ordering.park(connection, service, key)
    return [
        letter
        for letter in candidates
        if letter.order_key is None
        or (first.get(letter.order_key) == letter.id and letter.order_key not in busy)
    ]


def _token(batch: str, letter_id: str) -> str:
    """A fencing token that nobody had before: the batch's 72 random bits and the letter's own 62."""
    return f"{batch}-{letter_id[_TAIL:]}"


def dispatched(
    connection: sa.Connection, sent: Sequence[tuple[str, str]], *, now: datetime, deadline: datetime
) -> int:
    """leased -> dispatched for each (letter id, token) whose token is current; returns how many.

    For the others their outcome, or another lease, came first.
    """
    if not sent:
        return 0
    tokens = [token for _, token in sent]
    moved = connection.execute(
        sa.update(dead_letters)
        .where(
            letters.id.in_([letter_id for letter_id, _ in sent]),
            letters.lease_token.in_(tokens),  # a token is that of one letter alone
            letters.state == State.LEASED,
        )
        .values(
            state=State.DISPATCHED,
            attempts=letters.attempts + 1,
            lease_until=None,
            deadline=deadline,
            crashes=0,
        )
    )
    connection.execute(
        sa.update(dead_letter_attempts)
        .where(attempts.token.in_(tokens), attempts.dispatched_at.is_(None))
        .values(dispatched_at=now)
    )
    return moved.rowcount


def in_flight(connection: sa.Connection, sent: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of these pairs of letter id and token those whose attempt is dispatched and the current one; locked."""
    query = (
        sa.select(letters.id, letters.lease_token)
        .where(letters.id.in_([letter_id for letter_id, _ in sent]), letters.state == State.DISPATCHED)
        .with_for_update()
    )
    current = {(row.id, row.lease_token) for row in connection.execute(query)}
    return [pair for pair in sent if pair in current]


def lapsed_owners(connection: sa.Connection, now: datetime) -> list[str]:
    """Who held the leases that have run out; takes no lock."""
    query = (
        sa.select(letters.lease_owner)
        .distinct()
        .where(letters.state == State.LEASED, letters.lease_until <= now, letters.lease_owner.is_not(None))
    )
    return list(connection.execute(query).scalars())


def unanswered(connection: sa.Connection, now: datetime, limit: int) -> list[tuple[Letter, datetime]]:
    """Dispatched letters whose deadline has passed, with the time of their dispatch; takes no lock."""
    query = sa.select(dead_letters, attempts.dispatched_at).join(
        dead_letter_attempts, attempts.token == letters.lease_token
    )
    rows = connection.execute(past_deadline(query, now).limit(limit)).mappings()
    return [(letter_of(row), row["dispatched_at"] or row["created_at"]) for row in rows]


def hold(connection: sa.Connection, late: Sequence[Letter], why: str, until: datetime) -> None:
    """Wait for these dispatched letters until ``until``; the caller holds their rows' locks."""
    connection.execute(
        sa.update(dead_letters).where(letters.id.in_([letter.id for letter in late])).values(deadline=until)
    )
    connection.execute(
        sa.update(dead_letter_attempts)
        .where(attempts.token.in_([letter.lease_token for letter in late]))
        .values(holds=attempts.holds + 1, held_for=why)
    )


def no_longer_useful(connection: sa.Connection, now: datetime, limit: int) -> list[Letter]:
    """Pending letters whose usefulness is over, locked for the caller."""
    query = (
        sa.select(dead_letters)
        .where(letters.state == State.PENDING, letters.useful_until <= now)
        .order_by(letters.useful_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [letter_of(row) for row in connection.execute(query).mappings()]
