"""The arithmetic of health: verdicts, staleness, and what is due."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from regrow.health import rules
from regrow.health.rules import STATUSES, Declared, Result

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

seconds = st.floats(min_value=-10_000, max_value=10_000)
intervals = st.floats(min_value=0.5, max_value=3_600)
statuses = st.sampled_from(STATUSES)


def declared(name="db", interval=60.0, timeout=5.0, required=False):
    return Declared(name, "database", interval, timeout, required)


def result(status="healthy", age=0.0, name="db"):
    return Result(name, status, "answers", 0.01, NOW - timedelta(seconds=age), 60.0)


def overview_of(*pairs):
    """An overview of fresh results, given as (status, required)."""
    views = [
        rules.view(declared(f"c{n}", required=required), result(status, name=f"c{n}"), NOW)
        for n, (status, required) in enumerate(pairs)
    ]
    return rules.overview(views, NOW)


@given(st.floats(allow_nan=True), st.floats(0, 100), st.floats(0, 100))
def test_a_measurement_is_judged_by_its_thresholds_and_nan_is_unknown(value, one, other):
    warning, critical = sorted((one, other))
    status = rules.judge(value, warning, critical)
    if math.isnan(value):
        assert status == "unknown"
    else:
        assert (status == "unhealthy") == (value >= critical)
        assert (status == "healthy") == (value < warning)


@given(statuses, seconds, intervals, st.floats(0.1, 60))
def test_a_result_that_is_too_old_or_from_the_future_is_unknown_and_a_fresh_one_is_itself(
    status, age, interval, timeout
):
    shown = rules.view(declared(interval=interval, timeout=timeout), result(status, age), NOW)
    limit = 2 * interval + timeout + rules.GRACE
    if abs(age) <= limit - 0.001:
        assert shown.status == status
    elif abs(age) > limit + 0.001:
        assert shown.status == "unknown"


def test_a_stale_result_says_how_old_it_is_and_what_it_was():
    shown = rules.view(declared(), result("healthy", age=600), NOW)
    assert shown.status == "unknown"
    assert "600 s" in shown.message
    assert "healthy" in shown.message
    assert shown.age == 600


def test_a_check_that_never_ran_is_unknown():
    shown = rules.view(declared(), None, NOW)
    assert (shown.status, shown.age, shown.at) == ("unknown", None, None)


@given(st.lists(st.tuples(statuses, st.booleans()), min_size=1, max_size=6))
def test_the_verdict_is_healthy_only_when_everything_is_and_optional_checks_never_make_it_worse_than_degraded(
    pairs,
):
    found = overview_of(*pairs)
    assert (found.status == "healthy") == all(status == "healthy" for status, _ in pairs)
    required = {status for status, required in pairs if required}
    if found.status == "unhealthy":
        assert "unhealthy" in required
    if "unhealthy" in required:
        assert found.status == "unhealthy"
    elif "unknown" in required:
        assert found.status == "unknown"
    if all(status == "unknown" for status, _ in pairs):
        assert found.status == "unknown"


def test_an_optional_failure_degrades_and_is_named():
    found = overview_of(("healthy", True), ("unhealthy", False))
    assert found.status == "degraded"
    assert found.message == "unhealthy: c1"


def test_without_checks_nothing_is_known():
    assert rules.overview([], NOW).status == "unknown"


def test_a_silent_monitor_says_for_how_long():
    views = [
        rules.view(declared(name), result("healthy", age, name), NOW)
        for name, age in (("a", 900), ("b", 700))
    ]
    found = rules.overview(views, NOW)
    assert (found.status, found.message) == ("unknown", "monitor silent for 700 s")


def test_before_the_first_run_the_verdict_says_so():
    found = rules.overview([rules.view(declared(), None, NOW)], NOW)
    assert (found.status, found.message) == ("unknown", "no check has run yet")


@given(intervals, st.floats(-0.05, 0.05), st.integers(2, 50))
def test_ticks_that_jitter_skip_no_run_and_add_none(interval, jitter, ticks):
    """Ticks at the check's own interval, each early or late by up to a tenth of it."""
    last, runs = None, 0
    for n in range(ticks):
        at = NOW + timedelta(seconds=n * interval + jitter * interval * (-1) ** n)
        if rules.is_due(last, interval, at):
            last, runs = at, runs + 1
    if abs(2 * jitter * interval) <= rules.tolerance(interval):
        assert runs == ticks


@given(intervals, st.floats(0, 1))
def test_a_check_is_never_due_well_before_its_interval(interval, share):
    assert not rules.is_due(NOW, interval, NOW + timedelta(seconds=share * 0.74 * interval))


@given(intervals, st.floats(1, 1e6))
def test_a_clock_that_was_wrong_puts_no_check_off_by_more_than_its_interval(interval, ahead):
    last = NOW + timedelta(seconds=interval + ahead)
    assert rules.is_due(last, interval, NOW)


def test_the_longest_overdue_come_first_and_those_that_never_ran_before_them():
    checks = [declared("fresh", 60), declared("late", 60), declared("later", 10), declared("never", 60)]
    last = {
        "fresh": NOW - timedelta(seconds=10),
        "late": NOW - timedelta(seconds=90),
        "later": NOW - timedelta(seconds=90),
    }
    assert [check.name for check in rules.due(checks, last, NOW)] == ["never", "later", "late"]


@given(st.lists(st.floats(0, 5), max_size=40), st.integers(1, 12))
def test_chunks_hold_every_check_once_and_share_the_slow_ones(latencies, size):
    checks = [declared(f"c{n}") for n in range(len(latencies))]
    last = {f"c{n}": Result(f"c{n}", "healthy", "", took, NOW, 60.0) for n, took in enumerate(latencies)}
    ordered = rules.longest_first(checks, last)
    assert [last[check.name].latency for check in ordered] == sorted(latencies, reverse=True)
    parts = rules.chunks(ordered, size)
    assert sorted(check.name for part in parts for check in part) == sorted(last)
    assert all(len(part) <= size for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(
    st.text(alphabet=st.characters(blacklist_characters="/?#@ ", blacklist_categories=("Z", "C")), min_size=4)
)
def test_no_message_shows_the_password_of_a_url(password):
    shown = rules.without_secrets(f"cannot reach redis://worker:{password}@cache.internal:6379/0 in time")
    assert shown == "cannot reach redis://***@cache.internal:6379/0 in time"


def test_messages_are_one_bounded_line():
    assert rules.without_secrets("a\n b\t\tc") == "a b c"
    assert len(rules.without_secrets("x" * 10_000)) == 500
