"""The rows of the outbox: the first of a channel, and the folding of many; within a transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.alerts.folding import Folded, Waiting, digest
from regrow.alerts.folding import fold as folded_of
from regrow.alerts.model import Notice
from regrow.database import upserts
from regrow.database.tables import alert_notices as table

AT_ONCE = 500
"""Notices that are in memory at the same time while many are folded."""


def head(connection: sa.Connection, channel: str, now: datetime) -> Any:
    """The oldest notice of a channel, held; None when there is none, or it is not due, or another's."""
    query = sa.select(table).where(_waiting(channel)).order_by(table.c.id).limit(1).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None or row["due_at"] > now:
        return None
    if row["lease_until"] is not None and row["lease_until"] > now:
        return None
    return row


def fold(
    channel: str,
    above: int,
    now: datetime,
    new_id: Callable[[datetime], str],
    after: int,
    connection: sa.Connection,
) -> tuple[int, int | None]:
    """Fold of the notices behind number ``after``; how many were, and the number to go on behind.

    Who folds holds the first one, as who sends does. What pause it has come to goes on to the next first.
    """
    first = head(connection, channel, now)
    if first is None or (after == 0 and not _is_more_than(connection, channel, above)):
        return 0, None
    some = _some(connection, channel, after)
    found = folded_of(some, _last(connection, channel, some), _told(connection, channel, some))
    if found.all:
        number = _tell(connection, channel, found, now, new_id)
        ids = [one.id for one in found.all]
        said = {"status": "folded", "settled_at": now, "error": f"told in digest {number}"}
        connection.execute(sa.update(table).where(table.c.id.in_(ids)).values(said))
        oldest = sa.select(sa.func.min(table.c.id)).where(_waiting(channel))
        next_first = connection.execute(oldest).scalar_one()
        tried = sa.update(table).where(table.c.id == next_first, table.c.attempts < first["attempts"])
        connection.execute(tried.values(attempts=first["attempts"]))
    return len(found.all), some[-1].id if len(some) == AT_ONCE else None


def row_of(notice: Notice) -> dict[str, Any]:
    """A notice as it begins to wait."""
    return {
        **asdict(notice),
        "body": dict(notice.body),
        "status": "waiting",
        "due_at": notice.at,
        "attempts": 0,
        "lease_token": None,
        "lease_until": None,
        "settled_at": None,
        "error": None,
    }


def _waiting(channel: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.status == "waiting", table.c.channel == channel)


def _is_more_than(connection: sa.Connection, channel: str, above: int) -> bool:
    beyond = sa.select(table.c.id).where(_waiting(channel)).order_by(table.c.id).offset(above).limit(1)
    return connection.execute(beyond).first() is not None


def _some(connection: sa.Connection, channel: str, after: int) -> list[Waiting]:
    columns = [table.c[name] for name in ("id", "alert", "kind", "at", "body")]
    query = sa.select(*columns).where(_waiting(channel), table.c.id > after).order_by(table.c.id)
    return [Waiting(*row) for row in connection.execute(query.limit(AT_ONCE))]


def _last(connection: sa.Connection, channel: str, some: list[Waiting]) -> dict[str, Any]:
    newest = (
        sa.select(sa.func.max(table.c.id))
        .where(_waiting(channel), table.c.alert.in_({one.alert for one in some}))
        .group_by(table.c.alert)
    )
    ids = connection.execute(newest).scalars().all()
    query = sa.select(table.c.alert, table.c.id, table.c.kind).where(table.c.id.in_(ids))
    return {alert: (number, kind) for alert, number, kind in connection.execute(query)}


def _told(connection: sa.Connection, channel: str, some: list[Waiting]) -> frozenset[str]:
    query = sa.select(table.c.alert).where(
        table.c.alert.in_({one.alert for one in some}), table.c.channel == channel, table.c.status == "sent"
    )
    return frozenset(connection.execute(query).scalars())


def _tell(
    connection: sa.Connection, channel: str, found: Folded, now: datetime, new_id: Callable[[datetime], str]
) -> str:
    """Put them into the digest that waits, or into a new one; its number."""
    c = table.c
    query = (
        sa.select(c.id, c.body).where(_waiting(channel), c.kind == "digest").order_by(c.id.desc()).limit(1)
    )
    there = connection.execute(query).mappings().one_or_none()
    body = digest(there["body"] if there else None, found, channel, new_id(now), now)
    if there:
        connection.execute(sa.update(table).where(c.id == there["id"]).values(body=body))
    else:
        notice = Notice(body["alert"], "digest", channel, "digest", now, body)
        upserts.add_new(connection, table, [row_of(notice)])
    return str(body["alert"])
