"""Alerts on the command line, over HTTP, on the page, in the metrics, and by the task."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from regrow.alerts import service
from regrow.database.tables import audit, job_runs
from tasks.alerts import evaluate_alerts
from tasks.incidents import follow_incidents
from tests.alerts.receivers import HttpReceiver
from tests.incidents.conftest import KEY, WEB, MakeHistory, sign_in, token_of
from tests.incidents.history import History

SECRET = "T0P/S3CR3T"


@pytest.fixture
def failed(make_history: MakeHistory, http: HttpReceiver, on_stage: Callable[[History], History]) -> History:
    """The database is down, and the pager does not answer."""
    http.status = 503
    toml = """
[alerts.channels.chat]
kind = "slack"
url = "${CHAT_URL}"

[alerts.rules.burn_rate]
enabled = false

[alerts.rules.uptime_under_target]
enabled = false

[alerts.severities.critical]
steps = [{ after = 0, channels = ["log", "chat"] }]
"""
    history = make_history(WEB + toml, CHAT_URL=f"{http.url}/{SECRET}")
    history.step(60)
    history.fail("db")
    history.step(120)
    service.tick(history.engine)
    return on_stage(history)


def the_id(history):
    (kept,) = service.listed(history.engine, status="firing")
    return kept.alert.id


def acts(history):
    with history.engine.database.snapshot() as connection:
        query = sa.select(audit.c.act).where(audit.c.act.like("alert.%")).order_by(audit.c.id)
        return connection.execute(query).scalars().all()


def test_the_command_line_lists_explains_silences_tests_and_acknowledges(failed, cli):
    number = the_id(failed)
    listed = cli("alerts", "list")
    assert number in listed.out
    assert "1 waiting for chat" in listed.err
    why = cli("alerts", "why", "check:db").out
    assert "no silence matches" in why
    assert "Slack answered 503" in why
    assert SECRET not in why
    given = ("--subject", "check:*", "--for", "2h", "--reason", "known", "--yes", "--json")
    made = cli("alerts", "silence", *given).json["silence"]["id"]
    assert made in cli("alerts", "silences").out
    assert cli("alerts", "unsilence", made).code == 0
    assert cli("alerts", "test", "log").code == 0
    assert cli("alerts", "test", "nobody").code == 1
    assert cli("alerts", "silence", "--for", "soon", "--rule", "x", "--reason", "y", "--yes").code == 1
    assert cli("alerts", "acknowledge", number).code == 0
    assert acts(failed) == ["alert.silenced", "alert.unsilenced", "alert.tested", "alert.acknowledged"]


def test_over_http_reading_needs_the_key_and_acting_the_key_itself(failed, client):
    number, path = the_id(failed), "/admin/reliability/alerts"
    assert client.get(path).status_code == 401
    assert client.post(f"{path}/{number}/acknowledge").status_code == 401
    assert client.delete(f"{path}/silences/x").status_code == 401
    client.headers["X-API-Key"] = KEY
    told = client.get(path).json()
    assert [one["subject"] for one in told["alerts"]] == ["check:db"]
    assert told["waiting"]["chat"]["notices"] == 1
    (why,) = client.get(f"{path}/why", params={"name": "incident"}).json()["why"]
    assert why["reasons"][0]["step"] == "observed"
    assert client.get(f"{path}/why", params={"name": "nobody"}).status_code == 404
    asked = {"seconds": 60, "rule": "incident", "reason": "known"}
    made = client.post(f"{path}/silences", json=asked)
    assert made.status_code == 201
    ended = client.delete(f"{path}/silences/{made.json()['silence']['id']}")
    assert ended.status_code == 200
    assert client.delete(f"{path}/silences/nobody").status_code == 404
    assert client.post(f"{path}/silences", json={"seconds": 60, "reason": "all"}).status_code == 409
    assert client.post(f"{path}/{number}/acknowledge").json()["alert"]["acknowledged_by"] == "api@127.0.0.1"
    metrics = client.get("/metrics").text
    assert 'alerts_firing{severity="critical"} 1.0' in metrics
    assert 'incidents_open{severity="critical"} 1.0' in metrics
    assert 'alert_notices_waiting{channel="chat"} 1.0' in metrics
    assert 'alert_notices_total{channel="log",outcome="sent"} 1.0' in metrics
    assert SECRET not in metrics + json.dumps(told)


def test_a_page_shows_what_fires_why_and_asks_before_it_acts(failed, client):
    number = the_id(failed)
    sign_in(client)
    page = client.get("/alerts").text
    assert "1 notice for chat could not be told yet" in page
    assert "no maintenance window holds" in client.get(f"/alerts/why?name={number}").text
    made = service.silence(failed.engine, seconds=60, rule="x", actor="ann", reason="<b>known</b>")
    assert "&lt;b&gt;known" in client.get("/alerts").text
    for path in (f"/alerts/{number}/acknowledge", f"/alerts/silences/{made.id}/end"):
        token = token_of(client.get(path).text)
        assert client.post(path, content="reason=mine").status_code == 403
        assert client.post(path, content=f"reason=mine&token={token}").status_code == 303
    assert "acknowledged" in client.get("/alerts").text
    assert acts(failed) == ["alert.silenced", "alert.acknowledged", "alert.unsilenced"]


def test_the_tasks_leave_a_run_only_for_news(failed):
    engine = failed.engine
    follow_incidents()
    evaluate_alerts()
    with engine.database.snapshot() as connection:
        assert connection.execute(sa.select(job_runs.c.job)).scalars().all() == []
    failed.mend()
    failed.step(60)
    evaluate_alerts()
    with engine.database.snapshot() as connection:
        runs = connection.execute(sa.select(job_runs.c.job, job_runs.c.outcome)).all()
    assert runs[0].job == "evaluate_alerts"


def test_settings_are_shown_without_the_secrets_of_channels(failed):
    from regrow.settings import redacted

    told = json.dumps(redacted(failed.engine.settings), default=str)
    assert SECRET not in told
    assert "chat" in told
