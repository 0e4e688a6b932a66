"""When to try again, decided as a value: attempt, error, elapsed time and chance in; a delay or None out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, get_args

from regrow.errors import CircuitOpenError, SettingsError
from regrow.matching import Matchers, matchers, matches
from regrow.retries.hints import retry_after

SHORTEST_WAIT = 0.1  # seconds between two looks at an open breaker, however soon it says to come back

Strategy = Literal["exponential", "linear", "fixed", "fibonacci"]
Jitter = Literal["full", "equal", "decorrelated", "none"]


class Randomness(Protocol):
    """What a policy needs of ``random.Random``."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between ``a`` and ``b``."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often, after which pauses and after which errors to try again. Times in seconds.

    ``max_retries``: tries after the first. ``base_delay``: the first pause, before jitter; ``max_delay``:
    the longest. ``deadline``: no retry begins later than this after the first try. ``on``, ``ignore``:
    exception classes, or functions of the error. ``max_retry_after``: the longest ``Retry-After`` worth
    waiting for, and the longest time in all to wait for an open breaker.

    SettingsError for values that cannot be used.
    """

    max_retries: int = 3
    base_delay: float = 1.0
    max_delay: float = 30.0
    deadline: float | None = None
    strategy: Strategy = "exponential"
    jitter: Jitter = "full"
    on: Matchers = (Exception,)
    ignore: Matchers = ()
    honour_retry_after: bool = True
    max_retry_after: float = 300.0

    def __post_init__(self) -> None:
        if (
            isinstance(self.max_retries, bool)
            or not isinstance(self.max_retries, int)
            or self.max_retries < 0
        ):
            raise SettingsError(f"retry: max_retries is {self.max_retries!r}; give a whole number, 0 or more")
        for name in ("base_delay", "max_delay", "deadline", "max_retry_after"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise SettingsError(f"retry: {name} is {value!r}; give seconds, 0 or more")
        for name, known in (("strategy", get_args(Strategy)), ("jitter", get_args(Jitter))):
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"retry: {name} is {getattr(self, name)!r}; choose one of {', '.join(known)}"
                )

    def decide(
        self,
        attempt: int,
        error: BaseException,
        elapsed: float,
        rng: Randomness,
        *,
        previous: float | None = None,
        now: datetime | None = None,
        waited: float = 0.0,
    ) -> float | None:
        """Seconds to wait before the next try, or None to stop.

        ``attempt``: the number of the try that failed, 1 for the first. ``elapsed``: seconds since the first
        try began. ``previous``: the pause before this try, which decorrelated jitter grows from. ``now``: for
        a ``Retry-After`` that is a date in an answer that has none itself.

        Behind an open breaker nothing was called, so a CircuitOpenError uses up no try (unless
        ``honour_retry_after`` is off); what limits it is ``waited``, the seconds already waited for breakers.
        """
        if not self.max_retries or not self.retries_on(error):
            return None
        if self.honour_retry_after and isinstance(error, CircuitOpenError):
            return self._wait_for(error, elapsed, rng, waited)
        if attempt > self.max_retries:
            return None
        delay = self.spread(attempt, rng, previous)
        hint = retry_after(error, now) if self.honour_retry_after else None
        if hint is not None:
            if hint > self.max_retry_after:
                return None
            # Never sooner than asked; a little later each in its own way, or a fleet would return as one.
            delay = max(delay, hint + self._extra(rng))
        return self._in_time(delay, elapsed)

    def _wait_for(
        self, refused: CircuitOpenError, elapsed: float, rng: Randomness, waited: float
    ) -> float | None:
        """Until the breaker may let a call through, a little later each in its own way."""
        asked = max(SHORTEST_WAIT, refused.retry_after)
        if waited + asked > self.max_retry_after:
            return None
        return self._in_time(asked + self._extra(rng), elapsed)

    def _in_time(self, delay: float, elapsed: float) -> float | None:
        return None if self.deadline is not None and elapsed + delay > self.deadline else delay

    def retries_on(self, error: BaseException) -> bool:
        """Whether this kind of error is worth another try."""
        return matches(error, matchers(self.on)) and not matches(error, matchers(self.ignore))

    def spread(self, attempt: int, rng: Randomness, previous: float | None = None) -> float:
        """The pause after ``attempt`` with jitter."""
        backoff = self.backoff(attempt)
        match self.jitter:
            case "none":
                return backoff
            case "full":
                return rng.uniform(0.0, backoff)
            case "equal":
                return backoff / 2 + rng.uniform(0.0, backoff / 2)
            case "decorrelated":
                before = previous if previous is not None else self.base_delay
                return min(self.max_delay, rng.uniform(self.base_delay, max(self.base_delay, before * 3)))

    def backoff(self, attempt: int) -> float:
        """The pause after ``attempt`` without jitter, at most ``max_delay``."""
        return min(self.max_delay, self.base_delay * _GROWTH[self.strategy](attempt))

    def _extra(self, rng: Randomness) -> float:
        return 0.0 if self.jitter == "none" else rng.uniform(0.0, min(1.0, self.base_delay))


def _fibonacci(attempt: int) -> float:
    now, following = 1.0, 1.0
    for _ in range(min(attempt, 1000) - 1):
        now, following = following, now + following
    return now


_GROWTH: dict[str, Callable[[int], float]] = {
    "exponential": lambda attempt: 2.0 ** min(attempt - 1, 1000),
    "linear": float,
    "fixed": lambda _attempt: 1.0,
    "fibonacci": _fibonacci,
}
