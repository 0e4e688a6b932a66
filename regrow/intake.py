"""The intake of a process: how many requests are in hand, and whether new ones are taken in.

A request is counted and let in by one step, so that a drain that saw nobody in hand can rely on it. An intake
goes through three states: open; leaving, when readiness already says no and requests are still taken, so that
load balancers have time to look; closed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from weakref import WeakSet

logger = logging.getLogger("regrow.intake")

LOOK_EVERY = 0.02  # seconds between two looks of a coroutine that drains

_known: WeakSet[Intake] = WeakSet()
_knowing = threading.Lock()


@dataclass(frozen=True)
class Traffic:
    """What went through an intake since the process began; ``seconds`` is what all that ended took."""

    taken: int
    in_hand: int
    turned_away: int
    ended: int
    seconds: float
    longest: float

    @classmethod
    def together(cls, parts: Iterable[Traffic]) -> Traffic:
        """Of several intakes."""
        every = list(parts)
        return cls(
            taken=sum(part.taken for part in every),
            in_hand=sum(part.in_hand for part in every),
            turned_away=sum(part.turned_away for part in every),
            ended=sum(part.ended for part in every),
            seconds=sum(part.seconds for part in every),
            longest=max((part.longest for part in every), default=0.0),
        )

    def as_dict(self) -> dict[str, float | None]:
        """``mean_seconds`` and ``longest_seconds`` are of requests that have ended; None without one."""
        return {
            "taken": self.taken,
            "in_hand": self.in_hand,
            "turned_away": self.turned_away,
            "ended": self.ended,
            "mean_seconds": round(self.seconds / self.ended, 6) if self.ended else None,
            "longest_seconds": round(self.longest, 6) if self.ended else None,
        }


class Intake:
    """Requests in hand. Safe to share between threads, event loops and several middlewares."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_flight = 0
        self._taken = 0
        self._turned_away = 0
        self._ended = 0
        self._seconds = 0.0
        self._longest = 0.0
        self._open = True
        self._leaving = False
        self._listeners: set[Callable[[], None]] = set()
        with _knowing:
            _known.add(self)

    @property
    def in_flight(self) -> int:
        """Requests that were let in and have not ended."""
        return self._in_flight

    @property
    def taken(self) -> int:
        """Requests that were ever let in."""
        return self._taken

    @property
    def leaving(self) -> bool:
        """Whether this process is about to stop: requests may still be taken, readiness says no."""
        return self._leaving

    @property
    def draining(self) -> bool:
        """Whether new requests are turned away."""
        return not self._open

    @property
    def traffic(self) -> Traffic:
        with self._changed:
            return Traffic(
                self._taken, self._in_flight, self._turned_away, self._ended, self._seconds, self._longest
            )

    def enter(self) -> bool:
        """Let one request in, unless draining. Whoever was let in calls :meth:`leave` once."""
        with self._changed:
            if self._open:
                self._in_flight += 1
                self._taken += 1
            else:
                self._turned_away += 1
            return self._open

    def leave(self, seconds: float | None = None) -> None:
        """A request has ended, after so many seconds."""
        with self._changed:
            self._in_flight -= 1
            if seconds is not None:
                self._ended += 1
                self._seconds += seconds
                self._longest = max(self._longest, seconds)
            if not self._in_flight:
                self._changed.notify_all()

    def announce(self) -> None:
        """Say that this process will stop; requests are taken all the same."""
        self._leaving = True

    def close(self) -> None:
        """Turn new requests away from now on."""
        with self._changed:
            self._open, self._leaving = False, True
            listeners = list(self._listeners)
        for told in listeners:
            told()

    def reopen(self) -> None:
        """Let requests in again."""
        with self._changed:
            self._open, self._leaving = True, False

    def on_close(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call ``tell`` when the intake closes, at once if it has; what is returned takes that back.

        ``tell`` is called by whoever closes, from any thread: it must be quick and raise nothing.
        """
        with self._changed:
            self._listeners.add(tell)
            closed = not self._open
        if closed:
            tell()
        return lambda: self._listeners.discard(tell)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is in hand; False when that took longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_flight, timeout)

    def drain(self, timeout: float | None = None) -> bool:
        """Close, and wait until nothing is in hand; False when that took longer than ``timeout`` seconds."""
        began = self._begin()
        return self._told(began, done=self.wait(timeout))

    async def drain_async(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as drain()
        """:meth:`drain` that does not hold up the event loop."""
        began = self._begin()
        # Those in hand may leave from any thread and loop, and a process drains once: looking is enough.
        while self._in_flight and (timeout is None or time.monotonic() - began < timeout):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        return self._told(began, done=not self._in_flight)

    def _begin(self) -> float:
        self.close()
        logger.info("drain.started", extra={"in_flight": self._in_flight})
        return time.monotonic()

    def _told(self, began: float, *, done: bool) -> bool:
        seconds = round(time.monotonic() - began, 3)
        if done:
            logger.info("drain.finished", extra={"seconds": seconds})
        else:
            logger.warning("drain.timed_out", extra={"seconds": seconds, "in_flight": self._in_flight})
        return done


def every_intake() -> list[Intake]:
    """The intakes of this process that are in use."""
    with _knowing:
        return list(_known)
