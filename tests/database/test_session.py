"""Transactions do not lose updates, lost races are run again, absence has one name."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from regrow.database import Database
from regrow.database.retention import delete_older
from regrow.database.tables import audit, job_runs
from regrow.errors import StoreUnavailableError
from tests.servers import MariaServer, free_port


def _row(at: datetime, actor: str = "test") -> dict[str, object]:
    return {"at": at, "actor": actor, "act": "a", "subject": "s", "reason": "r", "details": {}}


def test_concurrent_increments_lose_no_update(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(sa.insert(audit).values(_row(datetime.now(UTC), actor="0")))

    def increment() -> None:
        for _ in range(50):

            def work(connection: sa.Connection) -> None:
                now = connection.execute(sa.select(audit.c.actor).with_for_update()).scalar_one()
                connection.execute(sa.update(audit).values(actor=str(int(now) + 1)))

            database.run(work)

    threads = [threading.Thread(target=increment) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.snapshot() as connection:
        assert connection.execute(sa.select(audit.c.actor)).scalar_one() == "200"


def test_deadlocks_are_run_again_until_both_sides_are_done(mysql_url: str) -> None:
    database = Database(mysql_url)
    database.upgrade()
    with database.transaction() as connection:
        connection.execute(sa.insert(audit), [_row(datetime.now(UTC), "x"), _row(datetime.now(UTC), "y")])
    met = threading.Barrier(2, timeout=10)
    tries: list[str] = []

    def cross(first: int, second: int, name: str) -> None:
        def work(connection: sa.Connection) -> None:
            tries.append(name)
            connection.execute(sa.update(audit).where(audit.c.id == first).values(reason=name))
            if tries.count(name) == 1:
                met.wait()  # both hold one row now; each wants the other's: a certain deadlock
            connection.execute(sa.update(audit).where(audit.c.id == second).values(reason=name))

        database.run(work)

    threads = [
        threading.Thread(target=cross, args=(1, 2, "a")),
        threading.Thread(target=cross, args=(2, 1, "b")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) == 3, "one of the two lost and ran again"
    with database.snapshot() as connection:
        assert len(set(connection.execute(sa.select(audit.c.reason)).scalars())) == 1
    database.close()


def test_an_error_in_the_work_is_rolled_back_and_not_retried(database: Database) -> None:
    calls = []

    def work(connection: sa.Connection) -> None:
        calls.append(1)
        connection.execute(sa.insert(audit).values(_row(datetime.now(UTC))))
        raise KeyError("mine")

    with pytest.raises(KeyError):
        database.run(work)
    with database.snapshot() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(audit)).scalar_one() == 0
    assert calls == [1]


def test_times_come_back_aware_in_utc_with_microseconds(database: Database) -> None:
    at = datetime(2026, 3, 29, 3, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with database.transaction() as connection:
        connection.execute(sa.insert(audit).values(_row(at)))
    with database.snapshot() as connection:
        back = connection.execute(sa.select(audit.c.at)).scalar_one()
    assert back == at
    assert back.tzinfo is UTC


def test_a_naive_time_is_refused(database: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="no time zone"), database.transaction() as connection:
        connection.execute(sa.insert(audit).values(_row(datetime(2026, 1, 1))))  # noqa: DTZ001


def test_retention_deletes_in_chunks_only_what_is_older(database: Database) -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    rows = [
        {
            "job": "j",
            "started_at": now - timedelta(minutes=n),
            "duration": 0.1,
            "outcome": "succeeded",
            "summary": {},
            "host": "h",
        }
        for n in range(2_500)
    ]
    with database.transaction() as connection:
        connection.execute(sa.insert(job_runs), rows)
    assert delete_older(database, job_runs, job_runs.c.started_at, now - timedelta(minutes=99)) == 2_400
    with database.snapshot() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(job_runs)).scalar_one() == 100


def test_an_absent_server_is_store_unavailable_and_names_no_password() -> None:
    database = Database(f"mysql+pymysql://u:hush@127.0.0.1:{free_port()}/x", connect_timeout=1)
    with pytest.raises(StoreUnavailableError) as caught:
        database.ping()
    assert "hush" not in str(caught.value)


def test_a_url_that_says_nothing_of_tls_will_do(mysql_url: str) -> None:
    """The other tests go without it, to be quick."""
    database = Database(mysql_url.partition("?")[0])
    database.ping()
    database.close()


def test_a_restarted_server_is_found_again_without_a_new_engine(own_mysql: MariaServer) -> None:
    database = Database(own_mysql.url("mysql"))
    database.ping()
    own_mysql.kill()
    with pytest.raises(StoreUnavailableError):
        database.ping()
    own_mysql.start()
    database.ping()
    database.close()


def test_a_server_that_became_read_only_is_away_not_wrong(own_mysql: MariaServer) -> None:
    admin = Database(own_mysql.url("mysql"))
    with admin.transaction() as connection:
        connection.exec_driver_sql("CREATE DATABASE regrow")
        connection.exec_driver_sql("CREATE USER plain@'127.0.0.1' IDENTIFIED BY 'x'")
        connection.exec_driver_sql("GRANT ALL ON regrow.* TO plain@'127.0.0.1'")
    database = Database(own_mysql.url("regrow").replace("root@", "plain:x@"))
    database.upgrade()
    with admin.transaction() as connection:
        connection.exec_driver_sql("SET GLOBAL read_only = 1")
    database.ping()
    with pytest.raises(StoreUnavailableError, match="read-only"):
        database.ping_writing()
    with pytest.raises(StoreUnavailableError, match="read-only"):
        database.run(lambda connection: connection.execute(sa.insert(audit).values(_row(datetime.now(UTC)))))
    with admin.transaction() as connection:
        connection.exec_driver_sql("SET GLOBAL read_only = 0")
    database.ping_writing()
    database.run(lambda connection: connection.execute(sa.insert(audit).values(_row(datetime.now(UTC)))))
    database.close()
    admin.close()


def test_a_full_disk_is_away_not_wrong(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    database.upgrade()
    with database.transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def write_much(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        row = {**_row(datetime.now(UTC)), "reason": "x" * 100_000}
        connection.execute(sa.insert(audit).values(row))

    with pytest.raises(StoreUnavailableError, match="full"):
        database.run(write_much)
    database.close()


def test_whoever_comes_while_another_makes_the_file_waits_for_it(tmp_path: Path) -> None:
    file = tmp_path / "regrow.sqlite3"
    first = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    first.execute("CREATE TABLE zero (n)")
    first.execute("BEGIN IMMEDIATE")  # against this one, SQLite does not wait at all
    first.execute("CREATE TABLE one (n)")
    done = threading.Timer(0.3, lambda: first.execute("COMMIT"))
    done.start()
    second = Database(f"sqlite:///{file}")
    second.ping()
    done.join()
    second.close()
    first.close()


def test_mysql_sessions_are_read_committed_in_utc(mysql_url: str) -> None:
    database = Database(mysql_url)
    with database.snapshot() as connection:
        level = (
            connection.execute(sa.text("SELECT @@transaction_isolation")).scalar_one()
            if not _is_maria(connection)
            else connection.execute(sa.text("SELECT @@tx_isolation")).scalar_one()
        )
        zone = connection.execute(sa.text("SELECT @@time_zone")).scalar_one()
    assert (level, zone) == ("READ-COMMITTED", "+00:00")
    database.close()


def _is_maria(connection: sa.Connection) -> bool:
    return "MariaDB" in str(connection.execute(sa.text("SELECT VERSION()")).scalar_one())


def test_an_error_tells_no_values(database: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError) as caught, database.transaction() as connection:
        connection.execute(sa.text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_times_of_mariadb_are_read_with_their_microseconds_and_zero_dates_as_text(mysql_url: str) -> None:
    database = Database(mysql_url)
    whole, exact, none, zero = (
        f"CAST({text} AS DATETIME(6))"
        for text in ("'2026-05-04 03:02:01'", "'2026-05-04 03:02:01.000002'", "NULL", "'0000-00-00 00:00:00'")
    )
    with database.snapshot() as connection:
        row = connection.exec_driver_sql(f"SELECT {whole}, {exact}, {none}, {zero}").one()
    assert row[:3] == (datetime(2026, 5, 4, 3, 2, 1), datetime(2026, 5, 4, 3, 2, 1, 2), None)  # noqa: DTZ001
    assert row[3] is None or str(row[3]).startswith("0000-00-00")
    database.close()
