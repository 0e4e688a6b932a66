"""Data keys in the database, wrapped: one for each service and subject. Steps in the caller's transaction.

A data key lies nowhere else, so that deleting it here erases what it sealed, in tables and archives alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import data_keys

keys = data_keys.c

Scope = tuple[str, str]
"""(service, digest of the subject or "")."""
DIGESTS: Scope = ("", "")
"""The scope of the one key that digests are made with; it has this id, so that there is one."""
DIGEST_ID = "digest"


@dataclass(frozen=True)
class DataKey:
    """One row; ``wrapped`` None: erased."""

    id: str
    service: str
    subject: str
    key_id: str
    wrapped: bytes | None
    created_at: datetime
    erased_at: datetime | None


def usable(connection: sa.Connection, scopes: Collection[Scope]) -> dict[Scope, DataKey]:
    """The keys to seal with, locked against erasure until the caller's transaction ends."""
    query = (
        sa.select(data_keys)
        .where(sa.tuple_(keys.service, keys.subject).in_(sorted(scopes)), keys.erased_at.is_(None))
        .order_by(keys.id)
        .with_for_update(read=True)
    )
    return {(row.service, row.subject): row for row in _rows(connection, query)}


def add(connection: sa.Connection, new: Iterable[DataKey]) -> None:
    rows = [vars(one) for one in new]
    if rows:
        connection.execute(sa.insert(data_keys), rows)


def by_ids(connection: sa.Connection, ids: Collection[str]) -> dict[str, DataKey]:
    return {row.id: row for row in _rows(connection, sa.select(data_keys).where(keys.id.in_(ids)))}


def wrapped_by_others(connection: sa.Connection, current: str, limit: int) -> list[DataKey]:
    """Keys that another key than the current one wraps, locked; those in another's hands are skipped."""
    query = (
        sa.select(data_keys)
        .where(keys.erased_at.is_(None), keys.key_id != current)
        .order_by(keys.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return _rows(connection, query)


def rewrap(connection: sa.Connection, data_key_id: str, key_id: str, wrapped: bytes) -> None:
    change = sa.update(data_keys).where(keys.id == data_key_id).values(key_id=key_id, wrapped=wrapped)
    connection.execute(change)


def counts(connection: sa.Connection) -> dict[str, int]:
    """How many data keys each key wraps."""
    query = sa.select(keys.key_id, sa.func.count()).where(keys.erased_at.is_(None)).group_by(keys.key_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def samples(connection: sa.Connection) -> list[DataKey]:
    """One data key for each key that wraps any."""
    first = sa.select(sa.func.min(keys.id)).where(keys.erased_at.is_(None)).group_by(keys.key_id)
    ids = list(connection.execute(first).scalars())
    return list(by_ids(connection, ids).values())


def erase(connection: sa.Connection, which: sa.ColumnElement[bool], now: datetime) -> int:
    """Destroy keys; waits for captures that are sealing with them. Returns how many went."""
    query = sa.select(keys.id).where(which, keys.erased_at.is_(None)).order_by(keys.id).with_for_update()
    ids = list(connection.execute(query).scalars())
    if ids:
        gone = sa.update(data_keys).where(keys.id.in_(ids)).values(wrapped=None, erased_at=now)
        connection.execute(gone)
    return len(ids)


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[DataKey]:
    return [DataKey(**row) for row in connection.execute(query).mappings()]
