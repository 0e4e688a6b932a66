"""What the endpoints tell of real stores."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from regrow.database.tables import check_results
from regrow.engine import Engine
from regrow.health import service as health
from regrow.health.checks import heartbeats
from regrow.health.rules import Result
from regrow.health.store import LiveResults
from tests.web.conftest import KEY, MakeClient


def test_detailed_tells_every_check_with_its_age(holder: TestClient) -> None:
    answer = holder.get("/health/detailed")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/health+json"
    told = answer.json()
    assert told["status"] == "degraded"
    (payments,) = told["checks"]["payments"]
    assert payments["status"] == "unhealthy"
    assert payments["output"] == "no answer within 5 s"
    assert payments["observedValue"] == 5.0
    assert 20 <= payments["age_seconds"] < 120
    assert told["circuit_breakers"]["payments"]["state"] == "open"
    assert told["dead_letters"]["by_state"]["pending"] == 14
    assert told["jobs"]["cleanup_temp_files"]["finding"] == "Removed 243 files, freed 187.4 MB"
    assert told["jobs"]["prune_history"]["pace"] == "never ran yet"


def test_what_was_not_seen_lately_is_unknown_whatever_it_was(holder: TestClient) -> None:
    (search,) = holder.get("/health/detailed").json()["checks"]["search"]
    assert search["status"] == "unknown"
    assert "the last one was healthy" in search["output"]


def test_when_every_result_is_old_the_word_is_unknown_and_the_code_503(
    painted: Engine, make_client: MakeClient
) -> None:
    now = painted.clock
    painted.clock = lambda: now() + timedelta(hours=1)
    client = make_client(engine=painted)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unknown")
    detailed = client.get("/health/detailed", headers={"X-API-Key": KEY})
    assert detailed.status_code == 503
    assert {check[0]["status"] for check in detailed.json()["checks"].values()} == {"unknown"}
    assert detailed.json()["jobs"]["health_check_monitoring"]["pace"] == "overdue"


@pytest.mark.parametrize(
    ("status", "code"), [("healthy", 200), ("degraded", 200), ("unhealthy", 503), ("unknown", 503)]
)
def test_the_code_follows_the_word(make_client: MakeClient, painted: Engine, status: str, code: int) -> None:
    now = painted.clock()
    results = [
        Result(check.name, status if check.name == "redis" else "healthy", "", 0.001, now, check.interval, {})
        for check in health.declared(painted.settings)
    ]
    with painted.database.transaction() as connection:
        connection.execute(sa.delete(check_results))
    LiveResults(painted.redis, 100, 60).write(results)
    answer = make_client(engine=painted).get("/health")
    assert (answer.json()["status"], answer.status_code) == (status, code)
    assert answer.json()["draining"] is False


@pytest.mark.parametrize(
    ("told", "verdict", "why"),
    [
        (None, "unknown", "no beat has given a sign of life"),
        ({"at": -75, "seen": -75}, "dead", "no sign of life within 60 s"),
        ({"at": -75, "seen": -2}, "stalled", "has not ticked for 75 s"),
    ],
)
def test_a_beat_that_stopped_is_seen_here_though_its_last_results_are_still_well(
    make_client: MakeClient, painted: Engine, told: dict[str, float] | None, verdict: str, why: str
) -> None:
    now = painted.clock()
    well = [
        Result(check.name, "healthy", "", 0.001, now, check.interval, {})
        for check in health.declared(painted.settings)
    ]
    LiveResults(painted.redis, 100, 60).write(well)
    client = make_client(engine=painted)
    assert client.get("/health").json() == {"status": "healthy", "beat": "ticking", "draining": False}
    heartbeats.withdraw(painted.redis, "beat", "beat-1-7")
    if told is not None:
        moments = {name: now.timestamp() + moment for name, moment in told.items()}
        line = {"pid": 7, "node": "beat@beat-1", "state": "running", "at": moments["at"]}
        heartbeats.keep(painted.redis, "beat", "beat-1-7", line, moments["seen"])
    assert client.get("/health").json() == {"status": "degraded", "beat": verdict, "draining": False}
    client.headers["X-API-Key"] = KEY
    detailed = client.get("/health/detailed").json()
    assert (detailed["status"], detailed["beat"]["verdict"]) == ("degraded", verdict)
    assert why in detailed["beat"]["message"]
    status = client.get("/status").json()
    assert status["beat"] == verdict
    (notice,) = [notice for notice in status["attention"] if notice["what"].startswith(("Beat", "Nothing"))]
    assert why in notice["why"]
    assert notice["what"] in client.get("/", headers={"accept": "text/html"}).text


def test_breakers_and_letters_have_endpoints_of_their_own(holder: TestClient) -> None:
    breakers = holder.get("/health/circuit-breakers").json()
    assert {name: breaker["state"] for name, breaker in breakers.items()} == {
        "geocoder": "closed",
        "payments": "open",
        "shipping": "closed",
    }
    assert breakers["shipping"]["failures"] == 2
    letters = holder.get("/health/dlq").json()
    assert letters["by_state"] == {
        "pending": 14,
        "leased": 0,
        "dispatched": 0,
        "resolved": 5,
        "quarantined": 3,
        "discarded": 0,
    }
    assert 2400 < letters["oldest_unsettled_age_seconds"] < 2600


def test_status_says_at_a_glance_what_needs_attention(holder: TestClient) -> None:
    told = holder.get("/status").json()
    assert told["status"] == "degraded"
    assert [notice["what"] for notice in told["attention"]][:2] == [
        "payments is unhealthy",
        "Circuit breaker payments is open",
    ]
    assert told["checks"] == {"healthy": 10, "degraded": 1, "unhealthy": 1, "unknown": 1}
    assert told["circuit_breakers"] == {"closed": 2, "open": 1}
    assert told["jobs"]["monitor_circuit_breakers"]["status"] == "healthy"


def test_on_empty_stores_nothing_is_called_healthy(client: TestClient) -> None:
    told = client.get("/status", headers={"X-API-Key": KEY}).json()
    assert told["status"] == "unknown"
    assert set(told["checks"]) == {"unknown"}
    assert {job["pace"] for job in told["jobs"].values()} == {"never ran yet"}
    assert {job["status"] for job in told["jobs"].values()} == {"unknown"}


def test_reports_are_listed_newest_first(holder: TestClient) -> None:
    listed = holder.get("/reports").json()["reports"]
    assert len(listed) == 3
    assert [row["period_end"] for row in listed] == sorted(
        (row["period_end"] for row in listed), reverse=True
    )
    assert listed[0]["links"]["md"] == f"/reports/{listed[0]['id']}.md"


def test_a_report_is_served_as_it_was_stored_in_three_forms(holder: TestClient, painted: Engine) -> None:
    from regrow.reports import service

    row = service.get(painted, service.list_reports(painted)[0].id)
    for form, stored, media in (
        (".json", row.json, "application/json"),
        (".md", row.markdown, "text/markdown; charset=utf-8"),
        ("", row.html, "text/html; charset=utf-8"),
    ):
        answer = holder.get(f"/reports/{row.id}{form}")
        assert answer.text == stored
        assert answer.headers["content-type"] == media
    assert json.loads(holder.get(f"/reports/{row.id}.json").text)["headline"] == row.headline


@pytest.mark.parametrize("path", ["/reports/none", "/reports/none.json", "/reports/none.md"])
def test_a_report_that_is_not_there_is_not_found(holder: TestClient, path: str) -> None:
    assert holder.get(path).status_code == 404


def test_a_form_that_reports_do_not_have_is_refused(holder: TestClient) -> None:
    assert holder.get("/reports/none.exe").status_code in {404, 422}
    assert holder.get("/reports/%2e%2e%2fetc%2fpasswd").status_code == 404
