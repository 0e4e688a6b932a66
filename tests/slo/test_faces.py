"""Objectives on the command line, on the page, over HTTP and in the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from regrow.engine import set_engine
from regrow.slo import wording
from regrow.slo.ledger import State
from regrow.slo.objectives import Objective
from regrow.slo.rolling import roll_up
from regrow.slo.service import Strip
from regrow.web.app import create_app
from regrow.web.slos import runs
from tests.cli.conftest import Cli
from tests.slo.conftest import CHECKS, START, Past

DAY = timedelta(days=1)
KEY = "a-key-of-twenty-letters"


@pytest.fixture
def day(past: Past, settings_with: object) -> Iterator[Past]:
    """A day of which the shop was down for ten minutes, and nobody looked for two hours."""
    past.engine.settings = settings_with(  # type: ignore[operator]
        CHECKS + "[slo.objectives.the-shop]\nchecks = ['shop']\nwindow = 86400\ntarget = 0.99\n"
        "[slo.objectives.loose]\nchecks = ['mail']\ntarget = 0.9\n",
        API_KEY=KEY,
    )
    down = range(600, 610)
    past.write(past.results("shop", [n for n in range(1440) if n not in down and not 200 <= n < 320]))
    past.write(past.results("shop", down, "unhealthy"))
    past.now = START + DAY
    roll_up(past.engine)
    set_engine(past.engine)
    yield past
    set_engine(None)


@pytest.fixture
def client(day: Past) -> Iterator[TestClient]:
    with TestClient(create_app(day.engine), "http://127.0.0.1:8000", client=("127.0.0.1", 5)) as found:
        found.headers["X-API-Key"] = KEY
        yield found


def test_the_list_tells_verdict_and_budget_and_its_code_whether_a_promise_was_missed(
    cli: Cli, day: Past
) -> None:
    listed = cli("slo", "list")
    assert listed.code == 0
    assert "99% up over 1 d" in listed.out
    told = {one["name"]: one for one in cli("slo", "list", "--json").json["objectives"]}
    shop = told["the-shop"]
    assert shop["met"] is True
    assert shop["account"]["seconds"]["down"] == 600
    assert shop["account"]["seconds"]["unknown"] == 119 * 60  # the last look holds for two intervals
    assert shop["budget"]["remaining"] == pytest.approx(1 - 600 / 864, abs=1e-5)
    assert told["loose"]["met"] is None
    assert told["redis"]["declared"] is False
    day.engine.settings.slo.objectives["the-shop"] = day.engine.settings.slo.objectives[
        "the-shop"
    ].model_copy(update={"target": 0.999})
    assert cli("slo", "list").code == 1


def test_one_objective_is_shown_with_where_its_time_went(cli: Cli, day: Past) -> None:
    shown = cli("slo", "show", "the-shop").out
    assert "10 min 0 s down" in shown
    assert "1 h 59 min unknown" in shown
    assert "with 95% confidence" in shown
    unknown = cli("slo", "show", "the-shp")
    assert (unknown.code, "no objective is named the-shp" in unknown.err) == (1, True)


def test_the_linter_and_the_backtest_speak(cli: Cli, day: Past) -> None:
    linted = cli("slo", "lint")
    assert linted.code == 1
    assert "cannot fire" in linted.out
    (found,) = cli("slo", "backtest", "the-shop", "--json").json["objectives"]
    assert (found["pages"], found["objective"]) == (0, "the-shop")  # it was never confirmed down
    assert "CRITICAL" in cli("slo", "backtest").out
    assert cli("slo", "backtest", "nothing").code == 1


def test_the_page_shows_each_strip_in_shapes_words_and_a_table(client: TestClient) -> None:
    page = client.get("/slos", headers={"Accept": "text/html"}).text
    assert "<script" not in page
    assert page.index("the-shop") < page.index("redis")  # declared ones first
    assert "met" in page
    assert 'class="unknown"' in page
    assert 'aria-label="the-shop: ' in page
    assert "<caption>the-shop, from" in page
    assert "31% left" in page


def test_over_http_it_is_json_and_a_part_of_reliability(client: TestClient) -> None:
    (shop,) = [one for one in client.get("/slos").json()["objectives"] if one["name"] == "the-shop"]
    assert len(shop["strip"]["states"]) == 90
    assert {"up", "down", "unknown"} == set(shop["strip"]["states"])
    told = {one["name"]: one for one in client.get("/reliability").json()["objectives"]}
    assert told["the-shop"]["account"]["uptime"] == pytest.approx(0.9924, abs=1e-3)


def test_metrics_tell_what_is_known_and_leave_out_what_is_not(client: TestClient) -> None:
    lines = client.get("/metrics").text.splitlines()
    assert 'regrow_slo_met{kind="availability",objective="the-shop"} 1.0' in lines
    assert not [line for line in lines if line.startswith("regrow_slo_met") and '"loose"' in line]
    assert [
        line for line in lines if line.startswith('regrow_slo_budget_remaining{objective="the-shop"} 0.30')
    ]
    assert [line for line in lines if line.startswith("regrow_slo_burn_rate") and 'over="24h"' in line]
    assert 'regrow_scrape_errors{source="objectives"} 0.0' in lines


def test_bars_cover_the_strip_once() -> None:
    states = (State.UP,) * 40 + (State.DOWN,) + (State.UP,) * 49
    found = runs(Strip(START, START + DAY, states))
    assert [(bar["state"], bar["x"], bar["width"]) for bar in found] == [
        ("up", 0, 40),
        ("down", 40, 1),
        ("up", 41, 49),
    ]
    assert sum(float(str(bar["seconds"])) for bar in found) == pytest.approx(86_400)


@pytest.mark.parametrize(
    ("kind", "target", "limit", "said"),
    [
        ("availability", 0.9995, None, "99.95% up over 30 d"),
        ("latency", 0.95, 0.5, "95% of requests within 0.5 s over 30 d"),
        ("error_rate", 0.999, None, "99.9% of requests succeed over 30 d"),
        ("throughput", 0.999, 1000.0, "1000 requests/s at peak hours over 30 d"),
    ],
)
def test_promises_are_told_in_words(kind: object, target: float, limit: float | None, said: str) -> None:
    one = Objective("x", kind, target, 30 * DAY, limit=limit)  # type: ignore[arg-type]
    assert wording.promise_words(one) == said
