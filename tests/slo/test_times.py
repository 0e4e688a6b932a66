"""Mean times of incidents, with how sure they are; promises about requests."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from regrow.latency_buckets import bucket_of
from regrow.slo import requests
from regrow.slo.requests import RequestMinute
from regrow.slo.times import Outage, between_failures, mean_times, poisson_interval

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def after(minutes: float) -> datetime:
    return START + minutes * MINUTE


# Garwood's exact limits for a Poisson mean, as in Ulm (1990), Am J Epidemiol 131:373, table 1.
@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (5, 1.6235, 11.668), (10, 4.795, 18.390), (100, 81.36, 121.63)],
)
def test_the_interval_of_a_count_is_the_published_one(n: int, low: float, high: float) -> None:
    assert poisson_interval(n) == pytest.approx((low, high), rel=1e-3, abs=1e-9)


def test_mtbf_is_uptime_by_failures_and_says_how_sure_it_is() -> None:
    found = between_failures(5, timedelta(hours=500))
    assert found.mtbf == 100 * 3600
    assert found.low == pytest.approx(500 * 3600 / 11.668, rel=1e-3)
    assert found.high == pytest.approx(500 * 3600 / 1.6235, rel=1e-3)
    none = between_failures(0, timedelta(hours=500))
    assert (none.mtbf, none.high) == (None, None)
    assert none.low == pytest.approx(500 * 3600 / 3.689, rel=1e-3)


def test_mean_times_of_incidents_and_those_that_are_still_open() -> None:
    closed = [
        Outage(f"{n}", after(100 * n), after(100 * n + 1), after(100 * n + 3), after(100 * n + minutes))
        for n, minutes in enumerate((10, 20, 30, 40, 100))
    ]
    found = mean_times([*closed, Outage("open", after(900), after(902))], timedelta(hours=60))
    assert (found.resolve.n, found.resolve.censored) == (5, ("open",))
    assert (found.resolve.mean, found.resolve.median, found.resolve.p90) == (2400.0, 1800.0, 6000.0)
    assert (found.detect.n, found.detect.median) == (6, 60.0)
    assert (found.acknowledge.median, found.acknowledge.censored) == (120.0, ("open",))
    assert found.between_failures.n == 6


def test_without_incidents_there_are_no_times() -> None:
    found = mean_times([], timedelta(hours=1))
    assert (found.resolve.n, found.resolve.mean, found.resolve.p90) == (0, None, None)


def minutes(count: int = 100, failed: int = 0, n: int = 60, seconds: float = 0.1) -> list[RequestMinute]:
    return [RequestMinute("shop", after(m), count, failed, {bucket_of(seconds): count}) for m in range(n)]


def test_an_error_rate_is_of_all_requests_together_not_a_mean_of_minutes() -> None:
    made = [*minutes(1000, 0, 59), RequestMinute("shop", after(59), 10, 10)]
    found = requests.error_rate(made, START, after(60), 0.999)
    assert found.value == pytest.approx(10 / 59_010)
    assert found.met is True
    assert requests.error_rate(minutes(100, 1), START, after(60), 0.999).met is False


def test_latency_is_judged_by_the_percentile_of_the_merged_buckets() -> None:
    slow = [
        *minutes(100, n=30),
        *(RequestMinute("shop", after(30 + m), 3, 0, {bucket_of(2.0): 3}) for m in range(30)),
    ]
    found = requests.latency(slow, START, after(60), 0.95, 0.5)
    assert found.value == pytest.approx(0.1, rel=0.02)  # the mean of the minutes' own p95 would be over 1 s
    assert found.met is True
    assert requests.latency(slow, START, after(60), 0.99, 0.5).met is False


def test_what_nobody_reported_is_not_known_and_never_met() -> None:
    half = requests.error_rate(minutes(n=30), START, after(60), 0.999)
    assert (half.value, half.met, half.coverage) == (0.0, None, 0.5)
    idle = requests.error_rate(minutes(0), START, after(60), 0.999)
    assert (idle.value, idle.met, idle.coverage) == (None, None, 1.0)
    assert requests.throughput([], [], 1000).met is None


def test_throughput_is_of_the_peak_hours_alone() -> None:
    made = [RequestMinute("shop", after(m), 60_000 if 600 <= m < 720 else 60, 0) for m in range(1440)]
    peaks = requests.peak_hours((time(10), time(12)), "UTC", START, after(1440))
    found = requests.throughput(made, peaks, 1000)
    assert (found.value, found.met, found.requests) == (1000.0, True, 120 * 60_000)


@pytest.mark.parametrize(
    ("day", "hours"),
    [(datetime(2026, 3, 29, tzinfo=UTC), 5), (datetime(2026, 10, 25, tzinfo=UTC), 7), (START, 6)],
)
def test_peak_hours_are_as_long_as_the_hours_of_the_place_on_days_the_clock_changes(
    day: datetime, hours: int
) -> None:
    """Midnight to six in Berlin: five hours on the last Sunday of March, seven on that of October."""
    found = requests.peak_hours(
        (time(0), time(6)), "Europe/Berlin", day - timedelta(hours=3), day + timedelta(hours=9)
    )
    assert sum(((end - start) for start, end in found), timedelta()) == timedelta(hours=hours)
