"""Stores that are killed or frozen: every answer comes in time, tells what is known, and calls nothing well."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from regrow.engine import Engine
from regrow.web import reading
from regrow.web.__main__ import impatient
from tests.servers import MariaServer, RedisServer
from tests.waiting import eventually
from tests.web import scene
from tests.web.conftest import KEY, MakeClient, MakeEngine

HOLDER = {"X-API-Key": KEY}
ALL = [
    "/",
    "/reports",
    "/status",
    "/metrics",
    "/health",
    "/health/ready",
    "/health/detailed",
    "/health/dlq",
    "/health/circuit-breakers",
]
PATIENCE = reading.READ_SECONDS + 10.0  # and room for a busy machine


@pytest.fixture
def client(
    own_redis: RedisServer, own_mysql: MariaServer, make_engine: MakeEngine, make_client: MakeClient
) -> TestClient:
    """An application on two servers of this test's own, which know the scene."""
    admin = sa.create_engine(own_mysql.url(), isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE regrow CHARACTER SET utf8mb4")
    return _with_the_scene(make_engine(own_redis.url, own_mysql.url("regrow")), make_client)


@pytest.fixture
def client_on_sqlite(
    own_redis: RedisServer, sqlite_url: str, make_engine: MakeEngine, make_client: MakeClient
) -> TestClient:
    """The same on SQLite."""
    return _with_the_scene(make_engine(own_redis.url, sqlite_url), make_client)


def _with_the_scene(patient: Engine, make_client: MakeClient) -> TestClient:
    engine = Engine(impatient(patient.settings))
    engine.database.upgrade()
    scene.paint(engine)
    return make_client(engine=engine)


def answers(client: TestClient) -> dict[str, int]:
    """The status of every endpoint, all asked at once, each within its time."""
    with ThreadPoolExecutor(len(ALL)) as people:
        return dict(zip(ALL, people.map(lambda path: answer(client, path), ALL), strict=True))


def answer(client: TestClient, path: str) -> int:
    began = time.monotonic()
    status = client.get(path, headers=HOLDER).status_code
    assert time.monotonic() - began < PATIENCE, path
    return status


def series(client: TestClient) -> set[str]:
    families = text_string_to_metric_families(client.get("/metrics", headers=HOLDER).text)
    return {sample.name for family in families for sample in family.samples}


def scrape_errors(client: TestClient) -> set[str]:
    families = text_string_to_metric_families(client.get("/metrics", headers=HOLDER).text)
    return {
        sample.labels["source"]
        for family in families
        for sample in family.samples
        if sample.name == "regrow_scrape_errors" and sample.value
    }


def statuses_told(client: TestClient) -> set[str]:
    """The status words that some series says hold."""
    families = text_string_to_metric_families(client.get("/metrics", headers=HOLDER).text)
    return {
        s.labels["status"] for family in families for s in family.samples if "status" in s.labels and s.value
    }


def is_alive_at_once(client: TestClient) -> bool:
    began = time.monotonic()
    assert client.get("/health/live").status_code == 200
    return time.monotonic() - began < 1.0


def test_redis_killed_then_back(client_on_sqlite: TestClient, own_redis: RedisServer) -> None:
    client = client_on_sqlite
    assert answers(client)["/health/ready"] == 200

    own_redis.kill()

    assert is_alive_at_once(client)
    told = answers(client)
    assert told["/health/ready"] == 503
    assert told["/health/circuit-breakers"] == 503
    assert told["/"] == told["/status"] == told["/metrics"] == told["/reports"] == 200
    page = client.get("/").text
    assert "The circuit breakers cannot be read just now" in page
    assert "14" in page  # the letters are still there
    assert "All is well" not in page
    # The database still knows the last results of the checks.
    assert client.get("/health/dlq", headers=HOLDER).json()["by_state"]["pending"] == 14
    assert "circuit_breaker_state" not in series(client)
    assert "dlq_messages_total" in series(client)
    assert scrape_errors(client) == {"breakers", "counters", "level"}

    own_redis.start()
    eventually(lambda: client.get("/health/ready").status_code == 200, what="ready again by itself")
    assert scrape_errors(client) == set()


def test_the_database_killed_then_back(client: TestClient, own_mysql: MariaServer) -> None:
    own_mysql.kill()

    assert is_alive_at_once(client)
    told = answers(client)
    assert told["/health/ready"] == told["/health/dlq"] == 503
    assert told["/"] == told["/status"] == told["/metrics"] == 200
    page = client.get("/").text
    for what in ("The jobs", "The dead letters", "The reports", "The incidents", "The alerts"):
        assert f"{what} cannot be read just now" in page
    assert "Jobs, dead letters, ledger, incidents and alerts cannot be read from the database" in page
    assert "answers; 14.2 MB used" in page  # the checks come from Redis
    assert not {"dlq_messages_total", "regrow_job_last_run_timestamp_seconds"} & series(client)
    assert {"circuit_breaker_state", "health_check_status"} <= series(client)
    assert scrape_errors(client) == {"alerts", "dead_letters", "jobs", "ledger", "objectives"}
    assert client.get("/health/detailed", headers=HOLDER).json()["dead_letters"]["status"] == "unknown"

    own_mysql.start()
    eventually(lambda: client.get("/health/ready").status_code == 200, what="ready again by itself")
    eventually(lambda: scrape_errors(client) == set(), what="and all is told again")


def test_both_frozen_at_once(client: TestClient, own_redis: RedisServer, own_mysql: MariaServer) -> None:
    assert answers(client)["/"] == 200
    assert own_mysql.process is not None
    own_redis.signal(signal.SIGSTOP)
    own_mysql.process.send_signal(signal.SIGSTOP)

    assert is_alive_at_once(client)
    told = answers(client)
    assert told == {
        **dict.fromkeys(ALL, 503),
        "/": 200,
        "/status": 200,
        "/metrics": 200,
        "/reports": 503,
    }
    assert client.get("/health").json()["status"] == "unknown"
    page = client.get("/").text
    assert "Not everything is known" in page
    assert "badge healthy" not in page
    assert scrape_errors(client) >= {"breakers", "counters", "dead_letters", "jobs"}
    assert statuses_told(client) <= {"unknown"}

    own_redis.signal(signal.SIGCONT)
    own_mysql.process.send_signal(signal.SIGCONT)
    eventually(lambda: client.get("/health/ready").status_code == 200, what="ready again by itself")
    eventually(lambda: scrape_errors(client) == set(), what="everything is read again")


def test_a_database_without_tables_is_not_ready_and_says_so_only_to_the_key_holder(
    make_engine: MakeEngine, make_client: MakeClient, redis_url: str, sqlite_url: str
) -> None:
    client = make_client(engine=make_engine(redis_url, sqlite_url))
    client.app.state.reader.engine.database.downgrade("base")  # type: ignore[attr-defined]
    assert client.get("/health/ready").json()["dependencies"] == {"redis": "up", "database": "down"}
    assert client.get("/").status_code == 200
    assert client.get("/status", headers=HOLDER).json()["dead_letters"]["status"] == "unknown"
