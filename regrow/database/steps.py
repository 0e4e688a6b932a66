"""The steps that migrations are made of. Each can be done again.

MySQL and MariaDB commit every DDL statement by itself, so a migration that is killed leaves some of its steps
done and its revision not written. Run again, each step looks first whether it was done. (SQLite undoes all of
an unfinished migration.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

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


def comment(table: str, column: str, kind: TypeEngine[Any], text: str) -> None:
    """On a column that may be NULL. SQLite keeps none."""
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column(table, column, existing_type=kind, existing_nullable=True, comment=text)


def update_all(
    table: sa.TableClause, key: sa.ColumnElement[str], where: sa.ColumnElement[bool], values: dict[str, Any]
) -> None:
    """Update the rows that are ``where``, which must not hold for those that are done."""
    for keys in in_chunks(key, where):
        op.execute(sa.update(table).where(key.in_(keys)).values(values))


def in_chunks(key: sa.ColumnElement[str], where: sa.ColumnElement[bool]) -> Iterator[Sequence[str]]:
    """The keys of rows that are ``where``, some at a time; what was done with them is committed each time.

    So a big table is not locked for long, and what was done before a death stays done. (On SQLite a migration
    is one transaction.)
    """
    bind = op.get_bind()
    last = ""
    while keys := bind.execute(_next_chunk(key, where, last)).scalars().all():
        yield keys
        if bind.dialect.name != "sqlite":
            bind.exec_driver_sql("COMMIT")
        last = keys[-1]


def _next_chunk(key: sa.ColumnElement[str], where: sa.ColumnElement[bool], last: str) -> sa.Select[str]:
    return sa.select(key).where(where, key > last).distinct().order_by(key).limit(_CHUNK)


def _index_name(table: str, columns: Sequence[str]) -> str:
    return f"ix_{table}_{'_'.join(columns)}"


def _inspector() -> sa.Inspector:
    """A new one each time, because it remembers what it has seen."""
    return sa.inspect(op.get_bind())


def _columns(table: str) -> set[str]:
    return {column["name"] for column in _inspector().get_columns(table)}


def _indexes(table: str) -> set[str | None]:
    return {index["name"] for index in _inspector().get_indexes(table)}
