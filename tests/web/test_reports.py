"""What an amendment of a report changed, as a page and as JSON, and the ways between versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

from regrow.engine import Engine
from regrow.health.rules import Result
from regrow.health.store import KeptResults
from regrow.reports import service
from regrow.reports.service import ReportRow, content_security_policy
from tests.web.conftest import KEY, MakeClient

AS_BROWSER = {"Accept": "text/html"}


@dataclass
class Amended:
    client: TestClient
    first: ReportRow
    second: ReportRow


@pytest.fixture
def amended(make_client: MakeClient, make_engine, redis_url: str, sqlite_url: str) -> Amended:
    """A report of an hour of which a result came late."""
    engine: Engine = make_engine(redis_url, sqlite_url)
    engine.database.upgrade()
    hour = engine.clock().replace(minute=0, second=0, microsecond=0)
    first = service.generate(engine, until=hour)
    late = Result("redis", "unhealthy", "<b>gone</b>", 0.1, hour - timedelta(minutes=5), 60.0, {})
    KeptResults(engine.database).write([late])
    second = service.generate(engine, until=hour)
    client = make_client(engine=engine)
    client.headers["X-API-Key"] = KEY
    return Amended(client, first, second)


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs)["href"] or "")


def test_what_an_amendment_changed_as_json(amended: Amended) -> None:
    told = amended.client.get(f"/reports/{amended.second.id}/changes").json()
    assert (told["before"]["id"], told["before"]["version"]) == (amended.first.id, 1)
    assert (told["after"]["id"], told["after"]["version"]) == (amended.second.id, 2)
    changes = {one["where"]: (one["before"], one["after"]) for one in told["changes"]}
    assert changes["checks / redis / probes"] == (0, 1)
    assert changes["checks / redis / last_message"] == (None, "<b>gone</b>")
    same = amended.client.get(
        f"/reports/{amended.first.id}/changes", params={"than": amended.first.id}
    ).json()
    assert same["changes"] == []


def test_the_page_of_changes_escapes_what_came_from_outside(amended: Amended) -> None:
    page = amended.client.get(f"/reports/{amended.second.id}/changes", headers=AS_BROWSER).text
    assert "checks / redis / last_message" in page
    assert "&lt;b&gt;gone&lt;/b&gt;" in page
    assert "<b>gone" not in page


def test_each_version_leads_to_the_others_and_is_otherwise_as_it_was_stored(amended: Amended) -> None:
    first = amended.client.get(f"/reports/{amended.first.id}")
    second = amended.client.get(f"/reports/{amended.second.id}")
    newest, since = Links(first.text).found
    assert newest == f"/reports/{amended.second.id}"
    assert Links(second.text).found == [f"/reports/{amended.second.id}/changes"]
    assert {"where", "before", "after"} == set(amended.client.get(since).json()["changes"][0])
    assert "Version 1 of 2." in first.text
    begins, ends = first.text.index("<nav"), first.text.index("</nav>\n") + len("</nav>\n")
    assert first.text[:begins] + first.text[ends:] == amended.first.html
    assert first.headers["content-security-policy"] == content_security_policy(amended.first.html)
    assert amended.client.get(f"/reports/{amended.second.id}.json").text == amended.second.json
    listed = amended.client.get("/reports", headers=AS_BROWSER).text
    assert f"/reports/{amended.second.id}/changes" in listed
    assert f"/reports/{amended.first.id}/changes" not in listed


def test_the_first_version_and_one_that_is_not_there_have_no_changes(amended: Amended) -> None:
    answer = amended.client.get(f"/reports/{amended.first.id}/changes")
    assert answer.status_code == 404
    assert "first version" in answer.json()["detail"]
    assert amended.client.get("/reports/none/changes").status_code == 404
    assert amended.client.get(f"/reports/{amended.second.id}/changes?than=none").status_code == 404


def test_changes_are_for_those_who_hold_the_key(amended: Amended, make_client: MakeClient) -> None:
    engine = amended.client.app.state.reader.engine  # type: ignore[attr-defined]
    stranger = make_client("203.0.113.9", engine=engine)
    assert stranger.get(f"/reports/{amended.second.id}/changes").status_code == 401
