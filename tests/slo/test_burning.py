"""What burns, of requests too, and which outage spent it: hand-made windows, and rows that were written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from regrow.latency_buckets import bucket_of
from regrow.requests import store
from regrow.requests.store import Rollup
from regrow.slo import service
from regrow.slo.burn import TABLE, Burning, Promise, Spent, fires, of_requests
from regrow.slo.burning import Outage, burns, spent_by
from tests.slo.conftest import CHECKS, START, Past

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
NOW = START + 4 * 24 * HOUR
UNTIL = NOW - 2 * MINUTE  # what is told of the last two minutes is on its way
PROMISE = Promise("shop", 0.999, timedelta(days=30))


def of(*parts: tuple[timedelta, int, int]) -> Callable[[timedelta], Spent]:
    """Of stretches (how long, bad requests a minute, requests a minute), the latest first."""

    def spent(length: timedelta) -> Spent:
        left, bad, total = length, 0, 0
        for lasted, failed, count in parts:
            minutes = min(left, lasted) // MINUTE
            bad, total, left = bad + minutes * failed, total + minutes * count, left - minutes * MINUTE
        return of_requests(bad, total, PROMISE.target)

    return spent


def severities(spent: Callable[[timedelta], Spent], promise: Promise = PROMISE) -> list[str]:
    return [one.severity for one in fires(promise, spent)]


LONG_AGO = timedelta(days=9)


def test_failed_requests_burn_a_budget_as_downtime_does() -> None:
    """14.4 x 0.1 % of requests for an hour, 6 x for six, 3 x for a day, 1 x for three days."""
    assert severities(of((LONG_AGO, 15, 1000))) == ["critical", "high", "medium", "low"]
    assert severities(of((HOUR, 15, 1000), (LONG_AGO, 0, 1000))) == ["critical"]
    assert severities(of((LONG_AGO, 14, 1000))) == ["high", "medium", "low"]
    assert severities(of((LONG_AGO, 5, 1000))) == ["medium", "low"]
    assert severities(of((LONG_AGO, 2, 1000))) == ["low"]
    assert severities(of((LONG_AGO, 1, 1000))) == []  # spent exactly as it is promised


def test_what_is_over_for_a_twelfth_of_the_long_window_fires_no_more() -> None:
    bad = (HOUR, 100, 1000)
    assert severities(of((4 * MINUTE, 0, 1000), bad, (LONG_AGO, 0, 1000)))[0] == "critical"
    assert "critical" not in severities(of((5 * MINUTE, 0, 1000), bad, (LONG_AGO, 0, 1000)))
    assert severities(of((6 * HOUR, 0, 1000), bad, (LONG_AGO, 0, 1000))) == []


def test_a_few_requests_say_nothing_whatever_their_share() -> None:
    assert severities(of((9 * MINUTE, 1, 1), (LONG_AGO, 0, 1))) == []
    assert severities(of((10 * MINUTE, 1, 1), (LONG_AGO, 0, 1))) == ["critical", "high", "medium", "low"]
    assert severities(of((LONG_AGO, 0, 0))) == []


def test_a_promise_over_an_hour_alerts_when_it_is_missed_and_never_before() -> None:
    hour = Promise("shop", 0.999, HOUR)
    assert severities(of((LONG_AGO, 1, 1000)), hour) == []
    assert severities(of((LONG_AGO, 2, 1000)), hour) == ["critical"]


# Which outage spent it


def burnt(rule: int = 1, short: float = 100.0) -> Burning:
    """By the row for 6 h and 30 min."""
    return Burning("shop", "high", TABLE[rule], 6.0, 100.0, short, HOUR)


def shares(*down: tuple[float, float]) -> Callable[[timedelta, datetime, datetime], float]:
    """Bad from so many minutes ago to so many minutes ago."""

    def share(length: timedelta, start: datetime, end: datetime) -> float:
        parts = [(max(NOW - a * MINUTE, start, NOW - length), min(NOW - b * MINUTE, end)) for a, b in down]
        return sum((max(until - since, timedelta()) for since, until in parts), timedelta()) / length

    return share


def outage(name: str, since: float, until: float) -> Outage:
    return Outage(name, NOW - since * MINUTE, NOW - until * MINUTE)


@pytest.mark.parametrize(
    ("down", "outages", "expected"),
    [
        ([(60, 10)], [outage("one", 60, 10)], "one"),  # over for ten minutes, and within the short window
        ([(60, 10)], [], None),
        ([(60, 10), (5, 3)], [outage("one", 60, 10)], None),  # it has begun again, and nobody was told
        ([(60, 10), (5, 4.9)], [outage("one", 60, 10)], "one"),  # six seconds of 30 min burn 3.3 times
        ([(200, 199), (20, 18.5)], [outage("a", 200, 199), outage("b", 20, 18.5)], None),  # neither alone
        ([(200, 150), (20, 10)], [outage("a", 200, 150), outage("b", 20, 10)], "b"),
        ([(60, 10)], [outage("a", 60, 20), outage("b", 30, 10)], "b"),  # they overlap, and count once
    ],
)
def test_one_outage_spent_it_that_is_enough_alone_with_nothing_beside_it(
    down: list[tuple[float, float]], outages: list[Outage], expected: str | None
) -> None:
    bad_share = shares(*down)
    short = bad_share(30 * MINUTE, NOW - 30 * MINUTE, NOW) / 0.001
    assert spent_by(burnt(short=short), 0.999, outages, bad_share, NOW) == expected


# On rows


@pytest.fixture
def shop(past: Past, settings_with: Any) -> Past:
    past.now = NOW
    past.engine.settings = settings_with(
        CHECKS
        + """
