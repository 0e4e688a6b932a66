"""The time ledger: where the time of a check went. Pure functions over samples and spans.

A sample says how a check was at one moment; it holds until the next sample, but for no longer than twice the
check's interval. The rest of the time nobody looked: it is *unknown*, which is neither up nor down. Time in a
maintenance window and time in which nobody was asked to look (paused) is set aside. With U up (degraded
included), D down, X unknown, M maintenance and P paused over a window W:

    U + D + X + M + P = W      E = U + D + X, the time that counts
    uptime = U / (U + D), or None      coverage = (U + D) / E
    the true uptime lies within [U / E, (U + X) / E]

Samples are raw verdicts, not confirmed ones: hysteresis serves alerts and would hide downtime here. Spans are
half open and in UTC. Durations are timedeltas, that is whole microseconds, so that the first equation holds
exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from operator import add, attrgetter

HOLDS = 2
"""A sample holds for this many intervals of its check at most: one missed look is forgiven, two are not."""

SUFFICIENT = 0.9
"""Under this coverage an uptime is printed as "insufficient data"."""

NOTHING = timedelta(0)
_Z = 1.959964  # the 95 % quantile, both sides


class State(StrEnum):
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"
    MAINTENANCE = "maintenance"
    PAUSED = "paused"


_STATES = {"healthy": State.UP, "degraded": State.DEGRADED, "unhealthy": State.DOWN}

WORST_FIRST = (State.DOWN, State.UNKNOWN, State.DEGRADED, State.UP, State.MAINTENANCE, State.PAUSED)


@dataclass(frozen=True, slots=True)
class Sample:
    """One result of a check. ``interval``: seconds until the next was due; ``latency``: seconds it took."""

    at: datetime
    status: str
    interval: float
    latency: float = 0.0

    @property
    def state(self) -> State:
        """Any word that is not known to mean health is unknown."""
        return _STATES.get(self.status, State.UNKNOWN)

    @property
    def holds_until(self) -> datetime:
        """When it says nothing any more, unless another sample comes before."""
        return self.at + _held(self.interval)


@lru_cache(maxsize=256)
def _held(interval: float) -> timedelta:
    return HOLDS * timedelta(seconds=interval)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, half open, in one state.

    ``beneath``: in maintenance, what the probes found meanwhile.
    """

    start: datetime
    end: datetime
    state: State
    beneath: State | None = None

    @property
    def length(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the time of a window went; two of windows beside each other add up to that of both.

    ``degraded`` is the part of ``up`` that was degraded. ``masked_up`` (with its ``masked_degraded``) and
    ``masked_down`` are the parts of ``maintenance`` in which probes went on and found that. ``young`` is the
    part of ``paused`` before the check's first result, where whoever asks has told it (objectives do).
    ``probes`` are the known verdicts outside maintenance, ``failures`` those of them that were bad.
    """

    up: timedelta = NOTHING
    degraded: timedelta = NOTHING
    down: timedelta = NOTHING
    unknown: timedelta = NOTHING
    maintenance: timedelta = NOTHING
    paused: timedelta = NOTHING
    masked_up: timedelta = NOTHING
    masked_degraded: timedelta = NOTHING
    masked_down: timedelta = NOTHING
    young: timedelta = NOTHING
    probes: int = 0
    failures: int = 0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(*map(add, _parts(self), _parts(other)))

    @property
    def window(self) -> timedelta:
        return self.eligible + self.maintenance + self.paused

    @property
    def eligible(self) -> timedelta:
        """E: the time that counts."""
        return self.up + self.down + self.unknown

    @property
    def promised(self) -> timedelta:
        """What a budget is of: the time that counts, and for a young check all of its window from the start.

        Else the first bad minute of a new check would spend a budget of seconds.
        """
        return self.eligible + self.young

    @property
    def uptime(self) -> float | None:
        known = self.up + self.down
        return self.up / known if known else None

    @property
    def coverage(self) -> float:
        return (self.up + self.down) / self.eligible if self.eligible else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most the uptime can have been, whatever happened while nobody looked."""
        if not self.eligible:
            return 0.0, 1.0
        return self.up / self.eligible, (self.up + self.unknown) / self.eligible

    @property
    def sufficient(self) -> bool:
        return self.coverage >= SUFFICIENT

    def steady_over(self, window: timedelta) -> State | None:
        """The one state that all of a window of this length was in; None: of several, or in maintenance."""
        parts = {
            State.UP: self.up - self.degraded,
            State.DEGRADED: self.degraded,
            State.DOWN: self.down,
            State.UNKNOWN: self.unknown,
            State.PAUSED: self.paused,
        }
        return next((state for state, spent in parts.items() if spent == window), None)

    def with_maintenance(self) -> Ledger:
        """The same window for a promise that holds in maintenance too: it counts as what probes found."""
        silent = self.maintenance - self.masked_up - self.masked_down
        return Ledger(
            up=self.up + self.masked_up,
            degraded=self.degraded + self.masked_degraded,
            down=self.down + self.masked_down,
            unknown=self.unknown + silent,
            paused=self.paused,
            young=self.young,
            probes=self.probes,
            failures=self.failures,
        )


_parts = attrgetter(*(part.name for part in fields(Ledger)))


@dataclass(frozen=True, slots=True)
class Mask:
    """Time to be set aside: ``maintenance`` whatever was found in it, ``paused`` where nothing was found."""

    start: datetime
    end: datetime
    state: State


def spans(
    samples: Iterable[Sample], start: datetime, end: datetime, masks: Iterable[Mask] = ()
) -> tuple[Span, ...]:
    """The window ``[start, end)`` cut into stretches of one state each, without gap or overlap.

    Samples before the window count as far as they reach into it. In whatever order samples come, and however
    often, the spans are the same.
    """
    ordered = _in_order(samples)
    found: list[Span] = []
    since, reached, state = start, start, State.UNKNOWN  # of the stretch that goes on
    for sample, following in zip(ordered, [*(one.at for one in ordered[1:]), end], strict=False):
        begins, ends = max(sample.at, start), min(following, sample.holds_until, end)
        if begins >= ends:
            continue
        if reached < begins and state is not State.UNKNOWN:
            found.append(Span(since, reached, state))
            since, state = reached, State.UNKNOWN
        if (told := sample.state) is not state:
            if since < begins:
                found.append(Span(since, begins, state))
            since, state = begins, told
        reached = ends
    if reached < end and state is not State.UNKNOWN:
        found.append(Span(since, reached, state))
        since, state = reached, State.UNKNOWN
    if since < end:
        found.append(Span(since, end, state))
    return masked(found, masks)


def masked(cut: Iterable[Span], masks: Iterable[Mask]) -> tuple[Span, ...]:
    """The spans with this time set aside; maintenance first, then pauses in what is unknown still."""
    found, masks = list(cut), list(masks)
    for state in (State.MAINTENANCE, State.PAUSED):
        for mask in masks:
            if mask.state is state:
                found = _masked(found, mask)
    return tuple(found)


def joined(parts: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order of their beginning, neighbours of one state made one."""
    found: list[Span] = []
    for span in sorted(parts, key=lambda span: span.start):
        _append(found, span)
    return tuple(found)


def clipped(cut: Iterable[Span], start: datetime, end: datetime) -> tuple[Span, ...]:
    """What of the spans lies in ``[start, end)``, in order; what none tells of is unknown."""
    found: list[Span] = []
    reached = start
    for span in sorted(cut, key=lambda span: span.start):
        begins, ends = max(span.start, reached), min(span.end, end)
        if begins < ends:
            _append(found, Span(reached, begins, State.UNKNOWN))
            _append(found, Span(begins, ends, span.state, span.beneath))
            reached = ends
    _append(found, Span(reached, end, State.UNKNOWN))
    return tuple(found)


def _in_order(samples: Iterable[Sample]) -> list[Sample]:
    """By time; of several at one moment the worst counts, whoever came first."""
    ordered = sorted(samples, key=attrgetter("at"))
    if all(one.at < other.at for one, other in pairwise(ordered)):
        return ordered
    ordered.sort(key=lambda s: (s.at, -_SEVERITY[s.state], s.interval))
    return [s for n, s in enumerate(ordered) if n + 1 == len(ordered) or ordered[n + 1].at != s.at]


_SEVERITY = {state: number for number, state in enumerate(WORST_FIRST)}


def _masked(cut: Iterable[Span], mask: Mask) -> list[Span]:
    found: list[Span] = []
    for span in cut:
        begins, ends = max(span.start, mask.start), min(span.end, mask.end)
        untouched = span.state is State.MAINTENANCE or (
            mask.state is State.PAUSED and span.state is not State.UNKNOWN
        )
        if begins >= ends or untouched:
            _append(found, span)
            continue
        beneath = span.state if mask.state is State.MAINTENANCE else None
        _append(found, Span(span.start, begins, span.state, span.beneath))
        _append(found, Span(begins, ends, mask.state, beneath))
        _append(found, Span(ends, span.end, span.state, span.beneath))
    return found


def _append(found: list[Span], span: Span) -> None:
    """Add a span that is not empty, joined to the last one if that goes on in the same state."""
    if span.start >= span.end:
        return
    if found and found[-1].end == span.start and _alike(found[-1], span):
        span = Span(found.pop().start, span.end, span.state, span.beneath)
    found.append(span)


def _alike(one: Span, other: Span) -> bool:
    return one.state is other.state and one.beneath is other.beneath


def ledger(samples: Sequence[Sample], start: datetime, end: datetime, masks: Iterable[Mask] = ()) -> Ledger:
    """The account of one check over the window ``[start, end)``."""
    masks = list(masks)
    return account(spans(samples, start, end, masks), samples, start, end)


def account(cut: Iterable[Span], samples: Iterable[Sample], start: datetime, end: datetime) -> Ledger:
    """The account of spans that fill ``[start, end)``, and of the samples in it."""
    spent, beneath = _NOTHING_SPENT.copy(), _NOTHING_SPENT.copy()
    aside: list[Span] = []
    for span in cut:
        spent[span.state] += span.length
        if span.state is State.MAINTENANCE:
            aside.append(span)
            beneath[span.beneath or State.UNKNOWN] += span.length
    probes = failures = 0
    for sample in _in_order(samples):
        state = sample.state
        if state is State.UNKNOWN or not start <= sample.at < end:
            continue
        if not any(span.start <= sample.at < span.end for span in aside):
            probes += 1
            failures += state is State.DOWN
    found = Ledger(
        up=spent[State.UP] + spent[State.DEGRADED],
        degraded=spent[State.DEGRADED],
        down=spent[State.DOWN],
        unknown=spent[State.UNKNOWN],
        maintenance=spent[State.MAINTENANCE],
        paused=spent[State.PAUSED],
        masked_up=beneath[State.UP] + beneath[State.DEGRADED],
        masked_degraded=beneath[State.DEGRADED],
        masked_down=beneath[State.DOWN],
        probes=probes,
        failures=failures,
    )
    if found.window != end - start:
        message = f"the ledger does not add up: {found} over {end - start}"
        raise AssertionError(message)
    return found


_NOTHING_SPENT = dict.fromkeys(State, NOTHING)


def unmasked(cut: Iterable[Span]) -> tuple[Span, ...]:
    """The spans for a promise that holds in maintenance too."""
    return joined(
        Span(span.start, span.end, span.beneath or State.UNKNOWN) if span.state is State.MAINTENANCE else span
        for span in cut
    )


def outages(cut: Iterable[Span]) -> list[timedelta]:
    """How long each stretch of downtime was."""
    return [span.length for span in cut if span.state is State.DOWN]


def uptime_words(found: Ledger) -> str:
    """The uptime as it may be printed: no more digits than the probes can carry, and never rounded up.

    One probe of 60 is worth 1.7 %, so 60 probes with a failure are "98%", not "98.333%".
    """
    if found.uptime is None:
        return "unknown"
    if not found.sufficient:
        return "insufficient data"
    if found.down == NOTHING:
        return "100%"
    digits = max(0, min(3, math.floor(math.log10(max(found.probes, 1))) - 1))
    scale = 10**digits
    # Whole microseconds, floored: 99.9996 with two digits is 99.99, not 100.00.
    return f"{found.up * (100 * scale) // (found.up + found.down) / scale:.{digits}f}%"


def confidence_low(found: Ledger) -> float | None:
    """The lower 95 % Wilson bound of the uptime, from as many probes as were made.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share, n = found.uptime, found.probes
    if share is None or n == 0:
        return None
    square = _Z * _Z
    middle = share + square / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + square / n))


def target_met(found: Ledger, target: float) -> bool | None:
    """Whether the uptime reached ``target``; None when too little is known to say."""
    if found.uptime is None or not found.sufficient:
        return None
    return found.uptime >= target


def strip(cut: Sequence[Span], start: datetime, end: datetime, buckets: int) -> tuple[State, ...]:
    """The window in equal parts, each in the worst state it saw: down, unknown, degraded, up, set aside.

    Any unknown moment makes a part unknown, because unknown is never shown as healthy.
    """
    return strip_over(cut, [start + (end - start) * i / buckets for i in range(buckets + 1)])


def strip_over(cut: Sequence[Span], edges: Sequence[datetime]) -> tuple[State, ...]:
    """The same for parts that need not be equal: each from one of the ``edges`` to the next."""
    buckets = len(edges) - 1
    seen: list[set[State]] = [set() for _ in range(buckets)]
    index = 0
    for span in cut:
        while index < buckets and edges[index + 1] <= span.start:
            index += 1
        at = index
        while at < buckets and edges[at] < span.end:
            seen[at].add(span.state)
            at += 1
    return tuple(next((state for state in WORST_FIRST if state in states), State.UNKNOWN) for states in seen)
