"""What is remembered of purged letters: steps inside the caller's transaction.

A tombstone, and the events of its letter, stay for ``dead_letters.tombstone_days`` after the purge. For so
long a capture that is told again is known by its event, and one of the same key is the next generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database.inserting import insert_new
from regrow.database.tables import capture_events, dead_letter_tombstones, dead_letters
from regrow.dead_letters.rules import State
from regrow.dead_letters.store import Newest

tombstones = dead_letter_tombstones.c
events = capture_events.c

# Without it a planner may read the whole table and sort it, where most events are old.
_BY_TIME = f"FORCE INDEX ({next(i.name for i in capture_events.indexes if 'received_at' in i.columns)})"


@dataclass(frozen=True)
class Sought:
    """``strays``: letters found to be gone without a tombstone. ``last``: the last event looked at; None:
    there are no more."""

    strays: int
    last: tuple[datetime, str] | None


def bury(connection: sa.Connection, letters: Iterable[sa.Row[Any]], now: datetime) -> None:
    """Remember letters that this transaction deletes."""
    connection.execute(
        sa.insert(dead_letter_tombstones),
        [
            {
                "letter_id": row.id,
                "idempotency_key": row.idempotency_key,
                "generation": row.generation,
                "state": row.state,
                "subject": row.subject,
                "purged_at": now,
            }
            for row in letters
        ],
    )


def bury_strays(
    connection: sa.Connection, before: datetime, after: tuple[datetime, str] | None, limit: int, now: datetime
) -> Sought:
    """Look at up to ``limit`` events received before ``before``, and bury letters that went without a trace.

    Workers of a version without tombstones, in a rolling upgrade, purge so. When they did nobody knows any
    more, so these letters are remembered from now on. ``after``: the last event of the chunk before.

    Letters and tombstones are asked in one statement, which sees one moment: a purge that is under way has
    both or neither. A letter's id never comes back.
    """
    query = (
        sa.select(
            events.received_at,
            events.event_id,
            events.letter_id,
            sa.or_(
                sa.exists().where(dead_letters.c.id == events.letter_id),
                sa.exists().where(tombstones.letter_id == events.letter_id),
            ).label("known"),
        )
        .where(events.received_at < before)
        .order_by(events.received_at, events.event_id)
        .limit(limit)
        .with_hint(capture_events, _BY_TIME, "mysql")
        .with_hint(capture_events, _BY_TIME, "mariadb")
    )
    if after is not None:
        at, event_id = after
        query = query.where(
            events.received_at >= at, sa.or_(events.received_at > at, events.event_id > event_id)
        )
    seen = connection.execute(query).all()
    strays = sorted({row.letter_id for row in seen if not row.known})
    if strays:
        # Another run may have found the same ones.
        nothing_else = {"generation": 1, "subject": "", "purged_at": now}
        connection.execute(
            insert_new(dead_letter_tombstones),
            [{"letter_id": letter_id, **nothing_else} for letter_id in strays],
        )
    return Sought(len(strays), (seen[-1].received_at, seen[-1].event_id) if len(seen) == limit else None)


def newest_of_keys(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Newest]:
    """Key -> what was its newest letter. Read after the letters themselves, which a purge holds locked."""
    if not keys:
        return {}
    query = (
        sa.select(dead_letter_tombstones)
        .where(tombstones.idempotency_key.in_(keys))
        .order_by(tombstones.generation)
    )
    return {
        row.idempotency_key: Newest(row.letter_id, State(row.state), row.generation, row.subject)
        for row in connection.execute(query)
    }


def key_of(connection: sa.Connection, letter_id: str) -> str | None:
    """The idempotency key of a letter that was purged; None: of no such letter is it known."""
    query = sa.select(tombstones.idempotency_key).where(tombstones.letter_id == letter_id)
    found: str | None = connection.execute(query).scalar()
    return found


def forget(connection: sa.Connection, before: datetime, limit: int) -> tuple[int, int]:
    """Forget up to ``limit`` letters that were purged before ``before``; how many, and how many events."""
    query = (
        sa.select(tombstones.letter_id)
        .where(tombstones.purged_at < before)
        .order_by(tombstones.purged_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.execute(query).scalars())
    if not ids:
        return 0, 0
    forgotten = connection.execute(sa.delete(capture_events).where(events.letter_id.in_(ids))).rowcount
    connection.execute(sa.delete(dead_letter_tombstones).where(tombstones.letter_id.in_(ids)))
    return len(ids), forgotten
