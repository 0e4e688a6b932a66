"""Letters of one order key: one at a time, in the order of capture. SQL steps in the caller's transaction.

The first unsettled letter of a key goes; the others wait behind it without a rank, so that no lease comes
across them. When the first one is settled, the next one gets a rank. A unique index on the key of what is
in flight keeps the promise even where two transactions did not see each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from regrow.database.tables import dead_letters
from regrow.dead_letters.rules import UNSETTLED, State

letters = dead_letters.c


def heads(connection: sa.Connection, service: str, keys: Iterable[str]) -> Mapping[str, str]:
    """Order key -> the id of its first unsettled letter."""
    wanted = list(keys)
    if not wanted:
        return {}
    query = (
        sa.select(letters.order_key, sa.func.min(letters.id).label("first"))
        .where(letters.service == service, letters.order_key.in_(wanted), letters.state.in_(UNSETTLED))
        .group_by(letters.order_key)
    )
    return {row.order_key: row.first for row in connection.execute(query)}


def in_flight(connection: sa.Connection, service: str, keys: Iterable[str]) -> set[str]:
    """Those of the keys that have a letter leased or dispatched."""
    wanted = list(keys)
    if not wanted:
        return set()
    query = sa.select(letters.inflight_key).where(
        letters.service == service, letters.inflight_key.in_(wanted)
    )
    return set(connection.execute(query).scalars())


def behind(first: str) -> str:
    """The reason that a waiting letter shows."""
    return f"waits behind dead letter {first} of its order key"


def park(connection: sa.Connection, service: str, key: str | None) -> None:
    """Take the rank from every pending letter of the key but the first."""
    if key is None:
        return
    first = heads(connection, service, [key]).get(key)
    if first is not None:
        connection.execute(
            sa.update(dead_letters)
            .where(
                letters.service == service,
                letters.order_key == key,
                letters.id > first,
                letters.state == State.PENDING,
                letters.rank.is_not(None),
            )
            .values(rank=None, reason=behind(first))
        )


def wake(connection: sa.Connection, service: str, key: str | None) -> None:
    """Give the first letter of the key its place, if it waited for another one."""
    if key is None:
        return
    first = heads(connection, service, [key]).get(key)
    if first is not None:
        _give_rank(connection, [first])


def wake_forgotten(connection: sa.Connection, service: str, after: str, limit: int) -> tuple[int, str]:
    """The same for first letters that wait, though nothing is before them: how many were woken.

    A letter that was captured while the one before it was being settled saw that one, and not its end. Looks
    at ``limit`` letters in line, those behind the id ``after``, and says where to go on: there may be a
    million, and few are forgotten.
    """
    query = (
        sa.select(letters.id, letters.order_key)
        .where(
            letters.service == service,
            letters.state == State.PENDING,
            letters.rank.is_(None),
            letters.id > after,
        )
        .order_by(letters.id)
        .limit(limit)
    )
    waiting = connection.execute(query).all()
    first = dict[str, str]()
    for row in waiting:  # of one key the others wait behind this one, if behind no other
        first.setdefault(row.order_key or row.id, row.id)
    woken = _give_rank(connection, _without_another_before(connection, list(first.values())))
    return woken, waiting[-1].id if len(waiting) == limit else ""


def _without_another_before(connection: sa.Connection, ids: list[str]) -> list[str]:
    other = dead_letters.alias()
    query = sa.select(letters.id).where(
        letters.id.in_(ids),
        ~sa.exists().where(
            other.c.service == letters.service,
            other.c.order_key == letters.order_key,
            other.c.id < letters.id,
            other.c.state.in_(UNSETTLED),
        ),
    )
    return list(connection.execute(query).scalars()) if ids else []


def _give_rank(connection: sa.Connection, ids: list[str]) -> int:
    """They waited long enough in line: by their due time, whatever their priority."""
    if not ids:
        return 0
    return connection.execute(
        sa.update(dead_letters)
        .where(letters.id.in_(ids), letters.state == State.PENDING, letters.rank.is_(None))
        .values(rank=letters.due_at, reason=None)
    ).rowcount
