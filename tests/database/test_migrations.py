"""Migrations go up and down on each database, and say the same as the tables."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from regrow.database import Database, migrating
from regrow.database.tables import metadata

pytestmark = pytest.mark.usefixtures("real_migrations")


def test_upgrade_makes_every_table_and_a_second_one_changes_nothing(database_url: str) -> None:
    database = Database(database_url)
    assert database.revision() is None
    database.upgrade()
    database.upgrade()
    assert database.revision() == migrating.newest()
    with database.snapshot() as connection:
        assert set(metadata.tables) <= set(sa.inspect(connection).get_table_names())
    database.close()


def test_models_match_migrations(database: Database) -> None:
    with database.snapshot() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_downgrade_leaves_nothing_but_the_version_table(database: Database) -> None:
    database.downgrade("base")
    with database.snapshot() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    database.upgrade()
    assert database.revision() == migrating.newest()


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    for _ in range(3):
        together = [Database(database_url) for _ in range(6)]
        start = threading.Barrier(len(together))

        def upgrade(database: Database, start: threading.Barrier = start) -> None:
            start.wait()
            database.upgrade()

        with ThreadPoolExecutor(len(together)) as pool:
            for done in [pool.submit(upgrade, database) for database in together]:
                done.result(60)
        together[0].downgrade("base")
        for database in together:
            database.close()


def test_the_lock_is_held_until_the_migration_is_committed(mysql_url: str) -> None:
    database, watcher = Database(mysql_url), Database(mysql_url)
    holders: list[object] = []

    def look(_connection: sa.Connection) -> None:  # just before each commit
        with watcher.snapshot() as connection:
            holders.append(connection.execute(sa.text("SELECT IS_USED_LOCK('regrow.migrations')")).scalar())

    sa.event.listen(sa.Engine, "commit", look)
    try:
        database.upgrade()
    finally:
        sa.event.remove(sa.Engine, "commit", look)
    assert holders
    assert None not in holders
    database.close()
    watcher.close()


def test_a_migration_may_take_longer_than_a_request(mysql_url: str) -> None:
    database = Database(mysql_url, statement_timeout=1)
    with migrating._exclusively(database) as connection:
        assert connection.execute(sa.text("SELECT SLEEP(1.5)")).scalar() == 0
    database.close()


def test_letters_of_an_earlier_version_survive_with_bodies_and_attempts(database_url: str) -> None:
    database = Database(database_url)
    database.upgrade("0006")
    at = "2026-05-04 03:02:01"
    kept = {
        "dead_letters": {
            **dict.fromkeys(("id", "idempotency_key", "service", "message_type", "confirm"), "a"),
            **dict.fromkeys(("error_class", "error_message", "fingerprint"), "a"),
            **dict.fromkeys(("generation", "seen", "attempts", "max_retries"), 1),
            **dict.fromkeys(("due_at", "first_failed_at", "last_failed_at", "created_at"), at),
            "state": "pending",
        },
        "dead_letter_bodies": {
            "letter_id": "a",
            "content_type": "t",
            "content_encoding": "u",
            "headers": "{}",
            "body": b"1",
        },
        "dead_letter_attempts": {"token": "t", "letter_id": "a", "owner": "o", "leased_at": at},
    }
    with database.transaction() as connection:
        for table, row in kept.items():
            connection.execute(sa.table(table, *map(sa.column, row)).insert(), row)
    database.upgrade()
    query = sa.select(metadata.tables["dead_letters"])
    with database.snapshot() as connection:
        row = connection.execute(query).mappings().one()
    assert (row["rank"], row["failure_class"], row["priority"]) == (row["due_at"], "unknown", "normal")
    assert (row["waits"], row["order_key"]) == (0, None)
    database.downgrade("0006")
    with database.snapshot() as connection:
        for table in kept:
            count = sa.select(sa.func.count()).select_from(sa.table(table))
            assert connection.execute(count).scalar() == 1
    database.close()
