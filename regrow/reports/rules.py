"""The arithmetic of a report: pure functions over samples, transitions and times.

The time ledger. A sample says how a check was at one moment; it holds until the next sample, but for no
longer than twice the check's interval. The rest of the time nobody looked: it is *unknown*, which is neither
up nor down. With U up (degraded included), D down, X unknown over a window W:

    U + D + X = W      uptime = U / (U + D), or None      coverage = (U + D) / W
    the true uptime lies within [U / W, (U + X) / W]

Durations are timedeltas, that is whole microseconds, so that the first equation holds exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

HOLDS = 2
"""A sample holds for this many intervals of its check at most: one missed look is forgiven, two are not."""

SUFFICIENT = 0.9
"""Under this coverage an uptime is printed as "insufficient data"."""

HOUR = timedelta(hours=1)
CATCH_UP = timedelta(hours=24)
"""How far back the scheduled job makes up for hours in which no worker made their report."""

_NOTHING = timedelta(0)
_Z = 1.959964  # the 95 % quantile, both sides


class State(StrEnum):
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


_STATES = {"healthy": State.UP, "degraded": State.DEGRADED, "unhealthy": State.DOWN}


@dataclass(frozen=True, slots=True)
class Sample:
    """One result of a check. ``interval``: seconds until the next was due."""

    at: datetime
    status: str
    interval: float

    @property
    def state(self) -> State:
        """Any word that is not known to mean health is unknown."""
        return _STATES.get(self.status, State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, half open, in one state."""

    start: datetime
    end: datetime
    state: State

    @property
    def length(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the time of a window went. ``degraded`` is the part of ``up`` that was degraded."""

    up: timedelta
    degraded: timedelta
    down: timedelta
    unknown: timedelta
    probes: int
    outages: int
    longest_outage: timedelta

    @property
    def window(self) -> timedelta:
        return self.up + self.down + self.unknown

    @property
    def uptime(self) -> float | None:
        known = self.up + self.down
        return self.up / known if known else None

    @property
    def coverage(self) -> float:
        return (self.up + self.down) / self.window

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most the uptime can have been, whatever happened while nobody looked."""
        return self.up / self.window, (self.up + self.unknown) / self.window

    @property
    def sufficient(self) -> bool:
        return self.coverage >= SUFFICIENT


def spans(samples: Iterable[Sample], start: datetime, end: datetime) -> tuple[Span, ...]:
    """The window ``[start, end)`` cut into stretches of one state each, without gap or overlap.

    Samples before the window count as far as they reach into it.
    """
    ordered = sorted(samples, key=lambda sample: sample.at)
    found: list[Span] = []
    reached = start
    for index, sample in enumerate(ordered):
        following = ordered[index + 1].at if index + 1 < len(ordered) else end
        holds_until = sample.at + HOLDS * timedelta(seconds=sample.interval)
        begins, ends = max(sample.at, start), min(following, holds_until, end)
        if begins >= ends:
            continue
        _append(found, Span(reached, begins, State.UNKNOWN))
        _append(found, Span(begins, ends, sample.state))
        reached = ends
    _append(found, Span(reached, end, State.UNKNOWN))
    return tuple(found)


def _append(found: list[Span], span: Span) -> None:
    """Add a span that is not empty, joined to the last one if that goes on in the same state."""
    if span.start >= span.end:
        return
    if found and found[-1].state is span.state:
        span = Span(found.pop().start, span.end, span.state)
    found.append(span)


def ledger(samples: Sequence[Sample], start: datetime, end: datetime) -> Ledger:
    """The account of one check over the window ``[start, end)``."""
    cut = spans(samples, start, end)
    spent = {state: sum((s.length for s in cut if s.state is state), _NOTHING) for state in State}
    outages = [span.length for span in cut if span.state is State.DOWN]
    account = Ledger(
        up=spent[State.UP] + spent[State.DEGRADED],
        degraded=spent[State.DEGRADED],
        down=spent[State.DOWN],
        unknown=spent[State.UNKNOWN],
        probes=sum(start <= s.at < end and s.state is not State.UNKNOWN for s in samples),
        outages=len(outages),
        longest_outage=max(outages, default=_NOTHING),
    )
    if account.window != end - start:
        message = f"the ledger does not add up: {account} over {end - start}"
        raise AssertionError(message)
    return account


def uptime_words(account: Ledger) -> str:
    """The uptime as it may be printed: no more digits than the probes can carry, and never rounded up.

    One probe of 60 is worth 1.7 %, so 60 probes with a failure are "98%", not "98.333%".
    """
    if account.uptime is None:
        return "unknown"
    if not account.sufficient:
        return "insufficient data"
    if account.down == _NOTHING:
        return "100%"
    digits = max(0, min(3, math.floor(math.log10(max(account.probes, 1))) - 1))
    scale = 10**digits
    # Whole microseconds, floored: 99.9996 with two digits is 99.99, not 100.00.
    return f"{account.up * (100 * scale) // (account.up + account.down) / scale:.{digits}f}%"


def confidence_low(account: Ledger) -> float | None:
    """The lower 95 % Wilson bound of the uptime, from as many probes as were made."""
    share, n = account.uptime, account.probes
    if share is None or n == 0:
        return None
    square = _Z * _Z
    middle = share + square / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + square / n))


def target_met(account: Ledger, target: float) -> bool | None:
    """Whether the uptime reached ``target``; None when too little is known to say."""
    if account.uptime is None or not account.sufficient:
        return None
    return account.uptime >= target


def strip(cut: Sequence[Span], start: datetime, end: datetime, buckets: int) -> tuple[State, ...]:
    """The window in equal parts, each in the worst state it saw: down, unknown, degraded, up.

    Any unknown moment makes a part unknown, because unknown is never shown as healthy.
    """
    order = (State.DOWN, State.UNKNOWN, State.DEGRADED, State.UP)
    edges = [start + (end - start) * i / buckets for i in range(buckets + 1)]
    seen: list[set[State]] = [set() for _ in range(buckets)]
    index = 0
    for span in cut:
        while index < buckets and edges[index + 1] <= span.start:
            index += 1
        at = index
        while at < buckets and edges[at] < span.end:
            seen[at].add(span.state)
            at += 1
    return tuple(next((state for state in order if state in states), State.UNKNOWN) for states in seen)


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