[slo.objectives.fails]
kind = "error_rate"
service = "web"
target = 0.999
window = 2592000
[slo.objectives.slow]
kind = "latency"
service = "web"
latency = 0.5
target = 0.99
window = 2592000
severity = "medium"
[slo.objectives.busy]
kind = "throughput"
service = "web"
rate = 1.0
hours = "09:00-17:00"
"""
    )
    return past


def told(past: Past, minutes: range, failed: int = 0, slow: int = 0) -> None:
    """A hundred requests in each of these minutes, counted back from the last that is wholly told."""
    store.write(
        past.engine.database,
        [
            Rollup(
                store.MINUTE, UNTIL - number * MINUTE, "web", "", 100, failed, 1,
                {bucket_of(0.1): 100 - slow, bucket_of(2.0): slow},
            )
            for number in minutes
        ],
    )  # fmt: skip


def test_an_error_rate_and_a_latency_burn_by_what_applications_told(shop: Past) -> None:
    told(shop, range(1, 31), failed=5, slow=100)
    told(shop, range(31, 500))
    found = {one.objective: one for one in reversed(service.burning(shop.engine, NOW))}
    assert set(found) == {"fails", "slow"}
    assert (found["fails"].severity, found["fails"].bad) == ("critical", 150)
    assert found["fails"].long_burn == pytest.approx(150 / 6000 / 0.001)
    assert found["fails"].message.startswith("fails spends its error budget 25 times too fast over 1 h")
    slow = [one for one in service.burning(shop.engine, NOW) if one.objective == "slow"]
    assert {one.severity for one in slow} == {"medium", "low"}  # no alert of it is graver
    assert (slow[0].rule.severity, slow[0].bad) == ("critical", 3000)


def test_a_service_that_tells_nothing_is_unknown_and_one_without_requests_is_fine(shop: Past) -> None:
    told(shop, range(10, 60), failed=100)
    found = burns(shop.engine, NOW, lambda _one: ())
    assert {"fails", "slow"} <= set(found.unknown)
    assert found.firing == ()
    quiet = [Rollup(store.MINUTE, UNTIL - n * MINUTE, "web", "", 0, 0) for n in range(1, 10)]
    store.write(shop.engine.database, quiet)
    assert not {"fails", "slow"} & set(burns(shop.engine, NOW, lambda _one: ()).unknown)


def test_failed_requests_of_an_outage_are_spent_by_it(shop: Past) -> None:
    told(shop, range(1, 11))
    told(shop, range(11, 31), failed=50)
    told(shop, range(31, 200))
    during = Outage("i1", UNTIL - 30 * MINUTE, UNTIL - 10 * MINUTE)
    found = burns(shop.engine, NOW, lambda _one: [during]).firing
    assert {one.spent_by for one in found} == {"i1"}
    told(shop, range(1, 4), failed=9)  # a row knows no less than before, and no more requests
    early = Outage("i0", UNTIL - 300 * MINUTE, UNTIL - 200 * MINUTE)
    found = burns(shop.engine, NOW, lambda _one: [early]).firing
    assert {one.spent_by for one in found} == {None}
