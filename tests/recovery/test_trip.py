"""The trip of ``tests/proof/recovery.py`` on real processes, Valkey and MariaDB, in seconds instead of minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.recovery import DATABASE, Trip, database_lost, killed_worker, outage
from tests.servers import MariaServer
from tests.waiting import eventually


@pytest.mark.slow
def test_an_outage_locks_and_ends_with_the_return_and_a_killed_worker_is_one_lost_attempt(
    tmp_path: Path, redis_url: str, mysql_url: str
) -> None:
    told: list[str] = []
    environ = {
        "REGROW_PROFILE": "testing",
        "REGROW_HOME": str(tmp_path / "home"),
        "REGROW_REDIS_URL": redis_url,
        "REGROW_DATABASE_URL": mysql_url,
        "RECOVERY_INTERVAL": "1",
    }
    trip = Trip(tmp_path, environ, slow=2.0, say=told.append)
    try:
        trip.start()
        seen = outage(trip)
        assert seen["failed_calls"] >= 5
        first, second = seen["pauses"]
        assert first >= 1
        assert second >= 2
        lost = killed_worker(trip)
        assert lost["ran"] == 2
        assert lost["apart"] >= 0
        assert trip.outcomes("slow")[0] == "lost"
    except BaseException:
        print("\n".join(told), *(process.tail() for process in trip.processes), sep="\n")
        raise
    finally:
        trip.close()


@pytest.mark.slow
def test_a_database_that_was_lost_is_used_again_as_soon_as_recovery_reaches_it(
    tmp_path: Path, redis_url: str, sqlite_url: str, own_mysql: MariaServer
) -> None:
    """Its breaker would wait ten minutes; recovery's tests, which go past it, do not."""
    told: list[str] = []
    environ = {
        "REGROW_PROFILE": "testing",
        "REGROW_HOME": str(tmp_path / "home"),
        "REGROW_REDIS_URL": redis_url,
        "REGROW_DATABASE_URL": sqlite_url,
    }
    trip = Trip(tmp_path, environ, say=told.append, more=DATABASE.format(url=own_mysql.url()))
    try:
        trip.start()
        seen = database_lost(trip, own_mysql, away=3)
        print(*told, sep="\n")
        assert seen["failed_calls"] >= 5
        eventually(lambda: "succeeded" in trip.outcomes("shop-database"), 30)
    except BaseException:
        print("\n".join(told), *(process.tail() for process in trip.processes), sep="\n")
        raise
    finally:
        trip.close()
