"""Slow start: what was out of order gets its work back little by little. One rule for calls and for redrive.

:class:`Ramp` says which share of the full load is right so long after the recovery. :class:`Pace` spends it
as a token bucket: so many a second at full load, fewer while the ramp goes up. Time and chance are arguments;
times are seconds of any one clock that does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from regrow.errors import SettingsError

FIRST_SHARE = 0.1  # of the full load, from the first moment on


@dataclass(frozen=True, slots=True)
class Ramp:
    """From ``first`` (a share in 0..1) evenly to all within ``seconds``; 0 seconds: all at once.

    ``elapsed`` is always the seconds since the recovery. SettingsError for values that make no sense.
    """

    seconds: float = 0.0
    first: float = FIRST_SHARE

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise SettingsError(f"ramp: seconds is {self.seconds!r}; give 0 (no ramp) or more")
        if not 0 < self.first <= 1:
            raise SettingsError(f"ramp: the first share is {self.first!r}; give one above 0, up to 1")

    def share(self, elapsed: float) -> float:
        """The share of the full load that is right now, in 0..1."""
        if elapsed >= self.seconds or not self.seconds:
            return 1.0
        return self.first + (1.0 - self.first) * max(0.0, elapsed) / self.seconds

    def reaches(self, share: float) -> float:
        """Seconds after the recovery at which ``share`` is reached."""
        if share <= self.first:
            return 0.0
        return self.seconds * (min(share, 1.0) - self.first) / (1.0 - self.first)

    def worth(self, begin: float, end: float) -> float:
        """The time from ``begin`` to ``end`` (elapsed seconds) as seconds of full load."""
        if end <= begin:
            return 0.0
        edges = [begin, *(edge for edge in (0.0, self.seconds) if begin < edge < end), end]
        # Between two edges the share is a straight line: its middle times the length is the area under it.
        return sum((right - left) * self.share((left + right) / 2) for left, right in pairwise(edges))


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """What may be spent, and when (seconds) that was reckoned."""

    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class Grant:
    """``granted`` of what was wanted; the bucket to keep; ``wait``: seconds until one more, at most."""

    granted: int
    bucket: TokenBucket
    wait: float


@dataclass(frozen=True, slots=True)
class Pace:
    """At most ``per_second`` at full load, and ``burst`` at once; fewer while ``ramp`` goes up."""

    per_second: float
    burst: float = 1.0
    ramp: Ramp = Ramp()

    def __post_init__(self) -> None:
        if not 0 < self.per_second < math.inf:
            raise SettingsError(f"pace: per_second is {self.per_second!r}; give a number above 0")
        if not 1 <= self.burst < math.inf:
            raise SettingsError(f"pace: burst is {self.burst!r}; give 1 or more")

    def take(self, bucket: TokenBucket | None, wanted: int, *, now: float, since: float | None) -> Grant:
        """Spend up to ``wanted``. ``bucket=None``: the first time. ``since``: the recovery; None: long ago.

        A clock that was set back gives nothing for the time in between and takes nothing away.
        """
        elapsed = self.ramp.seconds if since is None else now - since
        if bucket is None:
            tokens = max(1.0, self.burst * self.ramp.share(elapsed))
        else:
            passed = now - bucket.at
            tokens = bucket.tokens + self.per_second * (
                max(0.0, passed) if since is None else self.ramp.worth(elapsed - passed, elapsed)
            )
        tokens = min(self.burst, tokens)
        granted = max(0, min(wanted, math.floor(tokens)))
        left = tokens - granted
        wait = max(0.0, 1.0 - left) / (self.per_second * self.ramp.share(elapsed))
        return Grant(granted, TokenBucket(left, now), wait)
