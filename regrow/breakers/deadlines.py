"""Deadlines of coroutines: what ``asyncio.timeout`` does, for many calls that may all take equally long.

A timer for every call costs more than all else that a breaker does with it. Calls with the same timeout run
out in the order in which they began, so one timer a loop serves them all: it waits for the oldest, and by the
time it rings that one is nearly always long done.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import Context
from itertools import takewhile


class Deadline:
    """One running call of the current task. :meth:`end` it, whatever comes of it."""

    __slots__ = ("_cancelling", "_line", "_task", "at", "passed")

    def __init__(self, line: _Line) -> None:
        task = asyncio.current_task(line.loop)
        if task is None:
            raise RuntimeError("a coroutine can have a timeout inside an asyncio task only")
        self._line = line
        self._task = task
        self._cancelling = task.cancelling()
        self.at = line.loop.time() + line.timeout
        self.passed = False
        """Whether the call took too long and was cancelled for it."""
        line.running[self] = None
        if line.timer is None:
            line.wait_until(self.at)

    def end(self, error: BaseException | None = None) -> bool:
        """The call ended with ``error``, or well. True when the caller is to see TimeoutError in its place.

        That is so if the error is our cancellation and nobody else asked the task to stop: their wish is
        stronger.
        """
        self._line.running.pop(self, None)
        if not self.passed:
            return False
        others = self._task.uncancel() > self._cancelling
        return isinstance(error, asyncio.CancelledError) and not others

    def expire(self) -> None:
        self.passed = True
        self._task.cancel()


class _Line:
    """The calls of one loop with one timeout, oldest first, and the timer for the oldest."""

    __slots__ = ("loop", "running", "timeout", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self.loop = loop
        self.timeout = timeout
        self.running: dict[Deadline, None] = {}
        self.timer: asyncio.TimerHandle | None = None

    def wait_until(self, at: float) -> None:
        # In a context of its own: the timer outlives the call, and must not keep alive what that one set.
        self.timer = self.loop.call_at(at, self._ring, context=Context())

    def _ring(self) -> None:
        self.timer = None
        for late in list(self._late(self.loop.time())):
            del self.running[late]
            late.expire()
        oldest = next(iter(self.running), None)
        if oldest is not None:
            self.wait_until(oldest.at)

    def _late(self, now: float) -> Iterator[Deadline]:
        return takewhile(lambda deadline: deadline.at <= now, self.running)


class _Here(threading.local):
    """The lines of the loop that runs in this thread. Those of a loop before it live on in its timers."""

    loop: asyncio.AbstractEventLoop | None = None
    lines: dict[float, _Line]


_here = _Here()


def begin(timeout: float) -> Deadline:
    """The current task's call must end within ``timeout`` seconds, or the task is cancelled."""
    loop = asyncio.get_running_loop()
    if _here.loop is not loop:
        _here.loop, _here.lines = loop, {}
    line = _here.lines.get(timeout)
    if line is None:
        line = _here.lines[timeout] = _Line(loop, timeout)
    return Deadline(line)
