"""Load shedding: an application that has more to do than it can turns the less important away, and early.

Two things tell it so. **In hand**: requests that were let in and have not ended, against a limit. **Lag**:
how late this process comes to what was due, its threads and its event loop; who is late by a tenth of a
second has no time left for anybody. The limit follows the lag: it falls below what is in hand while the
process is late, and grows back while it is not, as long as it is used.

The rules are pure; a thread measures ten times a second, and whoever asks reads two numbers.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from regrow.errors import SettingsError
from regrow.log_events import EventLog
from regrow.tallies import tallies

log = EventLog("regrow.degradation")

EVERY = 0.1  # seconds between two measurements
HOPELESS = 10.0  # times the target: so late that only the most important is worth beginning
QUIET = 5.0  # seconds without shedding after which an overload is over
IDLE = 60.0  # seconds without a request after which the thread ends

Priority = Literal["high", "normal", "low"]
SHARES: Mapping[str, float] = {"high": 1.0, "normal": 0.85, "low": 0.6}
"""The share of the limit up to which requests of a priority are let in."""
_STATUS = {"/health": "high", "/status": "high"}


@dataclass(frozen=True)
class Load:
    """How much may be in hand, and how late the process is (seconds)."""

    limit: float
    lag: float = 0.0


def adjust(load: Load, lag: float, peak: int, *, target: float, least: int, most: int) -> Load:
    """The load after one more measurement; ``peak``: the most that was in hand since the last one."""
    limit = load.limit
    if lag > target:
        limit = max(float(least), 0.9 * min(limit, max(peak, least)))
    elif peak >= 0.5 * limit:
        limit = min(float(most), limit + max(1.0, 0.05 * limit))
    return replace(load, limit=limit, lag=lag)


def admits(load: Load, priority: str, in_hand: int, *, target: float) -> bool:
    """Whether one more of ``priority`` is let in beside ``in_hand`` others."""
    if load.lag > HOPELESS * target and priority != "high":
        return False
    return in_hand < max(1.0, load.limit * SHARES[priority])


class Shedding:
    """Sheds load for one application.

    ``most``: requests in hand at most, whatever happens; ``least``: as many are let in even when the process
    is late. ``lag``: seconds that it may be late. ``priorities``: path prefix to ``high``, ``normal`` or
    ``low`` (``/health`` and ``/status`` are high). ``retry_after``: seconds told to who is turned away.
    SettingsError for values that cannot be.
    """

    def __init__(
        self,
        most: int = 1000,
        *,
        least: int = 4,
        lag: float = 0.1,
        priorities: Mapping[str, Priority] | None = None,
        retry_after: float = 2.0,
    ) -> None:
        if not 1 <= least <= most:
            raise SettingsError(f"least ({least}) must be at least 1 and not above most ({most})")
        if not lag > 0:
            raise SettingsError(f"lag {lag}: say how many seconds the process may be late")
        self.most, self.least, self.target, self.retry_after = most, least, lag, retry_after
        told: dict[str, str] = {**_STATUS, **(priorities or {})}
        for path, priority in told.items():
            if not path.startswith("/") or priority not in SHARES:
                raise SettingsError(
                    f"priority of {path!r}: a path that begins with a slash, {', '.join(SHARES)}"
                )
        self._priorities = sorted(
            ((path.rstrip("/"), priority) for path, priority in told.items()),
            key=lambda rule: len(rule[0]),
            reverse=True,
        )
        self.load = Load(float(most))
        self._begin()
        _sheddings.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pinged: float | None = None
        self._loop_lag = 0.0
        self._peak = 0
        self._asked_at = self._shed_at = 0.0
        self._overloaded = False

    def priority_of(self, path: str) -> str:
        """The priority of the longest prefix that covers ``path``; normal without one."""
        for prefix, priority in self._priorities:
            if path == prefix or path.startswith(prefix + "/"):
                return priority
        return "normal"

    def admits(self, path: str, in_hand: int, loop: asyncio.AbstractEventLoop | None = None) -> bool:
        """Whether one more request is let in beside ``in_hand`` others; ``loop``: where it would run."""
        self._asked_at = time.monotonic()
        self._peak = max(self._peak, in_hand + 1)
        if loop is not None:
            self._loop = loop
        if self._thread is None:
            self._start()
        priority = self.priority_of(path)
        if admits(self.load, priority, in_hand, target=self.target):
            return True
        self._shed(priority, in_hand)
        return False

    def after_fork(self) -> None:
        """In a child: it measures itself."""
        self._begin()
        self.load = Load(float(self.most))

    def _shed(self, priority: str, in_hand: int) -> None:
        tallies.count("requests_shed_total", priority=priority)
        self._shed_at = self._asked_at
        if not self._overloaded:
            self._overloaded = True
            log.warning(
                "overload.began",
                in_hand=in_hand,
                limit=round(self.load.limit),
                lag_seconds=round(self.load.lag, 3),
            )

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="regrow-overload", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is going down
                return
            self._thread = thread

    def _run(self) -> None:
        pause, due = threading.Event(), time.monotonic() + EVERY
        while True:
            pause.wait(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            self.measure(now, late=max(0.0, now - due))
            due = now + EVERY
            if now - self._asked_at > IDLE:
                with self._lock:
                    self._thread = None
                return

    def measure(self, now: float, late: float) -> None:
        """One measurement: ``late`` seconds is how late the measuring itself came."""
        lag = max(late, self._lag_of_loop(now))
        peak, self._peak = self._peak, 0
        self.load = adjust(self.load, lag, peak, target=self.target, least=self.least, most=self.most)
        if self._overloaded and now - self._shed_at > QUIET:
            self._overloaded = False
            log.info("overload.ended", limit=round(self.load.limit))

    def _lag_of_loop(self, now: float) -> float:
        """How long the event loop takes to come to a callback; a question is under way all the time."""
        loop, asked = self._loop, self._pinged
        if loop is None:
            return 0.0
        if asked is not None:
            return now - asked  # it has not come to it yet
        lag, self._loop_lag = self._loop_lag, 0.0
        try:
            self._pinged = now
            loop.call_soon_threadsafe(self._pong)
        except RuntimeError:  # it has ended
            self._loop = self._pinged = None
        return lag

    def _pong(self) -> None:
        asked, self._pinged = self._pinged, None
        if asked is not None:
            self._loop_lag = max(self._loop_lag, time.monotonic() - asked)


_sheddings: weakref.WeakSet[Shedding] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for shedding in list(_sheddings):
        shedding.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
