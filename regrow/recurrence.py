"""Times that come again, on the clock of a place: rules for days, hours, and what a change of the clock does.

A span is said in the hours of a place ("monthly, Sunday", "02:00-04:00", "Europe/Berlin") and is kept in UTC,
from its first moment to before its last. Where the clock is put forward or back:

- A beginning that does not exist (02:30 in the night in which 02:00 becomes 03:00) is the moment of the jump;
  one that exists twice is the first of the two.
- An end is the first moment after the beginning at which the clock says so, or has jumped past it. A span
  whose hours are all jumped over begins at the jump and lasts as long as usual.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache

from dateutil.rrule import rrulestr

_ANCHOR = datetime(2024, 1, 1)  # noqa: DTZ001 - a Monday, in the place's own hours
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WHICH = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
_HOURS = re.compile(r"(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)$")
_FREQUENCIES = {"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}


def rule_of(repeat: str) -> str:
    """``repeat`` as a rule of RFC 5545. ValueError says what may be written.

    ``daily``; ``weekly, Sunday`` (several days with commas); ``monthly, Sunday`` (the first), ``monthly, last
    Friday``, ``monthly, 15``; or a rule itself, ``FREQ=MONTHLY;BYDAY=2TU``.
    """
    if "=" in repeat:
        return _checked(repeat.strip().upper().removeprefix("RRULE:"))
    how, _, days = repeat.strip().lower().partition(",")
    names = [day.strip() for day in days.split(",") if day.strip()]
    match how.strip():
        case "daily" if not names:
            return "FREQ=DAILY"
        case "weekly" if names and all(name in _DAYS for name in names):
            return f"FREQ=WEEKLY;BYDAY={','.join(name[:2].upper() for name in names)}"
        case "monthly" if len(names) == 1:
            return f"FREQ=MONTHLY;{_day_of_month(names[0])}"
    raise ValueError(_HOW)


_HOW = (
    'write "daily", "weekly, Sunday", "monthly, Sunday" (the first), "monthly, last Friday", "monthly, 15", '
    "or a rule of RFC 5545 such as FREQ=MONTHLY;BYDAY=2TU"
)


def hours_of(hours: str) -> tuple[time, time]:
    """``02:00-04:00`` as two times; an end that is not after the beginning is on the next day."""
    match = _HOURS.match(hours.strip())
    if match is None:
        raise ValueError('write hours as "02:00-04:00"')
    first, second, third, fourth = map(int, match.groups())
    try:
        return time(first, second), time(0) if (third, fourth) == (24, 0) else time(third, fourth)
    except ValueError:
        raise ValueError(f'{hours!r} has hours that no clock shows; write "02:00-04:00"') from None


def span_on(day: date, start: time, end: time, zone: tzinfo) -> tuple[datetime, datetime]:
    """The span in UTC of hours that begin on ``day``; see the head of this module for nights of change."""
    from_, until = datetime.combine(day, start), datetime.combine(day, end)
    if until <= from_:
        until += timedelta(days=1)
    begins = _first_at(from_, zone)
    ends = _first_at(until, zone)
    return begins, ends if ends > begins else begins + (until - from_)


@lru_cache(maxsize=256)
def days_of(rule: str, first: date, last: date) -> tuple[date, ...]:
    """The days of a rule from ``first`` to ``last``, both included."""
    days = rrulestr(rule, dtstart=_ANCHOR)
    found = days.between(datetime.combine(first, time()), datetime.combine(last, time()), inc=True)
    return tuple(day.date() for day in found)


def _first_at(local: datetime, zone: tzinfo) -> datetime:
    """The first moment at which the clock there shows ``local``, or has jumped past it."""
    first = local.replace(tzinfo=zone, fold=0)
    moment = first.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local:
        return moment
    # It does not exist: the two readings lie on both sides of the jump, which is found by halving.
    late = moment
    early = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).replace(tzinfo=None) >= local:
            late = middle
        else:
            early = middle
    return late.replace(microsecond=0)


def _day_of_month(day: str) -> str:
    if day.isdigit() and 1 <= int(day) <= 31:
        return f"BYMONTHDAY={int(day)}"
    which, _, name = day.rpartition(" ")
    if name in _DAYS and (not which or which in _WHICH):
        return f"BYDAY={_WHICH.get(which, 1)}{name[:2].upper()}"
    raise ValueError(_HOW)


def _checked(rule: str) -> str:
    parts = dict(part.partition("=")[::2] for part in rule.split(";"))
    if parts.get("FREQ") not in _FREQUENCIES or {"BYHOUR", "BYMINUTE", "BYSECOND"} & parts.keys():
        raise ValueError(f"a rule says days; its hours stand in hours: {_HOW}")
    try:
        rrulestr(rule, dtstart=_ANCHOR)
    except (ValueError, TypeError) as error:
        raise ValueError(f"no rule of RFC 5545 ({error}): {_HOW}") from None
    return rule
