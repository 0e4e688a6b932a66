"""A migration that dies anywhere is run again, to its end: MySQL and MariaDB commit each DDL by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from regrow.database import Database, migrating, steps
from regrow.database.tables import metadata

# A hundred statements, each flushed to the disk: seconds at rest, and a disk that others use takes its time.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("real_migrations")]

ALL_OF_THEM = "nobody dies any more"
AT = "2026-05-04 03:02:01"


class Killed(BaseException):
    """As kill -9: nothing of ours runs after it, and the server undoes what was not committed."""


@pytest.fixture
def deaths() -> Iterator[list[str]]:
    """Who writes dies of it, once for each statement; those that somebody died of."""
    died_of: list[str] = []

    def die(*told: Any) -> None:
        statement = str(told[2]).strip()
        if ALL_OF_THEM in died_of:
            return
        if statement not in died_of and not statement.startswith(("SELECT", "SHOW", "DESCRIBE", "SET")):
            died_of.append(statement)
            raise Killed(statement)

    sa.event.listen(sa.Engine, "after_cursor_execute", die)
    yield died_of
    sa.event.remove(sa.Engine, "after_cursor_execute", die)


def until_done(database: Database, migrate: Callable[[], None]) -> None:
    """Another process tries, and another, as containers that are started again do."""
    for _ in range(300):
        try:
            migrate()
        except Killed:
            database.close()
        else:
            return
    raise AssertionError("it is never done")


def letters_of_an_earlier_version(database: Database, count: int) -> None:
    def row(number: int) -> dict[str, object]:
        texts = ("service", "message_type", "confirm", "error_class", "error_message", "fingerprint")
        return {
            **dict.fromkeys(texts, "a"),
            **dict.fromkeys(("generation", "seen", "attempts", "max_retries"), 1),
            **dict.fromkeys(("due_at", "first_failed_at", "last_failed_at", "created_at"), AT),
            **dict.fromkeys(("id", "idempotency_key"), f"letter-{number}"),
            "state": "resolved" if number == 0 else "pending",
        }

    made = [row(number) for number in range(count)]
    with database.transaction() as connection:
        connection.execute(sa.table("dead_letters", *map(sa.column, made[0])).insert(), made)


def test_a_migration_that_dies_of_any_of_its_statements_is_finished_by_the_next_ones(
    mysql_url: str, deaths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_CHUNK", 2)
    database = Database(mysql_url)
    deaths.append(ALL_OF_THEM)
    database.upgrade("0003")
    letters_of_an_earlier_version(database, 5)
    deaths.clear()
    until_done(database, database.upgrade)
    assert database.revision() == migrating.newest()
    letters, totals = metadata.tables["dead_letters"].c, metadata.tables["ledger_totals"].c
    with database.snapshot() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        ranks = connection.execute(sa.select(letters.rank, letters.due_at)).all()
        assert [row.rank for row in ranks] == [row.due_at for row in ranks]
        assert connection.execute(sa.select(totals.accepted, totals.resolved)).all() == [(5, 1)]
    assert len(deaths) > 60
    deaths.clear()
    until_done(database, lambda: database.downgrade("0011"))
    assert len(deaths) > 3
    assert database.revision() == "0011"
    database.close()


def test_rows_of_a_big_table_are_changed_some_at_a_time(
    mysql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_CHUNK", 2)
    database = Database(mysql_url)
    database.upgrade("0006")
    letters_of_an_earlier_version(database, 5)
    changed: list[int] = []

    def note(_connection: object, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE dead_letters"):
            changed.append(cursor.rowcount)

    sa.event.listen(sa.Engine, "after_cursor_execute", note)
    try:
        database.upgrade()
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", note)
    assert changed == [2, 2, 1]
    database.close()
