"""The one place that asks the operating system for the time. Rules take time as an argument instead."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Now, as an aware datetime in UTC."""
    return datetime.now(UTC)


async def _sleep_async(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


class Timer:
    """How breakers and retries measure time and wait, looked up at each use.

    ``regrow.testing`` puts a clock in its place that a test moves by hand.
    """

    __slots__ = ("monotonic", "sleep", "sleep_async")

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], None] = time.sleep
        self.sleep_async: Callable[[float], Awaitable[None]] = _sleep_async


timer = Timer()


def seconds() -> float:
    """Seconds that have passed, by the clock that holds when it is called; of no certain beginning."""
    return timer.monotonic()


def wait(pause: float) -> None:
    """Wait so many seconds, in the way that holds when it is called."""
    timer.sleep(pause)


async def wait_async(pause: float) -> None:
    """:func:`wait` that does not hold up the event loop."""
    await timer.sleep_async(pause)
