"""The arithmetic of reports: time adds up, unknown is never up, nothing is printed more exactly than known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.reports import rules
from regrow.reports.rules import Sample, State, Transition

START = datetime(2026, 3, 1, 11, tzinfo=UTC)
END = START + timedelta(hours=1)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def every_minute(status: str = "healthy", *, between: tuple[int, int] = (-1, 60)) -> list[Sample]:
    return [Sample(at(minute), status, 60.0) for minute in range(*between)]


samples_of_any_kind = st.lists(
    st.builds(
        Sample,
        at=st.integers(-7_200_000_000, 7_200_000_000).map(lambda us: START + timedelta(microseconds=us)),
        status=st.sampled_from(["healthy", "degraded", "unhealthy", "unknown", "on fire"]),
        interval=st.floats(0.001, 7200),
    ),
    max_size=40,
    unique_by=lambda sample: sample.at,
)


def state_by_looking(samples: list[Sample], moment: datetime) -> State:
    """What the docstring says, for a single moment: the slow way that cannot be got wrong."""
    before = [sample for sample in samples if sample.at <= moment]
    if not before:
        return State.UNKNOWN
    latest = max(before, key=lambda sample: sample.at)
    if moment >= latest.at + 2 * timedelta(seconds=latest.interval):
        return State.UNKNOWN
    return latest.state


@given(samples_of_any_kind)
def test_up_down_and_unknown_add_up_to_the_window_to_the_microsecond(samples: list[Sample]) -> None:
    account = rules.ledger(samples, START, END)
    assert account.up + account.down + account.unknown == END - START
    assert timedelta(0) <= account.degraded <= account.up


@given(samples_of_any_kind)
def test_spans_cover_the_window_without_gap_or_overlap_and_never_repeat_a_state(
    samples: list[Sample],
) -> None:
    cut = rules.spans(samples, START, END)
    assert cut[0].start == START
    assert cut[-1].end == END
    for before, after in pairwise(cut):
        assert before.end == after.start
        assert before.state is not after.state


@given(samples_of_any_kind, st.integers(0, 3_599_999_999))
def test_every_moment_is_in_the_state_of_the_sample_that_holds_then(samples: list[Sample], us: int) -> None:
    moment = START + timedelta(microseconds=us)
    (span,) = [s for s in rules.spans(samples, START, END) if s.start <= moment < s.end]
    assert span.state is state_by_looking(samples, moment)


@given(samples_of_any_kind)
def test_the_uptime_lies_within_its_bounds(samples: list[Sample]) -> None:
    account = rules.ledger(samples, START, END)
    low, high = account.bounds
    assert 0 <= low <= high <= 1
    if account.uptime is None:
        assert account.up + account.down == timedelta(0)
    else:
        assert low - 1e-12 <= account.uptime <= high + 1e-12


@given(samples_of_any_kind)
def test_a_part_of_the_strip_is_up_only_if_every_moment_of_it_was(samples: list[Sample]) -> None:
    cut = rules.spans(samples, START, END)
    parts = rules.strip(cut, START, END, 30)
    length = (END - START) / 30
    assert len(parts) == 30
    for number, state in enumerate(parts):
        begins, ends = START + number * length, START + (number + 1) * length
        inside = {span.state for span in cut if span.start < ends and span.end > begins}
        worst_first = (State.DOWN, State.UNKNOWN, State.DEGRADED, State.UP)
        assert state is next(worst for worst in worst_first if worst in inside)


def test_the_last_sample_before_the_window_holds_into_it() -> None:
    account = rules.ledger([Sample(at(-1), "unhealthy", 60.0)], START, END)
    assert account.down == timedelta(minutes=1)
    assert account.unknown == timedelta(minutes=59)
    assert account.probes == 0


def test_a_silent_monitor_makes_the_rest_unknown_after_two_intervals() -> None:
    account = rules.ledger(every_minute(between=(0, 30)), START, END)
    assert account.up == timedelta(minutes=31)  # the last one holds for two minutes
    assert account.unknown == timedelta(minutes=29)
    assert account.uptime == 1.0
    assert account.bounds == (31 / 60, 1.0)
    assert rules.uptime_words(account) == "insufficient data"
    assert rules.target_met(account, 0.999) is None


def test_no_data_is_no_uptime() -> None:
    account = rules.ledger([], START, END)
    assert account.uptime is None
    assert account.coverage == 0
    assert account.bounds == (0, 1)
    assert rules.uptime_words(account) == "unknown"
    assert rules.target_met(account, 0.5) is None
    assert rules.confidence_low(account) is None


def test_a_status_that_nobody_knows_is_unknown_not_up() -> None:
    assert rules.ledger(every_minute("excellent"), START, END).unknown == timedelta(hours=1)


def test_degraded_counts_as_up_and_is_told_apart() -> None:
    account = rules.ledger(every_minute("degraded"), START, END)
    assert account.up == account.degraded == timedelta(hours=1)


def test_outages_are_counted_as_stretches_not_as_samples() -> None:
    down = {10, 11, 12, 40}
    samples = [Sample(at(m), "unhealthy" if m in down else "healthy", 60.0) for m in range(-1, 60)]
    account = rules.ledger(samples, START, END)
    assert account.outages == 2
    assert account.longest_outage == timedelta(minutes=3)
    assert account.down == timedelta(minutes=4)


def test_sixty_probes_without_a_failure_are_not_printed_as_three_nines() -> None:
    account = rules.ledger(every_minute(), START, END)
    assert rules.uptime_words(account) == "100%"
    low = rules.confidence_low(account)
    assert low is not None
    assert 0.93 < low < 0.95  # the textbook's Wilson bound of 60 of 60 is 0.9398


def test_an_uptime_is_rounded_down_never_up_to_a_hundred() -> None:
    samples = [Sample(at(0), "unhealthy", 60.0)] + [
        Sample(at(0.001) + timedelta(seconds=s), "healthy", 60.0) for s in range(3600)
    ]
    account = rules.ledger(samples, START, END)
    assert account.down == timedelta(milliseconds=60)
    assert rules.uptime_words(account) == "99.99%"


@given(samples_of_any_kind)
def test_only_a_window_without_downtime_is_printed_as_a_hundred_percent(samples: list[Sample]) -> None:
    account = rules.ledger(samples, START, END)
    words = rules.uptime_words(account)
    if words.startswith("100"):
        assert words == "100%"
        assert account.down == timedelta(0)


@pytest.mark.parametrize(("target", "met"), [(0.98, True), (0.99, False)])
def test_a_target_is_met_or_missed_by_the_known_time(target: float, met: bool) -> None:
    samples = [Sample(at(m), "unhealthy" if m == 5 else "healthy", 60.0) for m in range(-1, 60)]
    assert rules.target_met(rules.ledger(samples, START, END), target) is met


def change(minutes: float, from_state: str, to_state: str) -> Transition:
    return Transition("payments", at(minutes), from_state, to_state)


def test_a_breakers_open_time_begins_with_the_state_it_came_into_the_window_with() -> None:
    changes = [
        change(-10, "closed", "open"),
        change(5, "open", "half_open"),
        change(6, "half_open", "closed"),
        change(50, "closed", "open"),
    ]
    spent = rules.breaker_time("payments", changes, START, END)
    assert spent.openings == 1
    assert spent.open == timedelta(minutes=15)
    assert spent.half_open == timedelta(minutes=1)
    assert spent.state == "open"


def test_a_breaker_whose_first_change_comes_late_was_before_it_what_that_change_says() -> None:
    spent = rules.breaker_time("payments", [change(30, "open", "closed")], START, END)
    assert spent.open == timedelta(minutes=30)
    assert spent.openings == 0


def test_what_happened_after_the_window_is_left_out() -> None:
    changes = [change(-5, "open", "closed"), change(61, "closed", "open")]
    spent = rules.breaker_time("payments", changes, START, END)
    assert (spent.openings, spent.open, spent.state) == (0, timedelta(0), "closed")


def test_the_hourly_job_reports_on_the_last_full_hour() -> None:
    assert rules.scheduled_ends(at(17.5), 3600, None) == (START,)


def test_hours_that_nobody_reported_on_are_made_up_for_and_the_newest_is_looked_at_again() -> None:
    newest = START - timedelta(hours=3)
    ends = rules.scheduled_ends(at(0.1), 3600, newest)
    assert ends == tuple(START - timedelta(hours=h) for h in (3, 2, 1, 0))


def test_catching_up_ends_at_a_day() -> None:
    ends = rules.scheduled_ends(at(0), 3600, START - timedelta(days=30))
    assert ends[0] == START - timedelta(hours=24)
    assert len(ends) == 25


def test_a_clock_that_went_back_makes_no_endless_list() -> None:
    assert rules.scheduled_ends(at(0), 3600, START + timedelta(hours=5)) == (START,)


@given(st.floats(-0.2, 0.2), st.integers(1, 30))
def test_a_job_that_drifts_around_the_full_hour_leaves_no_hour_out(drift: float, hours: int) -> None:
    """Runs a little before and a little after the hour: every hour is reported on in the end."""
    reported: set[datetime] = set()
    newest: datetime | None = None
    for hour in range(hours + 1):
        now = START + timedelta(hours=hour, seconds=drift if hour % 2 else -drift)
        ends = rules.scheduled_ends(now, 3600, newest)
        reported.update(ends)
        newest = max(reported)
    assert newest is not None
    assert reported == {newest - timedelta(hours=n) for n in range(len(reported))}


def test_more_often_than_hourly_the_period_ends_at_the_last_multiple_of_the_interval() -> None:
    now = START + timedelta(seconds=13.7)
    assert rules.scheduled_ends(now, 5.0, START) == (START + timedelta(seconds=10),)


def test_less_often_than_hourly_it_is_still_an_hour_that_is_reported_on() -> None:
    assert rules.scheduled_ends(at(130), 7200, None) == (at(120),)


def test_changes_that_are_known_to_be_missing_are_told() -> None:
    changes = [change(10, "closed", "open"), Transition("payments", at(20), "closed", "open", gap=True)]
    assert rules.breaker_time("payments", changes, START, END).gaps == 1
