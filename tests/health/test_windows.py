"""Maintenance windows: which days, which hours on the clock of a place, and what a change of that clock does."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.health.rules import Declared
from regrow.health.windows import Recurring, Scope, Window, covering, kind_at
from regrow.recurrence import hours_of, rule_of, span_on

NEW_YORK, BERLIN = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin")
SPRING, AUTUMN = date(2026, 3, 8), date(2026, 11, 1)  # in New York


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def recurring(repeat, hours="02:00-04:00", zone="UTC"):
    return Recurring("w", rule_of(repeat), *hours_of(hours), zone, Scope(everything=True))


def starts(repeat, since, until, **more):
    return [window.starts for window in recurring(repeat, **more).between(utc(since), utc(until))]


def span(day, hours, zone=NEW_YORK):
    return [moment.strftime("%d %H:%M") for moment in span_on(day, *hours_of(hours), zone)]


def test_monthly_sunday_is_the_first_one():
    assert starts("monthly, Sunday", "2026-01-01", "2026-04-01") == [
        utc("2026-01-04T02:00"),
        utc("2026-02-01T02:00"),
        utc("2026-03-01T02:00"),
    ]


@pytest.mark.parametrize(
    ("repeat", "days"),
    [
        ("daily", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("weekly, Sunday", [4]),
        ("Weekly, tuesday, Friday", [2, 6, 9]),
        ("monthly, second Friday", [9]),
        ("monthly, 7", [7]),
        ("FREQ=WEEKLY;BYDAY=MO,TH", [1, 5, 8]),
        ("RRULE:FREQ=MONTHLY;BYMONTHDAY=10", [10]),
    ],
)
def test_days_are_said_in_words_or_by_a_rule(repeat, days):
    assert [day.day for day in starts(repeat, "2026-01-01", "2026-01-11")] == days


@pytest.mark.parametrize(
    "repeat",
    [
        "",
        "sometimes",
        "weekly",
        "monthly, 32",
        "monthly, fifth Sunday",
        "FREQ=HOURLY",
        "FREQ=DAILY;BYHOUR=3",
        "FREQ=MONTHLY;BYDAY=XX",
    ],
)
def test_what_says_no_days_is_refused_with_what_may_be_written(repeat):
    with pytest.raises(ValueError, match="monthly, last Friday"):
        rule_of(repeat)


@pytest.mark.parametrize("hours", ["2-4", "02:00", "25:00-26:00", "02:60-03:00", "02:00 to 04:00"])
def test_what_says_no_hours_is_refused(hours):
    with pytest.raises(ValueError, match="02:00-04:00"):
        hours_of(hours)


def test_hours_over_midnight_end_on_the_next_day():
    assert span(date(2026, 6, 1), "23:00-01:30") == ["02 03:00", "02 05:30"]
    assert span(date(2026, 6, 1), "22:00-24:00") == ["02 02:00", "02 04:00"]


def test_the_hour_follows_the_clock_of_its_place_through_the_year():
    assert starts("monthly, 1", "2026-01-01", "2026-02-01", zone="Europe/Berlin") == [utc("2026-01-01T01:00")]
    assert starts("monthly, 1", "2026-06-30", "2026-07-02", zone="Europe/Berlin") == [utc("2026-07-01T00:00")]


@pytest.mark.parametrize(
    ("day", "hours", "said"),
    [
        # 02:00 becomes 03:00 at 07:00 UTC: 02:30 does not exist.
        (SPRING, "02:30-04:00", ["08 07:00", "08 08:00"]),
        (SPRING, "01:30-02:30", ["08 06:30", "08 07:00"]),
        (SPRING, "02:10-02:40", ["08 07:00", "08 07:30"]),
        (SPRING, "00:00-06:00", ["08 05:00", "08 10:00"]),
        # 02:00 becomes 01:00 at 06:00 UTC: 01:30 is there twice, at 05:30 and at 06:30.
        (AUTUMN, "01:30-02:30", ["01 05:30", "01 07:30"]),
        (AUTUMN, "00:30-01:30", ["01 04:30", "01 05:30"]),
        (AUTUMN, "01:15-01:45", ["01 05:15", "01 05:45"]),
        (AUTUMN, "00:00-06:00", ["01 04:00", "01 11:00"]),
    ],
)
def test_nights_in_which_the_clock_is_changed(day, hours, said):
    assert span(day, hours) == said


def test_a_night_that_is_skipped_whole_is_no_problem():
    """Samoa left out 30 December 2011."""
    begins, ends = span_on(date(2011, 12, 30), time(2), time(4), ZoneInfo("Pacific/Apia"))
    assert begins < ends == begins + timedelta(hours=2)


days = st.dates(date(2025, 1, 1), date(2028, 12, 31))
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
clock_times = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))


@given(days, clock_times, clock_times, zones)
def test_a_span_begins_before_it_ends_and_an_ordinary_day_has_the_hours_that_were_said(day, start, end, zone):
    place = ZoneInfo(zone)
    begins, ends = span_on(day, start, end, place)
    assert begins < ends <= begins + timedelta(hours=25, minutes=1)
    said = datetime.combine(day, start)
    nominal = datetime.combine(day, end) - said
    nominal += timedelta(days=1) if nominal <= timedelta() else timedelta()
    offsets = {(begins + timedelta(hours=hour)).astimezone(place).utcoffset() for hour in range(-26, 27)}
    if len(offsets) == 1:
        assert begins.astimezone(place).replace(tzinfo=None) == said
        assert ends - begins == nominal


@given(st.integers(0, 3 * 365 * 86_400), zones)
def test_looking_at_one_moment_finds_what_looking_at_a_year_finds(second, zone):
    moment = utc("2025-01-01") + timedelta(seconds=second)
    window = recurring("weekly, Sunday, Wednesday", "23:30-02:30", zone)
    wide = window.between(moment - timedelta(days=200), moment + timedelta(days=200))
    near = window.between(moment, moment + timedelta(seconds=1))
    assert [w for w in near if w.covers(moment)] == [w for w in wide if w.covers(moment)]


def test_spans_are_half_open():
    window = Window("w", "planned", utc("2026-01-01T02:00"), utc("2026-01-01T04:00"), Scope(everything=True))
    assert window.covers(utc("2026-01-01T02:00"))
    assert not window.covers(utc("2026-01-01T04:00"))


def test_a_window_holds_for_what_it_names_and_for_checks_that_name_it():
    def window(name, **scope):
        return Window(name, "planned", utc("2026-01-01"), utc("2026-01-02"), Scope(**scope))

    db = Declared("db", "tcp", 30.0, 5.0, labels={"team": "data", "tier": "1"}, maintenance=("night",))
    now = utc("2026-01-01T12:00")
    assert covering([window("a", checks=("db",))], db, now) == "a"
    assert covering([window("a", checks=("web",))], db, now) is None
    assert covering([window("a", labels=(("team", "data"), ("tier", "1")))], db, now) == "a"
    assert covering([window("a", labels=(("team", "data"), ("tier", "2")))], db, now) is None
    assert covering([window("night")], db, now) == "night"
    assert covering([window("noon")], db, now) is None
    assert covering([window("a", everything=True)], db, now + timedelta(days=1)) is None


def test_less_than_a_day_ahead_it_is_an_emergency():
    now = utc("2026-01-01")
    assert kind_at(now, now + timedelta(hours=24)) == "planned"
    assert kind_at(now, now + timedelta(hours=23, minutes=59)) == "emergency"
