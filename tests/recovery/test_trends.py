"""Early warnings: what surely rises towards its threshold is told, chance and the crossed are not."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.recovery.trends import Point, warning

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HORIZON = 1800.0


def points(values, every=60.0):
    return [Point(T0 + timedelta(seconds=every * n), value) for n, value in enumerate(values)]


def test_a_steady_rise_is_told_with_the_time_that_is_left():
    found = warning(points([0.100 + 0.010 * n for n in range(20)]), 0.5, HORIZON)
    assert round(found.per_hour, 3) == 0.6
    assert round(found.crosses_in) == round((0.5 - 0.29) / 0.010 * 60)
    assert found.points == 20


def test_wild_values_move_it_little():
    chance = random.Random(7)
    values = [0.1 + 0.01 * n for n in range(24)]
    for place in (3, 9, 14, 20):
        values[place] = chance.choice([5.0, 0.0])
    found = warning(points(values), 0.5, HORIZON)
    assert 0.5 < found.per_hour < 0.7


def test_nothing_is_told_of_noise_of_few_points_or_of_what_comes_much_later():
    chance = random.Random(3)
    assert warning(points([0.2 + chance.uniform(-0.05, 0.05) for _ in range(30)]), 0.5, HORIZON) is None
    assert warning(points([0.1 + 0.03 * n for n in range(11)]), 0.5, HORIZON) is None
    assert warning(points([0.1 + 0.001 * n for n in range(30)]), 0.5, HORIZON) is None
    assert warning(points([0.1 + 0.01 * n for n in range(20)], every=5), 0.5, HORIZON) is None


def test_what_has_crossed_is_no_early_warning():
    assert warning(points([0.4 + 0.02 * n for n in range(20)]), 0.5, HORIZON) is None


def test_what_falls_or_stands_is_not_told():
    assert warning(points([0.4 - 0.01 * n for n in range(20)]), 0.5, HORIZON) is None
    assert warning(points([0.4] * 20), 0.5, HORIZON) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 10, allow_nan=False), max_size=40), st.floats(0.1, 10))
def test_whatever_is_told_lies_ahead_and_below_the_threshold(values, threshold):
    found = warning(points(values), threshold, HORIZON)
    if found is not None:
        assert found.value < threshold
        assert 0 < found.crosses_in <= HORIZON
        assert found.per_hour > 0
