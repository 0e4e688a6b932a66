"""One door to the database: the engine, transactions, and the one place that retries a lost race.

MySQL/MariaDB: a pool of 15, pre-ping, reset on return, READ COMMITTED, UTC. SQLite: WAL, and every
write transaction begins with BEGIN IMMEDIATE, because SQLAlchemy's default loses updates silently.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from regrow.database.tables import dead_letters
from regrow.errors import StoreUnavailableError

T = TypeVar("T")

_RACES_MYSQL = {1205, 1213, 1020}  # lock wait timeout, deadlock, record changed since the snapshot
# The server answers, but takes nothing now: a failover (read-only), a shutdown, a full disk.
_AWAY_MYSQL = {1021, 1036, 1053, 1114, 1290, 1792, 1836, 3100}
_AWAY_SQLITE = ("disk is full", "readonly database", "unable to open", "disk I/O error")
_ATTEMPTS = 6
_SQLITE_PATIENCE = 15
"""Seconds that one process waits for another's lock."""


class Database:
    """The engine and the ways to use it. One per process; :meth:`close` before or after a fork.

    ``url`` is a SQLAlchemy URL; the times are seconds.
    """

    def __init__(
        self,
        url: str | sa.URL,
        *,
        pool_size: int = 15,
        pool_timeout: float = 30.0,
        connect_timeout: float = 10.0,
        statement_timeout: float = 30.0,
    ) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() in {"mysql", "mariadb"} and parsed.drivername in {"mysql", "mariadb"}:
            parsed = parsed.set(drivername=f"{parsed.drivername}+pymysql")
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self.engine = _sqlite_engine(parsed, pool_size, pool_timeout)
        else:
            self.engine = sa.create_engine(
                parsed,
                hide_parameters=True,  # errors reach logs, and the values are people's messages
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=pool_timeout,
                pool_pre_ping=True,
                pool_recycle=1800,
                pool_reset_on_return="rollback",
                isolation_level="READ COMMITTED",
                connect_args={
                    "charset": "utf8mb4",
                    "connect_timeout": max(1, int(connect_timeout)),
                    "read_timeout": max(1, int(statement_timeout)),
                    "write_timeout": max(1, int(statement_timeout)),
                    "init_command": "SET time_zone = '+00:00'",
                    **({"conv": _conversions()} if parsed.get_driver_name() == "pymysql" else {}),
                },
            )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction: committed at the end, rolled back on any error.

        An absent server is StoreUnavailableError; a lost race is the driver's error (see :meth:`run`).
        """
        with self._connection() as connection:
            connection.execution_options(regrow_begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection for reading; nothing is committed."""
        with self._connection() as connection, connection.begin() as reading:
            yield connection
            reading.rollback()

    def run(self, work: Callable[[Connection], T]) -> T:
        """``work(connection)`` in a transaction, done again from the start when it lost a race.

        Deadlock, lock-wait timeout and SQLite's busy are retried up to 5 times with a growing, random
        pause; then StoreUnavailableError. ``work`` must be safe to do again after a rollback.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self.transaction() as connection:
                    return work(connection)
            except DBAPIError as error:
                if not _lost_a_race(error):
                    raise
                if attempt == _ATTEMPTS - 1:
                    raise StoreUnavailableError(
                        f"the database refused the transaction {_ATTEMPTS} times: {error.orig}"
                    ) from error
                time.sleep(random.uniform(0.5, 1.0) * 0.02 * 2**attempt)  # noqa: S311 - spreads, hides nothing
        raise AssertionError("unreachable")

    def ping(self) -> None:
        """SELECT 1 on a fresh or checked connection; StoreUnavailableError when it does not answer."""
        with self.snapshot() as connection:
            connection.execute(sa.text("SELECT 1"))

    def ping_writing(self) -> None:
        """A write that changes nothing; StoreUnavailableError when the server is away, or reads only.

        SQLite has no server that could turn read-only, and its one writer may be another: it is only pinged.
        """
        if self.is_sqlite:
            self.ping()
            return
        with self.transaction() as connection:
            connection.execute(sa.update(dead_letters).where(sa.false()).values(state=dead_letters.c.state))
            connection.rollback()  # a binary log takes statements that changed nothing, too

    def close(self, *, forked: bool = False) -> None:
        """Give all connections back. ``forked``: in a child, whose parent still uses the sockets."""
        self.engine.dispose(close=not forked)

    def upgrade(self, revision: str = "head") -> None:
        """Bring the tables to ``revision``; safe when several processes try at once."""
        from regrow.database import migrating

        migrating.upgrade(self, revision)

    def downgrade(self, revision: str) -> None:
        from regrow.database import migrating

        migrating.downgrade(self, revision)

    def revision(self) -> str | None:
        """The revision the tables are at; None for an empty database."""
        from regrow.database import migrating

        return migrating.current(self)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            connection = self.engine.connect()
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise StoreUnavailableError(f"the database did not answer: {_plainly(error)}") from error
        try:
            yield connection
        except (OperationalError, InterfaceError) as error:
            if error.connection_invalidated or _takes_nothing(error):
                raise StoreUnavailableError(f"the database went away: {_plainly(error)}") from error
            raise
        finally:
            connection.close()


def _conversions() -> dict[Any, Any]:
    """PyMySQL's, but for times, which it takes apart by an expression: a tenth of reading a letter."""
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions, convert_datetime

    def time_of(text: str) -> Any:
        try:
            return datetime.fromisoformat(text)
        except ValueError:  # a zero date, in a table of somebody else's
            return convert_datetime(text)

    return {**conversions, FIELD_TYPE.DATETIME: time_of}


def _sqlite_engine(url: sa.URL, pool_size: int, pool_timeout: float) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        poolclass=sa.pool.QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        # The driver must not begin transactions behind our back.
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": _SQLITE_PATIENCE},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={1000 * _SQLITE_PATIENCE}", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        _write_ahead(cursor)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("regrow_begin", "BEGIN"))

    return engine


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Processes that start together on a new file all switch it over, and SQLite lets none wait for another
    here, whatever ``busy_timeout`` says."""
    until = time.monotonic() + _SQLITE_PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _lost_a_race(error: DBAPIError) -> bool:
    code = _code(error)
    if isinstance(code, int):
        return code in _RACES_MYSQL
    return "database is locked" in str(error.orig) or "database table is locked" in str(error.orig)


def _takes_nothing(error: DBAPIError) -> bool:
    code = _code(error)
    if isinstance(code, int):
        return code in _AWAY_MYSQL
    return any(words in str(error.orig) for words in _AWAY_SQLITE)


def _code(error: DBAPIError) -> object:
    """The driver's number for the error; SQLite's driver has a text there."""
    return error.orig.args[0] if error.orig is not None and error.orig.args else None


def _plainly(error: Exception) -> str:
    """The driver's own words, without the statement and its values."""
    return str(getattr(error, "orig", None) or error)
