"""A trend is told where there is one, with an interval that holds it, and nowhere else."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from regrow import lines
from regrow.capacity.rules import DAY, trend

T0 = datetime(2026, 3, 1, tzinfo=UTC)


def points(values, every=timedelta(hours=1)):
    return [(T0 + n * every, value) for n, value in enumerate(values)]


def disk(values, **options):
    return trend("disk", "data", "%", points(values, **options), limit=100.0)


def test_a_disk_that_fills_steadily_is_full_when_it_looks_so():
    found = disk([50.0 + n for n in range(25)])
    assert (found.direction, found.now, found.per_day) == ("rising", 74.0, pytest.approx(24.0))
    assert found.full_in == pytest.approx(26 * 3600)
    assert found.full_earliest == found.full_latest == found.full_in, "there is no doubt"
    assert found.as_dict()["full_in"] == pytest.approx(26 * 3600)


def test_five_points_are_no_trend_however_straight():
    found = disk([50.0, 60.0, 70.0, 80.0, 90.0])
    assert (found.direction, found.full_in, found.per_day) == ("unknown", None, None)
    assert "5 points" in found.why
    assert disk([]).direction == "unknown"


def test_noise_a_flat_line_and_a_saw_have_none():
    rng = random.Random(5)
    assert disk([60 + rng.uniform(-2, 2) for _ in range(48)]).direction == "none"
    assert disk([60.0] * 48).direction == "none"
    assert disk([60.0 + n % 12 for n in range(48)]).direction == "none"


def test_points_that_lie_too_far_from_any_line_have_none():
    rng = random.Random(2)
    wide = [0.05 * n + rng.gauss(0, 25) for n in range(400)]
    assert lines.sureness(wide) > 3
    found = trend("letters", "all", "letters/day", points(wide))
    assert found.direction == "none"


def test_wild_values_move_it_little():
    rng = random.Random(11)
    values = [50 + 0.5 * n + rng.uniform(-0.2, 0.2) for n in range(60)]
    for place in rng.sample(range(60), 12):
        values[place] = rng.choice([0.0, 99.0])
    found = disk(values)
    assert found.per_day == pytest.approx(12.0, rel=0.1)
    assert found.full_earliest < found.full_in < found.full_latest


def test_the_interval_holds_the_true_slope_in_about_nine_cases_of_ten():
    rng = random.Random(3)
    held = 0
    for _ in range(200):
        found = disk([10 + 0.5 * n + rng.gauss(0, 1) for n in range(40)])
        held += found.low <= 12.0 <= found.high
    assert 165 <= held <= 195


def test_what_falls_is_never_full_and_what_is_full_is_full_now():
    assert disk([90.0 - n for n in range(25)]).full_in is None
    assert disk([77.0 + n for n in range(25)]).full_in == 0.0


def test_nothing_is_forecast_beyond_what_one_can_know():
    found = disk([50 + 0.001 * n for n in range(48)])
    assert (found.direction, found.full_in) == ("rising", None)


def test_sens_interval_of_a_published_kind_of_case():
    # Five points by hand: slopes 1 (x9) and a wild one's; the middle is not moved.
    series = [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 30.0), (4.0, 4.0)]
    found = lines.slopes(series)
    assert (len(found), lines.slope_of(series)) == (10, 1.0)
    assert lines.score([0, 1, 2, 30, 4]) == (8, 5 * 4 * 15 / 18)
    low, high = lines.interval(found, [value for _, value in series], 1.645)
    assert low <= 1.0 <= high
    assert DAY == 86_400
