"""Inserting: many rows of one table at once, and what may be there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from regrow.database.columns import UtcDateTime


def insert_many(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, ignore: bool = False
) -> None:
    """Insert rows that all have the same columns. IntegrityError: one of them is there already; with
    ``ignore`` it stays as it is.

    Columns that no row fills are left to their default: a third of a letter's, and each costs. A value that
    all rows share, as the time at which they came, is made ready once. SQLAlchemy's own way through a
    statement costs a fifth of keeping a letter.
    """
    if not rows:
        return
    names, columns = [], []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if values.count(None) == len(values):
            continue
        kind: Any = table.c[name].type.dialect_impl(connection.dialect)
        process = kind.bind_processor(connection.dialect)
        names.append(name)
        columns.append(_made_ready(_as_text(process) if isinstance(kind, UtcDateTime) else process, values))
    statement = _statement(table, tuple(names), connection.dialect, ignore)
    connection.exec_driver_sql(statement, list(zip(*columns, strict=True)))


def insert_new(table: sa.Table) -> sa.Insert:
    """An insert that leaves alone what is there already, on every database. (SQLAlchemy knows MariaDB as a
    dialect of its own when the URL says so.)"""
    ignoring = sa.insert(table).prefix_with("OR IGNORE", dialect="sqlite")
    for dialect in ("mysql", "mariadb"):
        ignoring = ignoring.prefix_with("IGNORE", dialect=dialect)
    return ignoring


def _as_text(process: Any) -> Any:
    """A driver that writes values into the statement takes much longer over a time than over its text."""

    def text_of(value: datetime | None) -> Any:
        stored = process(value)
        return stored.isoformat(" ") if isinstance(stored, datetime) else stored

    return text_of


def _made_ready(process: Any, values: list[Any]) -> list[Any]:
    if process is None:
        return values
    first = values[0]
    if all(value is first for value in values):
        return [process(first)] * len(values)
    return [process(value) for value in values]


@lru_cache(maxsize=64)
def _statement(table: sa.Table, names: tuple[str, ...], dialect: sa.Dialect, ignore: bool) -> str:
    quote = dialect.identifier_preparer.quote
    place = "?" if dialect.positional else "%s"  # drivers of MySQL take places by their order, too
    into = ", ".join(map(quote, names))
    word = "" if not ignore else "OR IGNORE " if dialect.name == "sqlite" else "IGNORE "
    return f"INSERT {word}INTO {quote(table.name)} ({into}) VALUES ({', '.join([place] * len(names))})"  # noqa: S608 - names of ours
