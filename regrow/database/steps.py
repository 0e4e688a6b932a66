"""The steps that migrations are made of. Each can be done again.

MySQL and MariaDB commit every DDL statement by itself, so a migration that is killed leaves some of its steps
done and its revision not written. Run again, each step looks first whether it was done. (SQLite undoes all of
an unfinished migration.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

_CHUNK = 1_000


def create_table(name: str, *columns: sa.Column[Any] | sa.Constraint) -> None:
    if not _inspector().has_table(name):
        op.create_table(name, *columns)


def drop_table(name: str) -> None:
    if _inspector().has_table(name):
        op.drop_table(name)


def add_column(table: str, column: sa.Column[Any]) -> None:
    if column.name not in _columns(table):
        op.add_column(table, column)


def drop_column(table: str, name: str) -> None:
    # Not in a batch: on SQLite that makes the table anew, and what hangs on its rows goes with the old one.
    if name in _columns(table):
        op.drop_column(table, name)


def create_index(table: str, columns: Sequence[str], *, unique: bool = False) -> None:
    """Under the name that the tables' naming convention gives it."""
    name = _index_name(table, columns)
    if name not in _indexes(table):
        op.create_index(op.f(name), table, columns, unique=unique)


def drop_index(table: str, columns: Sequence[str]) -> None:
    name = _index_name(table, columns)
    if name in _indexes(table):
        op.drop_index(op.f(name), table_name=table)


def update_all(
    table: sa.TableClause, key: sa.ColumnElement[str], where: sa.ColumnElement[bool], values: dict[str, Any]
) -> None:
    """Update the rows that are ``where``, which must not hold for those that are done.

    Some at a time, by their key, each time committed: a big table is not locked for long, and what was
    done before a death stays done.
    """
    bind = op.get_bind()
    last = ""
    while True:
        some = sa.select(key).where(where, key > last).order_by(key).limit(_CHUNK)
        keys = bind.execute(some).scalars().all()
        if not keys:
            return
        bind.execute(sa.update(table).where(key.in_(keys)).values(values))
        commit()
        last = keys[-1]


def commit() -> None:
    """What was done so far stays. Not on SQLite, where a migration is one transaction."""
    bind = op.get_bind()
    if bind.dialect.name != "sqlite":
        bind.exec_driver_sql("COMMIT")


def _index_name(table: str, columns: Sequence[str]) -> str:
    return f"ix_{table}_{'_'.join(columns)}"


def _inspector() -> sa.Inspector:
    """A new one each time, because it remembers what it has seen."""
    return sa.inspect(op.get_bind())


def _columns(table: str) -> set[str]:
    return {column["name"] for column in _inspector().get_columns(table)}


def _indexes(table: str) -> set[str | None]:
    return {index["name"] for index in _inspector().get_indexes(table)}
