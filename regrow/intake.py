"""The intake of a process: how many requests are in hand, and whether new ones are taken in.

A request is counted and let in by one step, so that a drain that saw nobody in hand can rely on it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time

logger = logging.getLogger("regrow.intake")

LOOK_EVERY = 0.02  # seconds between two looks of a coroutine that drains


class Intake:
    """Requests in hand. Safe to share between threads, event loops and several middlewares."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_flight = 0
        self._taken = 0
        self._open = True

    @property
    def in_flight(self) -> int:
        """Requests that were let in and have not ended."""
        return self._in_flight

    @property
    def taken(self) -> int:
        """Requests that were ever let in."""
        return self._taken

    @property
    def draining(self) -> bool:
        """Whether new requests are turned away."""
        return not self._open

    def enter(self) -> bool:
        """Let one request in, unless draining. Whoever was let in calls :meth:`leave` once."""
        with self._changed:
            if self._open:
                self._in_flight += 1
                self._taken += 1
            return self._open

    def leave(self) -> None:
        """A request has ended."""
        with self._changed:
            self._in_flight -= 1
            if not self._in_flight:
                self._changed.notify_all()

    def close(self) -> None:
        """Turn new requests away from now on."""
        with self._changed:
            self._open = False

    def reopen(self) -> None:
        """Let requests in again."""
        with self._changed:
            self._open = True

    def drain(self, timeout: float | None = None) -> bool:
        """Close, and wait until nothing is in hand; False when that took longer than ``timeout`` seconds."""
        began = self._begin()
        with self._changed:
            done = self._changed.wait_for(lambda: not self._in_flight, timeout)
        return self._ended(began, done)

    async def drain_async(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as drain()
        """:meth:`drain` that does not hold up the event loop."""
        began = self._begin()
        # Those in hand may leave from any thread and loop, and a process drains once: looking is enough.
        while self._in_flight and (timeout is None or time.monotonic() - began < timeout):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        return self._ended(began, not self._in_flight)

    def _begin(self) -> float:
        self.close()
        logger.info("drain.started", extra={"in_flight": self._in_flight})
        return time.monotonic()

    def _ended(self, began: float, done: bool) -> bool:
        seconds = round(time.monotonic() - began, 3)
        if done:
            logger.info("drain.finished", extra={"seconds": seconds})
        else:
            logger.warning("drain.timed_out", extra={"seconds": seconds, "in_flight": self._in_flight})
        return done
