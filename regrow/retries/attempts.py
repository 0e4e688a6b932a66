"""The context form of a retry, for a block of code that is no function of its own."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from regrow.clock import seconds, wait, wait_async
from regrow.retries.budget import RetryBudget
from regrow.retries.course import Course
from regrow.retries.policy import Randomness, RetryPolicy


class Attempt:
    """One try. Enter it: ``with attempt: ...``; an error that is worth another try ends with the block."""

    __slots__ = ("_course", "_entered", "number", "pause")

    def __init__(self, course: Course) -> None:
        self._course = course
        self._entered = False
        self.number = course.attempt
        """1 for the first."""
        self.pause: float | None = None
        """Seconds until the next try; None when there is none."""

    @property
    def left(self) -> float | None:
        """Seconds until the policy's deadline, for a timeout of the call; None without a deadline."""
        return self._course.left

    @property
    def entered(self) -> bool:
        """Whether its ``with`` block was run."""
        return self._entered

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):  # no error, or one that is never retried: cancellation, Ctrl-C
            return False
        self.pause = self._course.pause_after(error)
        return self.pause is not None


class Attempts:
    """The tries of one block, as :func:`attempts` makes them; good for one loop."""

    def __init__(
        self,
        begin: Callable[[], Course],
        sleep: Callable[[float], None],
        sleep_async: Callable[[float], Awaitable[None]],
    ) -> None:
        self._begin = begin
        self._sleep = sleep
        self._sleep_async = sleep_async
        self._course: Course | None = None
        self._last: Attempt | None = None

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> Attempt:
        pause = self._pause()
        if pause is None:
            raise StopIteration
        if self._last is not None:
            self._sleep(pause)
        return self._next()

    async def __anext__(self) -> Attempt:
        pause = self._pause()
        if pause is None:
            raise StopAsyncIteration
        if self._last is not None:
            await self._sleep_async(pause)
        return self._next()

    def _pause(self) -> float | None:
        """Seconds to wait before the next attempt; None after the last."""
        if self._last is None:
            return 0.0
        if not self._last.entered:
            raise RuntimeError("an attempt was not entered: write `with attempt:` around the work")
        return self._last.pause

    def _next(self) -> Attempt:
        if self._course is None:
            self._course = self._begin()
        self._last = Attempt(self._course)
        return self._last


def attempts(
    policy: RetryPolicy | None = None,
    *,
    budget: RetryBudget | None = None,
    name: str = "a block",
    sleep: Callable[[float], None] = wait,
    sleep_async: Callable[[float], Awaitable[None]] = wait_async,
    clock: Callable[[], float] = seconds,
    rng: Randomness | None = None,
) -> Attempts:
    """Try a block again after errors: ``for attempt in attempts(policy): with attempt: ...``.

    ``async for`` in a coroutine, where pauses must not hold up the event loop; the ``with`` stays. The loop
    ends with the first block that raises nothing; the last error goes on to the caller. ``name``: what logs
    and notes call the block.
    """
    chosen = policy or RetryPolicy()
    randomness = rng or random.SystemRandom()
    return Attempts(lambda: Course(chosen, name, clock, randomness, budget), sleep, sleep_async)
