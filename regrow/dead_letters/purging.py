"""Deleting settled letters for good. Steps inside the caller's transaction; unsettled letters never go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import archived_letters, dead_letter_archives, dead_letters
from regrow.dead_letters import ledger, tombstones
from regrow.dead_letters.rules import SETTLED, State

letters = dead_letters.c
_TOLD = (
    letters.id,
    letters.service,
    letters.state,
    letters.idempotency_key,
    letters.generation,
    letters.subject,
)
"""What books and tombstones need to know of a letter."""


def purge_settled(connection: sa.Connection, before: datetime, limit: int, now: datetime) -> int:
    """Delete up to ``limit`` letters that were settled before ``before``; returns how many went."""
    went = 0
    # One state after the other, each in the order of its index: nothing is sorted, and no other row locked.
    for state in sorted(SETTLED):
        if went < limit:
            went += _delete(connection, settled_before(state, before, limit - went), now)
    return went


def settled_before(state: State, before: datetime, limit: int) -> sa.Select[Any]:
    return (
        sa.select(*_TOLD)
        .where(letters.state == state, letters.settled_at < before)
        .order_by(letters.settled_at, letters.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


def purge_archived(connection: sa.Connection, archive_id: str, ids: Sequence[str], now: datetime) -> int:
    """Delete those of ``ids`` that are settled and recorded in this archive, which keeps count of them."""
    query = (
        sa.select(*_TOLD)
        .join(archived_letters, archived_letters.c.letter_id == letters.id)
        .where(archived_letters.c.archive_id == archive_id, letters.id.in_(ids), letters.state.in_(SETTLED))
        .with_for_update()
    )
    went = _delete(connection, query, now)
    archives = dead_letter_archives.c
    connection.execute(
        sa.update(dead_letter_archives).where(archives.id == archive_id).values(purged=archives.purged + went)
    )
    return went


def _delete(connection: sa.Connection, which: sa.Select[Any], now: datetime) -> int:
    rows = connection.execute(which).all()
    if rows:
        # Bodies and attempts go with their letter (ON DELETE CASCADE); its events stay with its tombstone.
        connection.execute(sa.delete(dead_letters).where(letters.id.in_([row.id for row in rows])))
        tombstones.bury(connection, rows, now)
        ledger.purged(connection, [(row.service, State(row.state)) for row in rows])
    return len(rows)
