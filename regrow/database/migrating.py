"""Running the migrations from code, so that `regrow db upgrade`, the worker and the tests do the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from regrow.database.session import Database
from regrow.errors import StoreUnavailableError

_LOCK = "regrow.migrations"
_LOCK_SECONDS = 60
_LONGEST = 86_400.0
"""Seconds that one statement may take: an index on a big table outlasts whatever a request may wait."""


def upgrade(database: Database, revision: str) -> None:
    with _exclusively(database) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    with _exclusively(database) as connection:
        command.downgrade(_config(connection), revision)


def current(database: Database) -> str | None:
    with database.snapshot() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The revision that this version of Regrow works with."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _exclusively(database: Database) -> Iterator[Connection]:
    """One migration at a time: worker, beat and web start together and may all try."""
    if database.is_sqlite:
        with database.transaction() as connection:
            yield connection
        return
    # Cut off in the middle, a migration leaves tables that are neither of one version nor of the next one.
    patient = Database(database.engine.url, pool_size=2, statement_timeout=_LONGEST)
    try:
        with _locked(patient) as connection:
            yield connection
    finally:
        patient.close()


@contextmanager
def _locked(database: Database) -> Iterator[Connection]:
    # The lock has a connection of its own: it must be held until the migration has been committed, or the
    # next process finds the tables made and their revision not yet written.
    with database.snapshot() as lock:
        got = lock.execute(sa.text("SELECT GET_LOCK(:n, :s)"), {"n": _LOCK, "s": _LOCK_SECONDS})
        if got.scalar() != 1:
            raise StoreUnavailableError(
                f"another process has been migrating the database for over {_LOCK_SECONDS} s; "
                "look at it before you try again"
            )
        try:
            with database.transaction() as connection:
                yield connection
        finally:
            lock.execute(sa.text("SELECT RELEASE_LOCK(:n)"), {"n": _LOCK})
