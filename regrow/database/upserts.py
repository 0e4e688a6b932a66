"""Rows put in the place of those with the same primary key, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite

from regrow.database.inserting import insert_new


def put(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert these rows; one whose key is there already becomes as it is given here."""
    if not rows:
        return
    names = [column.name for column in table.c if not column.primary_key]
    keys = [column.name for column in table.primary_key.columns]
    if connection.dialect.name == "sqlite":
        lite = sqlite.insert(table)
        set_ = {name: lite.excluded[name] for name in names}
        connection.execute(lite.on_conflict_do_update(index_elements=keys, set_=set_), rows)
        return
    my = mysql.insert(table)
    connection.execute(my.on_duplicate_key_update({name: my.inserted[name] for name in names}), rows)


def add_up(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]], amount: str) -> None:
    """Insert these rows; to one that is there by the table's one unique constraint ``amount`` is added."""
    if not rows:
        return
    (unique,) = (one for one in table.constraints if isinstance(one, sa.UniqueConstraint))
    if connection.dialect.name == "sqlite":
        lite = sqlite.insert(table)
        more = {amount: table.c[amount] + lite.excluded[amount]}
        connection.execute(lite.on_conflict_do_update(index_elements=list(unique.columns), set_=more), rows)
        return
    my = mysql.insert(table)
    connection.execute(my.on_duplicate_key_update({amount: table.c[amount] + my.inserted[amount]}), rows)


def add_new(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert these rows, but for those that are there already by any unique key."""
    if rows:
        connection.execute(insert_new(table), rows)
