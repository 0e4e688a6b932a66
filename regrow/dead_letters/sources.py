"""What is known of each spool: how far its entries were received, and whether some are missing.

One row a source, written in the transaction that keeps its captures. A gap that stays means that something
between an app's disk and this database lost a message, or holds it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from regrow.database.retention import delete_older
from regrow.database.tables import capture_sources
from regrow.dead_letters.receipts import Range, Received, count_new, receive
from regrow.engine import Engine

PATIENCE = timedelta(minutes=15)
"""A gap that is younger may be a message on its way, or one that waits to be sent again."""
_KEPT = timedelta(days=90)
"""Sources that are complete are forgotten after this much silence."""

_c = capture_sources.c


@dataclass(frozen=True)
class SourceState:
    """One source as the database knows it. Times are aware UTC; ``gap_since`` None: nothing is missing."""

    source: str
    host: str
    received: Received
    lost: int
    gap_since: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime

    def has_gap(self, now: datetime) -> bool:
        """Whether numbers have been missing for longer than a message takes."""
        return self.gap_since is not None and now - self.gap_since > PATIENCE


@dataclass(frozen=True)
class SourceCounts:
    """Over all sources: how many, entries missing for too long, and entries damaged on an app's disk."""

    sources: int
    missing: int
    lost: int


def note(
    connection: sa.Connection,
    source: str,
    *,
    after: int,
    numbers: Sequence[Range],
    lost: Sequence[Range],
    host: str,
    now: datetime,
) -> int:
    """Write down what has been received, in the caller's transaction; returns the watermark.

    ``after``: what a source that is not known here had received before. ``lost``: numbers that its disk no
    longer holds; they are counted once, and no longer waited for.
    """
    row = connection.execute(sa.select(capture_sources).where(_c.source == source).with_for_update()).first()
    before = _received(row) if row is not None else Received(max(0, after))
    arrived = receive(before, numbers)
    lost = [*lost, *_gone(row, arrived, after, now)]
    done = receive(arrived, lost)
    values = {
        "host": host[:255],
        "watermark": done.watermark,
        "beyond": [list(each) for each in done.beyond],
        "lost": (row.lost if row is not None else 0) + count_new(arrived, lost),
        "gap_since": _gap_since(row, done, now),
        "last_seen_at": now,
    }
    if row is None:
        connection.execute(sa.insert(capture_sources).values(source=source, first_seen_at=now, **values))
    else:
        connection.execute(sa.update(capture_sources).where(_c.source == source).values(**values))
    return done.watermark


def list_sources(engine: Engine, *, limit: int = 1000) -> list[SourceState]:
    """Sources, those with gaps or losses first, then by when they were last heard of."""
    query = (
        sa.select(capture_sources)
        .order_by(_c.gap_since.is_(None), _c.lost.desc(), _c.last_seen_at.desc())
        .limit(limit)
    )
    with engine.database.snapshot() as connection:
        return [_state(row) for row in connection.execute(query)]


def count_sources(engine: Engine) -> SourceCounts:
    """What metrics and page show; the missing are those of gaps that stayed."""
    now = engine.clock()
    with engine.database.snapshot() as connection:
        total, lost = connection.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_c.lost), 0)).select_from(capture_sources)
        ).one()
        gaping = connection.execute(sa.select(capture_sources).where(_c.gap_since < now - PATIENCE))
        return SourceCounts(int(total), sum(_state(row).received.missing for row in gaping), int(lost))


def forget_old(engine: Engine) -> int:
    """Delete the rows of sources that have long been silent and complete; returns how many."""
    return delete_older(
        engine.database,
        capture_sources,
        _c.last_seen_at,
        engine.clock() - _KEPT,
        sa.and_(_c.gap_since.is_(None), _c.lost == 0),
    )


def _gap_since(row: sa.Row[tuple[object, ...]] | None, done: Received, now: datetime) -> datetime | None:
    if not done.beyond:
        return None
    since: datetime | None = row.gap_since if row is not None else None
    return since or now


def _gone(
    row: sa.Row[tuple[object, ...]] | None, arrived: Received, after: int, now: datetime
) -> list[Range]:
    """Numbers that were received once, for the source has deleted them, and that are not known here.

    The database was set back (a failover, a backup): waited for any longer, they would keep the watermark,
    and with it all that the source holds, where it is for ever.
    """
    if row is None or row.gap_since is None or now - row.gap_since <= PATIENCE:
        return []
    return [(first, min(last, after)) for first, last in arrived.gaps if first <= after]


def _received(row: sa.Row[tuple[object, ...]]) -> Received:
    return Received(row.watermark, tuple((int(first), int(last)) for first, last in row.beyond))


def _state(row: sa.Row[tuple[object, ...]]) -> SourceState:
    return SourceState(
        row.source, row.host, _received(row), row.lost, row.gap_since, row.first_seen_at, row.last_seen_at
    )
