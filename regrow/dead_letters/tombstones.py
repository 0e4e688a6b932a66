"""What is remembered of purged letters: steps inside the caller's transaction.

A tombstone, and the events of its letter, stay for ``dead_letters.tombstone_days`` after the purge. For so
long a capture that is told again is known by its event, and one of the same key is the next generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import capture_events, dead_letter_tombstones
from regrow.dead_letters.rules import State
from regrow.dead_letters.store import Newest

tombstones = dead_letter_tombstones.c


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
    events = sa.delete(capture_events).where(capture_events.c.letter_id.in_(ids))
    forgotten = connection.execute(events).rowcount
    connection.execute(sa.delete(dead_letter_tombstones).where(tombstones.letter_id.in_(ids)))
    return len(ids), forgotten
