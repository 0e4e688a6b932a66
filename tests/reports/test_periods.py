"""Which hours, days and months reports are of, and which are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.reports import periods
from regrow.reports.periods import Kind

START = datetime(2026, 3, 1, 11, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def hours_due(now: datetime, newest: datetime | None) -> list[datetime]:
    return [period.end for period in periods.due("hourly", now, newest, UTC)]


def test_the_hourly_job_reports_on_the_last_full_hour() -> None:
    assert hours_due(at(17.5), None) == [START]


def test_hours_that_nobody_reported_on_are_made_up_for_and_the_newest_is_looked_at_again() -> None:
    newest = START - 3 * HOUR
    assert hours_due(at(0.1), newest) == [START - n * HOUR for n in (3, 2, 1, 0)]


def test_catching_up_ends_at_a_day() -> None:
    ends = hours_due(at(0), START - 30 * DAY)
    assert ends[0] == START - 24 * HOUR
    assert len(ends) == 25


def test_a_clock_that_went_back_makes_no_endless_list() -> None:
    assert hours_due(at(0), START + 5 * HOUR) == [START]
    assert periods.due("daily", at(0), START + 5 * DAY, UTC) == ()


@given(st.floats(-0.2, 0.2), st.integers(1, 30))
def test_a_job_that_drifts_around_the_full_hour_leaves_no_hour_out(drift: float, hours: int) -> None:
    """Runs a little before and a little after the hour: every hour is reported on in the end."""
    reported: set[datetime] = set()
    newest: datetime | None = None
    for hour in range(hours + 1):
        now = START + timedelta(hours=hour, seconds=drift if hour % 2 else -drift)
        reported.update(hours_due(now, newest))
        newest = max(reported)
    assert newest is not None
    assert reported == {newest - timedelta(hours=n) for n in range(len(reported))}


def test_more_often_than_hourly_the_period_ends_at_the_last_multiple_of_the_interval() -> None:
    period = periods.sliding(START + timedelta(seconds=13.7), 5.0)
    assert period is not None
    assert (period.start, period.end) == (at(-60) + timedelta(seconds=10), START + timedelta(seconds=10))
    assert periods.sliding(START, 7200) is None


@pytest.mark.parametrize(("day", "hours"), [(29, 23), (28, 24)])
def test_a_day_of_a_place_is_as_long_as_its_clock_says(day: int, hours: int) -> None:
    """On 29 March 2026 the clock of Berlin is put forward; on 25 October back."""
    noon_after = datetime(2026, 3, day + 1, 12, tzinfo=BERLIN)
    period = periods.last("daily", noon_after, BERLIN)
    assert period.start == datetime(2026, 3, day, tzinfo=BERLIN)
    assert period.end - period.start == hours * HOUR
    assert len(periods.edges("daily", period.start, period.end, BERLIN, 30)) == hours + 1


def test_the_day_on_which_the_clock_is_put_back_has_25_hours() -> None:
    period = periods.last("daily", datetime(2026, 10, 26, 0, 0, tzinfo=BERLIN), BERLIN)
    assert period.end - period.start == 25 * HOUR
    edges = periods.edges("daily", period.start, period.end, BERLIN, 30)
    assert {later - earlier for earlier, later in pairwise(edges)} == {HOUR}
    assert len(edges) == 26


def test_a_month_is_cut_into_the_days_of_its_place() -> None:
    period = periods.last("monthly", datetime(2026, 4, 15, tzinfo=UTC), BERLIN)
    assert period.start == datetime(2026, 3, 1, tzinfo=BERLIN)
    assert period.end == datetime(2026, 4, 1, tzinfo=BERLIN)
    edges = periods.edges("monthly", period.start, period.end, BERLIN, 30)
    lengths = [(later - earlier) / HOUR for earlier, later in pairwise(edges)]
    assert lengths == [24.0] * 28 + [23.0] + [24.0] * 2


@pytest.mark.parametrize("kind", ["hourly", "daily", "monthly"])
@given(moment=st.integers(0, 10**7).map(at))
def test_periods_follow_each_other_without_gap_and_end_before_now(kind: Kind, moment: datetime) -> None:
    for zone in (BERLIN, ZoneInfo("America/Havana"), ZoneInfo("Pacific/Apia")):
        period = periods.last(kind, moment, zone)
        assert period.start < period.end <= moment
        assert periods.last(kind, period.end, zone) == period
        assert periods.last(kind, period.start, zone).end == period.start


def test_a_day_is_looked_at_again_until_the_next_is_over() -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    assert [one.end for one in periods.due("daily", midnight + HOUR, midnight, UTC)] == [midnight]
    months = periods.due("monthly", midnight + 5 * DAY, datetime(2026, 3, 1, tzinfo=UTC), UTC)
    assert months == ()
    missed = periods.due("daily", midnight + 3 * DAY, midnight, UTC)
    assert [one.end for one in missed] == [midnight + n * DAY for n in (1, 2, 3)]
