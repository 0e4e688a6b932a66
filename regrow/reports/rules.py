"""The arithmetic of a report that is its own: breakers' time and the hours that are due. Pure.

That of uptime is ``regrow.slo.ledger``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR = timedelta(hours=1)
CATCH_UP = timedelta(hours=24)
"""How far back the scheduled job makes up for hours in which no worker made their report."""

_NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a breaker's state. ``gap``: a change before it is known to be missing."""

    breaker: str
    at: datetime
    from_state: str
    to_state: str
    gap: bool = False


@dataclass(frozen=True, slots=True)
class BreakerTime:
    """How often a breaker opened within a window, and for how long it was not closed."""

    breaker: str
    openings: int
    open: timedelta
    half_open: timedelta
    state: str
    gaps: int


OPEN = frozenset({"open", "forced_open"})


def breaker_time(
    breaker: str, transitions: Iterable[Transition], start: datetime, end: datetime
) -> BreakerTime:
    """What ``transitions`` of one breaker (with the last one before the window) say about the window."""
    ordered = sorted((t for t in transitions if t.at < end), key=lambda t: t.at)
    spent: dict[str, timedelta] = {}
    state = ordered[0].from_state if ordered else "closed"
    reached = start
    openings = 0
    for change in ordered:
        at = max(change.at, start)
        spent[state] = spent.get(state, _NOTHING) + (at - reached)
        reached, state = at, change.to_state
        if change.at >= start and change.to_state in OPEN and change.from_state not in OPEN:
            openings += 1
    spent[state] = spent.get(state, _NOTHING) + (end - reached)
    return BreakerTime(
        breaker=breaker,
        openings=openings,
        open=sum((spent.get(name, _NOTHING) for name in OPEN), _NOTHING),
        half_open=spent.get("half_open", _NOTHING),
        state=state,
        gaps=sum(change.gap for change in ordered if change.at >= start),
    )


def floored(moment: datetime, step: timedelta) -> datetime:
    """The last multiple of ``step`` since the epoch that is not after ``moment``."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return moment - (moment - epoch) % step


def scheduled_ends(now: datetime, interval: float, newest: datetime | None) -> tuple[datetime, ...]:
    """The ends of the one-hour periods that a scheduled run has to report on, oldest first.

    The last full hour, and whatever hours since the ``newest`` report nobody reported on (24 at most).
    The newest one is looked at again: results that came late amend it.

    Where the job runs more often than hourly (``interval`` seconds, the testing profile), the period is
    the 60 minutes that end at the last multiple of the interval, and there is nothing to catch up with.
    """
    step = min(HOUR, timedelta(seconds=max(1.0, interval)))
    until = floored(now, step)
    if step < HOUR or newest is None or newest > until:
        return (until,)
    missed = floored(max(newest, until - CATCH_UP), HOUR)
    return tuple(missed + n * HOUR for n in range((until - missed) // HOUR + 1))
