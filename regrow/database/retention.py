"""Deleting history in chunks by primary key, so that no delete holds locks for long."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database.session import Database

_CHUNK = 1_000


def delete_older(
    database: Database,
    table: sa.Table,
    column: sa.Column[Any],
    before: datetime,
    only: sa.ColumnElement[bool] | None = None,
) -> int:
    """Delete all rows (of those that are ``only``) whose ``column`` lies before ``before``; how many went."""
    wanted = column < before if only is None else sa.and_(column < before, only)
    (key,) = table.primary_key.columns

    def one_chunk(connection: sa.Connection) -> int:
        chosen = sa.select(key).where(wanted).order_by(column).limit(_CHUNK)
        keys = connection.execute(chosen).scalars().all()
        if keys:
            connection.execute(sa.delete(table).where(key.in_(keys)))
        return len(keys)

    total = 0
    while went := database.run(one_chunk):
        total += went
    return total
