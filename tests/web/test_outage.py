"""Stores that are killed or frozen: every answer comes in time, tells what is known, and calls nothing well."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from httpx import Response
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

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


def answers(client: TestClient) -> dict[str, Response]:
    """What every endpoint answers, all asked at once, each within its time."""
    with ThreadPoolExecutor(len(ALL)) as people:
        return dict(zip(ALL, people.map(lambda path: answer(client, path), ALL), strict=True))


def answer(client: TestClient, path: str) -> Response:
    began = time.monotonic()
    found = client.get(path, headers={**HOLDER, "Accept": "*/*"})
    assert time.monotonic() - began < PATIENCE, path
    return found


def statuses(told: dict[str, Response]) -> dict[str, int]:
    return {path: found.status_code for path, found in told.items()}


def samples(metrics: Response) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(metrics.text) for sample in family.samples]


def series(metrics: Response) -> set[str]:
    return {sample.name for sample in samples(metrics)}


def scrape_errors(metrics: Response) -> set[str]:
    return {
        sample.labels["source"]
        for sample in samples(metrics)
        if sample.name == "regrow_scrape_errors" and sample.value
    }


def statuses_told(metrics: Response) -> set[str]:
    """The status words that some series says hold."""
    return {one.labels["status"] for one in samples(metrics) if "status" in one.labels and one.value}


def all_is_read(client: TestClient) -> bool:
    return scrape_errors(answer(client, "/metrics")) == set()


def is_alive_at_once(client: TestClient) -> bool:
    began = time.monotonic()
    assert client.get("/health/live").status_code == 200
    return time.monotonic() - began < 1.0


def test_redis_killed_then_back(client_on_sqlite: TestClient, own_redis: RedisServer) -> None:
    client = client_on_sqlite
    assert answers(client)["/health/ready"].status_code == 200

    own_redis.kill()

    assert is_alive_at_once(client)
    found = statuses(answers(client))
    assert found["/health/ready"] == 503
    assert found["/health/circuit-breakers"] == 503
    assert found["/"] == found["/status"] == found["/metrics"] == found["/reports"] == 200
    page = answer(client, "/").text
    assert "The circuit breakers cannot be read just now" in page
    assert "14" in page  # the letters are still there
    assert "All is well" not in page
    # The database still knows the last results of the checks.
    assert answer(client, "/health/dlq").json()["by_state"]["pending"] == 14
    metrics = answer(client, "/metrics")
    assert "circuit_breaker_state" not in series(metrics)
    assert "dlq_messages_total" in series(metrics)
    assert scrape_errors(metrics) == {"breakers", "counters", "level"}

    own_redis.start()
    eventually(lambda: client.get("/health/ready").status_code == 200, what="ready again by itself")
    eventually(lambda: all_is_read(client), what="and all is told again")


def test_the_database_killed_then_back(client: TestClient, own_mysql: MariaServer) -> None:
    own_mysql.kill()

    assert is_alive_at_once(client)
    found = statuses(answers(client))
    assert found["/health/ready"] == found["/health/dlq"] == 503
    assert found["/"] == found["/status"] == found["/metrics"] == 200
    page = answer(client, "/").text
    for what in ("The jobs", "The dead letters", "The reports", "The incidents", "The alerts"):
        assert f"{what} cannot be read just now" in page
    assert "Jobs, dead letters, ledger, incidents and alerts cannot be read from the database" in page
    assert "answers; 14.2 MB used" in page  # the checks come from Redis
    metrics = answer(client, "/metrics")
    assert not {"dlq_messages_total", "regrow_job_last_run_timestamp_seconds"} & series(metrics)
    assert {"circuit_breaker_state", "health_check_status"} <= series(metrics)
    assert scrape_errors(metrics) == {"alerts", "dead_letters", "jobs", "ledger", "objectives"}
    assert answer(client, "/health/detailed").json()["dead_letters"]["status"] == "unknown"

    own_mysql.start()
    eventually(lambda: client.get("/health/ready").status_code == 200, what="ready again by itself")
    eventually(lambda: all_is_read(client), what="and all is told again")


def test_both_frozen_at_once(client: TestClient, own_redis: RedisServer, own_mysql: MariaServer) -> None:
    assert answers(client)["/"].status_code == 200
    assert own_mysql.process is not None
    own_redis.signal(signal.SIGSTOP)
    own_mysql.process.send_signal(signal.SIGSTOP)

    assert is_alive_at_once(client)
    told = answers(client)
    assert statuses(told) == {
        **dict.fromkeys(ALL, 503),
        "/": 200,
        "/status": 200,
        "/metrics": 200,
        "/reports": 503,
    }
    assert told["/health"].json()["status"] == "unknown"
    page = told["/"].text
    assert "Not everything is known" in page
    assert "badge healthy" not in page
    assert scrape_errors(told["/metrics"]) >= {"breakers", "counters", "dead_letters", "jobs"}
    assert statuses_told(told["/metrics"]) <= {"unknown"}

    own_redis.signal(signal.SIGCONT)
    own_mysql.process.send_signal(signal.SIGCONT)
    eventually(lambda: client.get("/health/ready").status_code == 200, what="ready again by itself")
    eventually(lambda: all_is_read(client), what="everything is read again")


def test_a_database_without_tables_is_not_ready_and_says_so_only_to_the_key_holder(
    make_engine: MakeEngine, make_client: MakeClient, redis_url: str, sqlite_url: str
) -> None:
    client = make_client(engine=make_engine(redis_url, sqlite_url))
    client.app.state.reader.engine.database.downgrade("base")  # type: ignore[attr-defined]
    assert client.get("/health/ready").json()["dependencies"] == {"redis": "up", "database": "down"}
    assert client.get("/").status_code == 200
    assert client.get("/status", headers=HOLDER).json()["dead_letters"]["status"] == "unknown"
