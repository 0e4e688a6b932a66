"""Databases that are ready at once: the migrations make one, and the others are copies of it.

``Database.upgrade`` runs every migration, which on an empty database takes longer than most tests. Here the first
empty database of a kind is migrated as ever; what came of it is remembered (SQLite: the file; MySQL and MariaDB:
the definitions of the tables, and their rows) and put into each empty database that is brought up to date after
it. A database that has tables already, or is brought to another revision than the newest, is migrated as ever.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from regrow.database import Database

Statement = tuple[str, tuple[Any, ...]]
_KIND = "SELECT CONCAT_WS(' ', VERSION(), @@character_set_database, @@collation_database)"
"""What tables inherit from their server and database."""


class Copies:
    """``upgrade`` stands in for the one of :mod:`regrow.database.migrating`, which is ``migrate``."""

    def __init__(self, migrate: Callable[[Database, str], None]) -> None:
        self.migrate = migrate
        self._file: bytes | None = None
        self._definitions: dict[str, list[Statement]] = {}

    def upgrade(self, database: Database, revision: str) -> None:
        if revision != "head":
            self.migrate(database, revision)
        elif database.is_sqlite:
            self._fill_file(database)
        else:
            self._fill_server(database)

    def _fill_file(self, database: Database) -> None:
        file = Path(database.engine.url.database or ":memory:")
        if file.name == ":memory:" or (file.exists() and file.stat().st_size):
            self.migrate(database, "head")
        elif self._file is None:
            self.migrate(database, "head")
            with contextlib.closing(sqlite3.connect(file)) as connection:
                self._file = connection.serialize()
        else:
            whole = file.with_name(f"{file.name}.copy")
            whole.write_bytes(self._file)
            whole.rename(file)

    def _fill_server(self, database: Database) -> None:
        with database.snapshot() as connection:
            kind = str(connection.exec_driver_sql(_KIND).scalar())
            is_empty = connection.exec_driver_sql("SHOW TABLES").first() is None
        known = self._definitions.get(kind)
        if not is_empty or known is None:
            self.migrate(database, "head")
        if not is_empty:
            return
        with database.transaction() as connection:
            if known is None:
                self._definitions[kind] = list(_definitions(connection))
            else:
                _define(connection, known)


def _definitions(connection: Connection) -> Iterator[Statement]:
    """What makes the same tables in an empty database, and the rows that the migrations put into them."""
    for table in connection.exec_driver_sql("SHOW TABLES").scalars().all():
        definition = str(connection.exec_driver_sql(f"SHOW CREATE TABLE `{table}`").one()[1])
        yield definition.replace("%", "%%"), ()
        for row in connection.exec_driver_sql(f"SELECT * FROM `{table}`").all():  # noqa: S608 - its own name
            yield f"INSERT INTO `{table}` VALUES ({', '.join(['%s'] * len(row))})", tuple(row)  # noqa: S608


def _define(connection: Connection, statements: list[Statement]) -> None:
    connection.exec_driver_sql("SET foreign_key_checks = 0")  # tables come in the order of their names
    try:
        for statement, values in statements:
            connection.exec_driver_sql(statement, values)
    finally:
        connection.exec_driver_sql("SET foreign_key_checks = 1")
