"""Which hours, days and months reports are of, and which are due. Pure.

Hours are those of UTC; days and months those of a place, which on two days a year are 23 or 25 hours long.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal, get_args

from regrow.recurrence import span_on

Kind = Literal["hourly", "daily", "monthly"]
KINDS: tuple[Kind, ...] = get_args(Kind)

HOUR = timedelta(hours=1)
CATCH_UP: dict[Kind, int] = {"hourly": 24, "daily": 7, "monthly": 3}
"""How many periods back the scheduled job makes up for those of which no worker made the report."""
LOOK_AGAIN: dict[Kind, timedelta] = {"daily": timedelta(days=1), "monthly": timedelta(days=1)}
"""How long after its end a period is looked at again, for what came late."""


@dataclass(frozen=True, slots=True)
class Period:
    """``[start, end)``, in UTC."""

    kind: Kind
    start: datetime
    end: datetime


def floored(moment: datetime, step: timedelta) -> datetime:
    """The last multiple of ``step`` since the epoch that is not after ``moment``."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return moment - (moment - epoch) % step


def last(kind: Kind, moment: datetime, zone: tzinfo) -> Period:
    """The last period of the kind that has ended at ``moment``."""
    if kind == "hourly":
        end = floored(moment.astimezone(UTC), HOUR)
        return Period(kind, end - HOUR, end)
    day = moment.astimezone(zone).date() + timedelta(
        days=1
    )  # where a day has two midnights, the first counts
    while (midnight := _midnight(day, zone)) > moment or (kind == "monthly" and day.day > 1):
        day -= timedelta(days=1)
    first = day - timedelta(days=1)
    if kind == "monthly":
        first = first.replace(day=1)
    return Period(kind, _midnight(first, zone), midnight)


def edges(kind: str, start: datetime, end: datetime, zone: tzinfo, parts: int) -> list[datetime]:
    """Where the parts of a period begin and end: a day's hours, a month's days, else ``parts`` equal ones."""
    if kind == "daily":
        parts = max(1, (end - start) // HOUR)
    if kind != "monthly":
        return [start + (end - start) * n / parts for n in range(parts + 1)]
    first = start.astimezone(zone).date()
    days = (end.astimezone(zone).date() - first).days
    return [start, *(_midnight(first + timedelta(days=n), zone) for n in range(1, days)), end]


def due(kind: Kind, now: datetime, newest: datetime | None, zone: tzinfo) -> tuple[Period, ...]:
    """The periods that a scheduled run has to report on, oldest first.

    The last whole one, and whatever ended since the ``newest`` report's end that nobody reported on. The
    newest one is looked at again, days and months for a day after their end: results that came late amend it.
    """
    period = last(kind, now, zone)
    found: list[Period] = []
    while newest is None or period.end >= newest:
        again = period.end == newest
        if not again or now - period.end <= LOOK_AGAIN.get(kind, timedelta.max):
            found.insert(0, period)
        if newest is None or again or len(found) > CATCH_UP[kind]:
            break
        period = last(kind, period.start, zone)
    if newest is not None and newest > period.end and not found:  # the clock went back
        return (period,) if kind == "hourly" else ()
    return tuple(found)


def sliding(now: datetime, interval: float) -> Period | None:
    """The hour until the last multiple of ``interval`` seconds, where that is less than an hour."""
    if interval >= HOUR.total_seconds():
        return None
    end = floored(now, timedelta(seconds=max(1.0, interval)))
    return Period("hourly", end - HOUR, end)


def _midnight(day: date, zone: tzinfo) -> datetime:
    """The first moment of a day."""
    return span_on(day, time(0), time(0), zone)[0]
