"""The level in the database: its changes, which are also the account of time, and what people ordered.

A change is written once (its revision is unique), whoever writes it and however often. ``seen_at`` of the
newest one moves on while the monitor confirms the level; what lies between it and the next change is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from regrow.database import Database
from regrow.database.inserting import insert_new
from regrow.database.retention import delete_older
from regrow.database.tables import degradation_changes as changes
from regrow.database.tables import degradation_orders as orders
from regrow.degradation.levels import LEVELS, Level
from regrow.degradation.state import Change, Order

EVERYTHING = "system"
"""What an order is for. There is one level, of the whole system."""


@dataclass(frozen=True)
class PastChange:
    """A change as it is kept. ``seen_at``: until when the monitor is known to have confirmed the level."""

    revision: int
    at: datetime
    seen_at: datetime
    old: Level | None
    new: Level
    automatic: Level
    reason: str
    actor: str | None
    low: float
    high: float


def kept_order(connection: sa.Connection) -> Order | None:
    """The last order that a person gave."""
    row = connection.execute(sa.select(orders).where(orders.c.scope == EVERYTHING)).mappings().one_or_none()
    if row is None:
        return None
    return Order(
        revision=row["revision"],
        level=Level(row["level"]) if row["level"] else None,
        actor=row["actor"],
        reason=row["reason"],
        at=ms(row["at"]),
        until=ms(row["until"]) if row["until"] else 0,
    )


def keep_order(connection: sa.Connection, order: Order) -> bool:
    """Write an order down, unless a later one is there; whether it was written."""
    values = {
        "revision": order.revision,
        "level": None if order.level is None else str(order.level),
        "actor": order.actor,
        "reason": order.reason,
        "at": moment(order.at),
        "until": moment(order.until) if order.until else None,
    }
    older = sa.update(orders).where(orders.c.scope == EVERYTHING, orders.c.revision < order.revision)
    if connection.execute(older.values(values)).rowcount:
        return True
    insert = insert_new(orders)
    return bool(connection.execute(insert.values(scope=EVERYTHING, **values)).rowcount)


def keep_changes(connection: sa.Connection, told: Sequence[Change]) -> list[Change]:
    """Write changes down; those that were not there yet."""
    insert = insert_new(changes)
    return [change for change in told if connection.execute(insert.values(_row(change))).rowcount]


def confirm(connection: sa.Connection, revision: int, at: int) -> None:
    """The monitor has confirmed the level of the newest change at ``at`` (ms)."""
    still = (changes.c.revision == revision) & (changes.c.seen_at < moment(at))
    connection.execute(sa.update(changes).where(still).values(seen_at=moment(at)))


def newest(connection: sa.Connection) -> PastChange | None:
    """The last change that is known."""
    query = sa.select(changes).order_by(changes.c.revision.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _past(row)


def past(database: Database, limit: int = 50) -> list[PastChange]:
    """The newest changes first."""
    query = sa.select(changes).order_by(changes.c.revision.desc()).limit(limit)
    with database.snapshot() as connection:
        return [_past(row) for row in connection.execute(query).mappings()]


def within(connection: sa.Connection, start: datetime, end: datetime) -> list[PastChange]:
    """The changes of a period, and the one that holds at its start; oldest first."""
    before = sa.select(sa.func.max(changes.c.revision)).where(changes.c.at < start).scalar_subquery()
    wanted = ((changes.c.at >= start) & (changes.c.at < end)) | (changes.c.revision == before)
    query = sa.select(changes).where(wanted).order_by(changes.c.revision)
    return [_past(row) for row in connection.execute(query).mappings()]


def prune(database: Database, before: datetime, but: int) -> int:
    """Delete what is older than ``before``, but for the revision ``but``; how many went."""
    return delete_older(database, changes, changes.c.at, before, changes.c.revision != but)


def time_in_levels(
    told: Sequence[PastChange], start: datetime, end: datetime, hold: timedelta
) -> dict[str, timedelta]:
    """How long each level held in ``[start, end)``, and how long it is ``unknown``; the sum is the period.

    ``told``: of :func:`within`. A level that was confirmed last at ``seen_at`` is known for ``hold`` more.
    """
    spent: dict[str, timedelta] = {str(level): timedelta() for level in (*LEVELS, "unknown")}
    at = start
    for number, change in enumerate(told):
        following = told[number + 1].at if number + 1 < len(told) else end
        begins, ends = max(change.at, start), min(following, end)
        known_until = max(begins, min(ends, change.seen_at + hold))
        spent["unknown"] += max(begins - at, timedelta())
        spent[change.new] += known_until - begins
        spent["unknown"] += max(ends - known_until, timedelta())
        at = max(ends, begins)
    spent["unknown"] += max(end - at, timedelta())
    return spent


def moment(at: int) -> datetime:
    """Milliseconds of the epoch as an aware time."""
    return datetime.fromtimestamp(at / 1000, UTC)


def ms(at: datetime) -> int:
    """An aware time as milliseconds of the epoch."""
    return round(at.timestamp() * 1000)


def _row(change: Change) -> dict[str, Any]:
    return {
        "revision": change.revision,
        "at": moment(change.at),
        "seen_at": moment(change.at),
        "old_level": None if change.old is None else str(change.old),
        "new_level": str(change.new),
        "automatic": str(change.automatic),
        "reason": change.reason,
        "actor": change.actor or None,
        "score_low": change.low,
        "score_high": change.high,
    }


def _past(row: Any) -> PastChange:
    return PastChange(
        revision=row["revision"],
        at=row["at"],
        seen_at=row["seen_at"],
        old=Level(row["old_level"]) if row["old_level"] else None,
        new=Level(row["new_level"]),
        automatic=Level(row["automatic"]),
        reason=row["reason"],
        actor=row["actor"],
        low=row["score_low"],
        high=row["score_high"],
    )
