"""The arithmetic that is a report's own: how long breakers were open, what is known of counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from regrow.counted import Counted
from regrow.reports import of_counts, rules
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


def test_what_nobody_told_of_or_looked_at_is_unknown_and_what_was_told_may_be_none() -> None:
    never, told = (
        Counted(1.0),
        Counted(1.0, {"retry_attempts_total": {}, "fallback_usage_total": {"bank": 0}}),
    )
    assert of_counts.retries(never) == {
        "coverage": 1.0, "attempts": None, "exhausted": None, "budget_refused": None, "functions": []
    }  # fmt: skip
    assert of_counts.retries(told)["exhausted"] == 0
    assert of_counts.fallbacks(never)["used"] is None
    assert of_counts.fallbacks(told) == {"coverage": 1.0, "used": 0, "services": []}
    assert of_counts.fallbacks(Counted(0.0, told.amounts))["used"] is None


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        (Counted(), "? Nobody looked at the counts in the period."),
        (Counted(1.0), "? No app has told of any."),
        (Counted(1.0, {"retry_attempts_total": {}}), "Nothing was tried again."),
    ],
)
def test_why_there_is_no_row_of_retries(counted: Counted, words: str) -> None:
    section = of_counts.retries_section({"retries": of_counts.retries(counted)})
    assert (section.rows, section.empty) == ((), words)
