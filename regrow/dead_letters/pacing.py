"""How fast a service's letters go home: the breaker's word, a slow start, and a rate that yields. Pure.

Open: nothing goes. Half-open: one letter per recovery interval, a canary; the app's own breaker decides what
becomes of it. Closed: a token bucket whose rate begins at a tenth after a recovery, halves when the service
shows strain, sinks when its answers get slow, and rises again by small steps. So redrive takes what live
traffic leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from regrow.breakers.ramp import Pace, Ramp, TokenBucket

LOOK_EVERY = 1.0
"""Seconds between two looks at the outcomes; each moves the rate by one step."""
STRAINED = 0.1
"""This share of strained outcomes, or of failing calls in the breaker's window, is too much."""
FALL, SINK, RISE = 0.5, 0.8, 0.05
FLOOR = 0.02
"""Of the full rate; it never falls to nothing, or nothing would show that the service is well again."""
SLOW, GRACE = 2.0, 0.25
"""Slow is an answer after twice the usual time and a quarter of a second."""
DRIFT = 0.05
"""How fast slower answers become usual, per look."""
AT_ONCE = 0.2
"""Seconds of the rate that are worth a batch: letters that trickle would each cost a transaction."""


@dataclass(frozen=True)
class Gate:
    """What a service's circuit breaker says. ``seconds``: until a try is worth it, when it is open.

    ``since``: when it came into its state. ``failing``: the share of calls in its window that failed.
    """

    state: Literal["closed", "half_open", "open"] = "closed"
    seconds: float = 0.0
    since: datetime | None = None
    failing: float = 0.0


@dataclass(frozen=True)
class Limits:
    """``rate``: letters a second, at most. ``burst``: letters at once. Times in seconds."""

    rate: float
    burst: int
    slow_start: float
    recovery: float


@dataclass(frozen=True)
class Seen:
    """Outcomes since the last look: how many succeeded, how many failed for a reason that is the service's,
    and the mean seconds from dispatch to success."""

    succeeded: int = 0
    strained: int = 0
    latency: float | None = None


@dataclass(frozen=True)
class Paced:
    """What is remembered of a service. ``resumed_at``: since when it is closed; None while it is not."""

    rate: float
    tokens: float
    filled_at: datetime
    looked_at: datetime
    latency: float | None = None
    resumed_at: datetime | None = None
    canary_at: datetime | None = None


@dataclass(frozen=True)
class Grant:
    """How many letters may go now; what to remember; seconds until it is worth asking again."""

    granted: int
    paced: Paced
    wait: float


def first(gate: Gate, limits: Limits, now: datetime) -> Paced:
    """Of a service that is redriven for the first time."""
    past = now - timedelta(seconds=limits.slow_start)
    since = None if gate.state != "closed" else max(past, min(gate.since or past, now))
    share = _share(limits, since, now)
    return Paced(limits.rate, max(1.0, limits.burst * share), now, now, resumed_at=since)


def adapt(paced: Paced, seen: Seen, gate: Gate, limits: Limits, now: datetime) -> Paced:
    """The rate and the usual latency after a look."""
    rate, usual = min(paced.rate, limits.rate), paced.latency
    total = seen.succeeded + seen.strained
    slow = usual is not None and seen.latency is not None and seen.latency > SLOW * usual + GRACE
    if gate.failing >= STRAINED or (total and seen.strained >= STRAINED * total):
        rate *= FALL
    elif slow:
        rate *= SINK
    elif seen.succeeded:
        rate += RISE * limits.rate
    if seen.latency is not None:
        usual = seen.latency if usual is None else min(seen.latency, usual + DRIFT * (seen.latency - usual))
    rate = min(limits.rate, max(FLOOR * limits.rate, rate))
    return replace(paced, rate=rate, latency=usual, looked_at=now)


def grant(paced: Paced, gate: Gate, limits: Limits, wanted: int, now: datetime) -> Grant:
    """How many of ``wanted`` letters may go."""
    if gate.state == "open":
        return Grant(0, replace(paced, resumed_at=None), gate.seconds)
    if gate.state == "half_open":
        return _canary(replace(paced, resumed_at=None), limits, now)
    paced = _resumed(paced, gate, limits, now)
    pace = Pace(paced.rate, max(1, limits.burst), Ramp(limits.slow_start))
    bucket = TokenBucket(paced.tokens, paced.filled_at.timestamp())
    since = None if paced.resumed_at is None else paced.resumed_at.timestamp()
    got = pace.take(bucket, wanted, now=now.timestamp(), since=since)
    current = paced.rate * _share(limits, paced.resumed_at, now)
    enough = min(wanted, limits.burst, max(1, math.ceil(current * AT_ONCE)))
    if got.granted < enough:
        kept = replace(paced, tokens=got.bucket.tokens + got.granted, filled_at=now)
        return Grant(0, kept, max(0.01, (enough - kept.tokens) / current))
    return Grant(got.granted, replace(paced, tokens=got.bucket.tokens, filled_at=now), 0.0)


def give_back(paced: Paced, unused: int, limits: Limits) -> Paced:
    """Tokens for which there was no letter."""
    return replace(paced, tokens=min(float(limits.burst), paced.tokens + unused))


def _canary(paced: Paced, limits: Limits, now: datetime) -> Grant:
    passed = math.inf if paced.canary_at is None else (now - paced.canary_at).total_seconds()
    if 0 <= passed < limits.recovery:
        return Grant(0, paced, limits.recovery - passed)
    return Grant(1, replace(paced, canary_at=now), limits.recovery)


def _resumed(paced: Paced, gate: Gate, limits: Limits, now: datetime) -> Paced:
    """A breaker that closed, seen doing so or not, begins anew: at full rate below a slow start."""
    closed = min(gate.since or now, now)
    if paced.resumed_at is not None and (gate.since is None or closed <= paced.resumed_at):
        return paced
    tokens = max(1.0, limits.burst * _share(limits, closed, now))
    return replace(
        paced, rate=limits.rate, tokens=min(paced.tokens, tokens), filled_at=now, resumed_at=closed
    )


def _share(limits: Limits, resumed_at: datetime | None, now: datetime) -> float:
    elapsed = limits.slow_start if resumed_at is None else (now - resumed_at).total_seconds()
    return Ramp(limits.slow_start).share(elapsed)
