"""`/reliability`, the reset of a breaker over HTTP, and what is told while a process drains."""

from __future__ import annotations

import time
from datetime import timedelta

import sqlalchemy as sa

from regrow.database.tables import audit
from regrow.drain import record
from regrow.drain.record import Course
from regrow.engine import Engine
from regrow.health import service
from regrow.health.keeping import keep
from regrow.health.rules import Result, Status
from regrow.reports.service import generate
from tests.web.conftest import KEY, MakeClient, MakeEngine

RESET = "/reliability/circuit-breaker/payments/reset"


def test_it_tells_of_breakers_uptime_and_drains(holder, painted: Engine):
    generate(painted)
    ended = Course("worker", "host", 7, "SIGTERM", time.time() - 60, 30.0, 1, 1).over(
        in_hand=1, at=time.time()
    )
    record.keep(painted.redis, ended)
    record.keep(painted.redis, Course("web", "host", 8, "SIGTERM", time.time(), 30.0, 3, 3))
    told = holder.get("/reliability").json()
    assert told["uptime_target"] == painted.settings.reports.uptime_target
    assert "payments" in told["circuit_breakers"]
    assert told["uptime"]["checks"].keys() == painted.settings.health.checks.keys()
    assert told["drain"]["this_process"]["draining"] is False
    (under_way,) = told["drain"]["draining"]
    assert (under_way["process"], under_way["in_hand"]) == ("web", 3)
    assert told["drain"]["ended"][0]["timed_out"] is True


def test_before_the_first_report_and_without_redis_it_says_what_it_does_not_know(
    make_client: MakeClient, make_engine: MakeEngine, sqlite_url: str
):
    away = make_client(engine=make_engine("redis://127.0.0.1:1/0", sqlite_url))
    told = away.get("/reliability", headers={"X-API-Key": KEY}).json()
    assert told["uptime"] == {"period": None, "checks": {}}
    assert told["circuit_breakers"]["status"] == "unknown"
    assert told["drain"]["status"] == "unknown"
    reset = away.post(RESET, headers={"X-API-Key": KEY})
    assert reset.status_code == 503


def test_a_breaker_is_reset_by_who_holds_the_key_and_written_down(holder, painted: Engine):
    done = holder.post(RESET, json={"reason": "the bank is back"})
    assert (done.status_code, done.json()["breaker"]["state"], done.json()["audited"]) == (
        200,
        "closed",
        True,
    )
    with painted.database.snapshot() as connection:
        row = connection.execute(sa.select(audit).where(audit.c.act == "breaker.reset")).one()
    assert (row.subject, row.reason, row.actor) == ("payments", "the bank is back", "api@127.0.0.1")
    assert holder.post(RESET).status_code == 200, "a reason is not demanded"
    assert holder.post(RESET.replace("payments", "nobodys")).status_code == 404
    assert holder.post(RESET, json={"why": "?"}).status_code == 422


def test_nobody_resets_a_breaker_without_the_key_itself(make_client: MakeClient, painted: Engine):
    stranger = make_client(engine=painted)
    assert stranger.post(RESET).status_code == 401
    assert stranger.post(RESET, headers={"X-API-Key": "wrong-key-wrong-key"}).status_code == 401
    stranger.post("/sign-in", data={"key": KEY})
    assert stranger.cookies, "signed in"
    assert stranger.post(RESET).status_code == 401, "no other site can ride on a session"


def test_a_process_that_stops_says_so_first_and_turns_all_but_observers_away(holder):
    drain = holder.app.state.drain
    drain.set_times(timeout=1.0, linger=0.0)
    assert holder.get("/health/ready").status_code == 200
    assert drain.run("SIGTERM")
    ready = holder.get("/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
    assert ready.headers["retry-after"] == "5"
    away = holder.post("/dead-letters", json={})
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    assert holder.get("/health").json()["draining"] is True
    assert holder.get("/health/detailed").json()["drain"]["phase"] == "ended"
    assert holder.get("/status").json()["requests"]["turned_away"] == 1
    assert holder.get("/reliability").json()["drain"]["this_process"]["phase"] == "ended"
    assert holder.get("/metrics").status_code == 200


def test_readiness_is_of_what_is_required_and_shows_what_is_optional(
    make_client: MakeClient, make_engine: MakeEngine, redis_url: str, sqlite_url: str
):
    named = {"REGROW_STARTUP__REQUIRED": '["disk"]', "REGROW_STARTUP__OPTIONAL": '["nowhere"]'}
    nowhere = {"KIND": "tcp", "HOST": "127.0.0.1", "PORT": "1", "TIMEOUT": "1"}
    environ = {f"REGROW_HEALTH__CHECKS__NOWHERE__{name}": value for name, value in nowhere.items()}
    engine = make_engine(redis_url, sqlite_url, **named, **environ)
    client = make_client(engine=engine)
    unseen = client.get("/health/ready")
    assert (unseen.status_code, unseen.json()["dependencies"]["disk"]) == (503, "unknown")
    service.run_due(engine, force=True)
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["optional"]["nowhere"] not in {"healthy", "degraded"}


def test_one_failed_probe_takes_no_process_out_before_it_is_confirmed(
    make_client: MakeClient, make_engine: MakeEngine, redis_url: str, sqlite_url: str
):
    named = {"REGROW_STARTUP__REQUIRED": '["disk"]', "REGROW_HEALTH__CHECKS__DISK__FAILURES": "2"}
    engine = make_engine(redis_url, sqlite_url, **named)
    client = make_client(engine=engine)

    def ready_after(status: Status, seconds: float) -> int:
        at = engine.clock() + timedelta(seconds=seconds)
        keep(engine, [Result("disk", status, "", 0.1, at, 60.0)], service.graph_of(engine.settings))
        return client.get("/health/ready").status_code

    assert ready_after("healthy", -2) == 200
    assert ready_after("unhealthy", -1) == 200
    assert ready_after("unhealthy", 0) == 503
