"""The level over HTTP: shown, set and cleared by who holds the key, and written down."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from regrow.database.tables import audit
from regrow.degradation import service
from regrow.engine import Engine
from tests.degradation.conftest import checks
from tests.web.conftest import KEY, MakeClient

SET = "/admin/reliability/degradation/set-level"
CLEAR = "/admin/reliability/degradation/clear"


@pytest.fixture
def engine(painted: Engine) -> Engine:
    return painted


@pytest.fixture
def client(make_client: MakeClient, engine: Engine) -> TestClient:
    client = make_client(engine=engine)
    client.headers["X-API-Key"] = KEY
    return client


def gauges(client: TestClient) -> dict[str, float]:
    told = text_string_to_metric_families(client.get("/metrics").text)
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in told
        for sample in family.samples
        if "degradation" in sample.name
    }


def test_a_level_that_nobody_told_is_unknown_and_has_no_series(client: TestClient) -> None:
    answer = client.get("/health/degradation")
    assert (answer.status_code, answer.json()["level"], answer.json()["assumed"]) == (503, "unknown", "minor")
    assert gauges(client) == {}
    assert "nobody has told a level" in client.get("/").text.lower()


def test_the_level_is_told_with_what_it_follows_from(client: TestClient, engine: Engine) -> None:
    service.evaluate(engine, checks("a", "b", "c"))
    answer = client.get("/health/degradation")
    told = answer.json()
    assert (answer.status_code, told["level"], told["score"]) == (
        200,
        "moderate",
        {"low": 70.0, "high": 70.0},
    )
    assert told["pulls"][0] == {"check": "a", "status": "unhealthy", "points": 10.0}
    assert told["permits"]["critical"] == ["status"]
    found = gauges(client)
    assert (found["system_degradation_level"], found["degradation_scorelow"]) == (2.0, 70.0)
    assert found["degradation_events_totalnonemoderate"] == 1.0
    page = client.get("/").text
    assert "The level is moderate" in page
    assert "Points it costs" in page


def test_who_holds_the_key_sets_and_clears_it_and_that_is_written_down(
    client: TestClient, engine: Engine
) -> None:
    service.evaluate(engine, checks())
    asked = {"level": "severe", "reason": "maintenance", "seconds": 60}
    answer = client.post(SET, params=asked)
    assert (answer.status_code, answer.json()["heard"], answer.json()["audited"]) == (200, True, True)
    assert answer.json()["degradation"]["ordered"]["reason"] == "maintenance"
    assert gauges(client)["degradation_overridden"] == 1.0
    assert client.post(CLEAR, params={"reason": "done"}).json()["degradation"]["level"] == "normal"
    with engine.database.snapshot() as connection:
        rows = connection.execute(
            sa.select(audit.c.act, audit.c.reason).where(audit.c.act.like("degradation.%"))
        )
        assert [tuple(row) for row in rows] == [
            ("degradation.set", "maintenance"),
            ("degradation.clear", "done"),
        ]


@pytest.mark.parametrize(
    "asked",
    [
        {"level": "awful", "reason": "x"}, {"level": "minor"}, {"level": "minor", "reason": ""}, {"reason": "x"},
        {"level": "minor", "reason": "x", "seconds": -1}, {"level": "minor", "reason": "x", "seconds": "nan"},
        {"level": "minor", "reason": " "},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for(client: TestClient, asked: dict[str, str]) -> None:
    answer = client.post(SET, params=asked)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_without_the_key_nothing_is_set_not_even_by_a_browser_that_signed_in(
    make_client: MakeClient, engine: Engine
) -> None:
    client = make_client(engine=engine)
    client.post("/sign-in", data={"key": KEY})
    for path in (SET, CLEAR):
        assert client.post(path, params={"level": "critical", "reason": "x"}).status_code == 401
    assert service.status(engine).ordered is None
