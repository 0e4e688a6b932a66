"""The arithmetic that is a report's own: how long breakers were open, and which hours are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from regrow.reports import rules
from regrow.reports.rules import Transition

START = datetime(2026, 3, 1, 11, tzinfo=UTC)
END = START + timedelta(hours=1)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


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
