"""Incidents on the command line, over HTTP, on the page, and as a review."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.database.tables import audit
from regrow.incidents import service
from regrow.incidents.model import Event, Incident, Member
from regrow.incidents.review import markdown, review
from regrow.slo import service as slo
from regrow.slo.budget import Cost
from tests.incidents.conftest import KEY, WEB, MakeHistory, children, sign_in, token_of
from tests.incidents.history import NOON, History


@pytest.fixture
def failed(make_history: MakeHistory, on_stage: Callable[[History], History]) -> History:
    """The database and what stands on it have been down for some minutes."""
    history = make_history(children(2) + WEB)
    history.step(60)
    history.fail("db", "app0", "app1")
    history.step(180)
    return on_stage(history)


def the_id(history):
    (one,) = service.listed(history.engine)
    return one.id


def acts(history):
    with history.engine.database.snapshot() as connection:
        return connection.execute(sa.select(audit.c.act, audit.c.reason).order_by(audit.c.id)).all()


def test_the_command_line_lists_shows_acts_and_exports(failed, cli):
    number, said = the_id(failed), ""
    for arguments in (
        ["list"],
        ["show", number],
        ["acknowledge", number],
        ["note", number, "the disk is full"],
        ["cause", number, "a full disk"],
        ["export", number],
        ["close", number, "--reason", "enough", "--yes"],
    ):
        told = cli("incidents", *arguments)
        assert told.code == 0, arguments
        said += told.out
    assert "db is down" in said
    assert "check:app1" in said
    assert "| Root cause | a full disk |" in said
    told = cli("incidents", "export", number, "--format", "json").json
    assert told["incident"]["status"] == "closed"
    assert {part["subject"] for part in told["impact"]} == {"check:db", "check:app0", "check:app1"}
    assert cli("incidents", "note", "nobody", "x").code == 1
    assert [act for act, _ in acts(failed)] == [
        "incident.acknowledged",
        "incident.note",
        "incident.cause",
        "incident.closed",
    ]


def test_over_http_reading_needs_the_key_and_acting_the_key_itself(failed, client):
    number = the_id(failed)
    path = f"/admin/reliability/incidents/{number}"
    assert client.get("/admin/reliability/incidents").status_code == 401
    assert client.post(f"{path}/acknowledge").status_code == 401
    with_key = {"X-API-Key": KEY}
    (listed,) = client.get("/admin/reliability/incidents", headers=with_key).json()["incidents"]
    assert (listed["id"], listed["status"]) == (number, "open")
    said = client.post(f"{path}/acknowledge", headers=with_key, json={"reason": "mine"})
    assert said.json()["incident"]["acknowledged_by"] == "api@127.0.0.1"
    assert client.post(f"{path}/note", headers=with_key, json={"text": "a note"}).status_code == 200
    assert client.post(f"{path}/close", headers=with_key, json={"reason": "done"}).status_code == 200
    assert client.post(f"{path}/close", headers=with_key, json={"reason": "done"}).status_code == 409
    assert client.post("/admin/reliability/incidents/x/close", headers=with_key).status_code == 404
    assert client.get(path, headers=with_key).json()["incident"]["closed_by"] == "api@127.0.0.1"
    assert acts(failed)[0] == ("incident.acknowledged", "mine")


def test_a_page_asks_before_it_acts_and_takes_its_own_forms_alone(failed, client):
    number = the_id(failed)
    assert client.get("/incidents", headers={"Accept": "text/html"}).status_code == 303
    sign_in(client)
    assert "Db is down" in client.get("/incidents").text
    page = client.get(f"/incidents/{number}").text
    assert "check:app0" in page
    asked = client.get(f"/incidents/{number}/acknowledge").text
    assert "3 of 3 are not well" in asked
    token = token_of(asked)
    path = f"/incidents/{number}/acknowledge"
    assert client.post(path, content="reason=mine").status_code == 403
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert client.post(path, content=f"reason=mine&token={token}", headers=foreign).status_code == 403
    assert client.post(path, content=f"reason=&token={token}").status_code == 422
    assert acts(failed) == []
    assert client.post(path, content=f"reason=mine&token={token}").status_code == 303
    assert acts(failed) == [("incident.acknowledged", "mine")]
    assert "acknowledged" in client.get(f"/incidents/{number}").text
    review = client.get(f"/incidents/{number}.md")
    assert review.headers["content-type"].startswith("text/markdown")
    client.cookies.clear()
    assert client.post(path, content=f"reason=mine&token={token}").status_code == 401


def test_a_review_counts_the_budget_and_no_text_of_others_is_markup():
    minutes = timedelta(minutes=1)
    one = Incident(
        "1", "check:db", "down", "critical", "closed", "db is down", NOON, NOON + minutes,
        resolved_at=NOON + 44 * minutes,
    )  # fmt: skip
    member = Member("1", "check:db", "critical", "well", NOON, down_seconds=2592.0)
    said = "<script> | # [x](y)\nnext"
    month = timedelta(days=30)
    cost = Cost("db", 0.999, month, timedelta(seconds=2592), month * 0.001)
    told = review(one, (member,), (Event("1", NOON, "note", "n", message=said, actor="ann"),), [cost], NOON)
    assert told["budgets"][0]["spent"] == 1.0
    assert told["durations"] == {"detect": 60.0, "acknowledge": None, "resolve": 2640.0, "lasted": 2640.0}
    page = markdown(told)
    assert "| check:db | 43 min 12 s |" in page
    assert "| db | 99.9000% | 43 min 12 s | 100.00% |" in page
    assert r"&lt;script&gt; \| \# \[x\](y) next (ann)" in page
    assert "not yet" in page


def test_mean_times_are_those_of_the_period(make_history):
    history = make_history()
    history.step(60)
    history.fail("db")
    history.step(120)
    history.mend()
    history.step(60)
    found = service.mean_times(history.engine, NOON, history.now, timedelta(hours=1))
    assert (found.resolve.n, found.detect.mean, found.resolve.mean) == (1, 60.0, 120.0)
    later = history.now + timedelta(hours=1)
    assert service.mean_times(history.engine, later, later, timedelta(hours=1)).resolve.n == 0


def test_a_review_takes_its_budgets_from_the_accounts_of_objectives(make_history):
    """A budget of its own window, without maintenance, shared with checks that were well."""
    toml = """
[slo.objectives.both]
checks = ["db", "mail"]
target = 0.99
window = 86400
"""
    history = make_history(children(1) + toml)
    history.step(1800)
    history.fail("db", "app0")
    history.step(600)
    history.mend()
    history.step(60)
    (one,) = service.listed(history.engine)
    minutes = timedelta(minutes=10).total_seconds()
    history.fail("mail")
    history.step(600)  # another incident, and after this one's window
    told = service.as_review(history.engine, service.dossier(history.engine, one.id))
    assert {part["subject"]: part["down_seconds"] for part in told["impact"]} == {
        "check:db": minutes,
        "check:app0": minutes,
    }
    app0, both = told["budgets"]
    assert (app0["objective"], both["objective"]) == ("app0", "both")
    assert (both["down_seconds"], both["budget_seconds"]) == (minutes, 2 * 86_400 * 0.01)
    assert both["spent"] == pytest.approx(minutes / 1728, abs=1e-6)
    standing = {s.objective.name: s for s in slo.standing(history.engine, history.now, ["app0"])}["app0"]
    assert app0["spent"] == pytest.approx(1 - standing.budget.remaining, rel=0.01)
