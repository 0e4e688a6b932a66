"""The arithmetic of a report that is its own: breakers' time. Pure.

That of uptime is ``regrow.slo.ledger``, that of which period is due ``regrow.reports.periods``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

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
