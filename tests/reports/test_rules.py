"""The arithmetic that is a report's own: how long breakers were open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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


def test_changes_that_are_known_to_be_missing_are_told() -> None:
    changes = [change(10, "closed", "open"), Transition("payments", at(20), "closed", "open", gap=True)]
    assert rules.breaker_time("payments", changes, START, END).gaps == 1
