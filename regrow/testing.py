"""For the tests of applications: breakers and retries without Redis, by a clock that a test moves by hand.

>>> with alone() as clock:
...     trip(payments)
...     clock.advance(60)
...     assert payments.state == "half_open"
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from regrow.breakers.alone import alone as breakers_alone
from regrow.breakers.reporter import Reporter
from regrow.breakers.service import CircuitBreaker
from regrow.clock import timer
from regrow.configuration import without_redis
from regrow.retries import budget

__all__ = ["Clock", "alone", "trip"]


class Clock:
    """Seconds that pass when somebody says so: by :meth:`advance`, or by waiting."""

    def __init__(self) -> None:
        self.now = time.monotonic()  # from where breakers of other reporters, on real time, are near
        self.pauses: list[float] = []
        """Seconds that retries have waited, each pause."""
        self._reporter: Reporter | None = None

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass. Breakers do meanwhile what they do in truth: renew leases, ask for some.

        ValueError for less than none.
        """
        if not seconds >= 0:
            raise ValueError(f"a clock cannot be advanced by {seconds!r} s; give 0 or more")
        end = self.now + seconds
        while self.now < end:
            due = self._reporter.attend() if self._reporter is not None else seconds
            self.now = min(end, self.now + max(due, 0.01))
        if self._reporter is not None:
            self._reporter.attend()

    def sleep(self, seconds: float) -> None:
        """Wait, which takes no time: the clock is ahead by as much."""
        self.pauses.append(seconds)
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """:meth:`sleep`, in which other tasks have their turn."""
        self.sleep(seconds)
        await asyncio.sleep(0)

    @contextmanager
    def _followed(self, reporter: Reporter) -> Iterator[None]:
        real = timer.monotonic, timer.sleep, timer.sleep_async
        timer.monotonic, timer.sleep, timer.sleep_async = self, self.sleep, self.sleep_async
        self._reporter = reporter
        try:
            yield
        finally:
            self._reporter = None
            timer.monotonic, timer.sleep, timer.sleep_async = real


@contextmanager
def alone() -> Iterator[Clock]:
    """A test's own world: breakers and retry budgets as in a fresh process without Redis; yields its clock.

    All breakers, those that were made before too (as applications make them when they are imported), begin
    closed and are decided in memory, at once, without a thread. Retries and ramps go by the clock that is
    yielded: a retry's pause takes no time. In the end everything is as new, and those that were made
    meanwhile are forgotten. ``timeout`` of a coroutine, which cancels it, goes by the event loop's own clock.
    One test of a process at a time: RuntimeError inside another.
    """
    global _under_way  # noqa: PLW0603 - one process, one clock
    if _under_way:
        raise RuntimeError("regrow.testing.alone() is under way already: one clock a process")
    _under_way, clock = True, Clock()
    try:
        with breakers_alone(clock) as reporter, without_redis(), clock._followed(reporter):  # noqa: SLF001
            budget.begin_anew()
            yield clock
    finally:
        _under_way = False
        budget.begin_anew()


def trip(breaker: CircuitBreaker) -> None:
    """Open it, as its ``failure_threshold`` of failures in a row does."""
    for _ in range(breaker.config.failure_threshold):
        if breaker.state == "closed":
            breaker.admit().failure()


_under_way = False
