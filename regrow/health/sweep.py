"""Running probes at once, each bounded by its own timeout, so that one that hangs delays nobody.

Probes that can be awaited (HTTP) go by ``regrow.health.lane``; the others have a thread each. A thread cannot
be ended from outside. A probe that is over its time gets its verdict and is left behind; its thread is
counted until it ends, the same check is not probed again meanwhile, and when too many hang, others wait for
the next sweep rather than pile up. The threads are daemons: they hold up no process's end, which matters in a
Celery child that is replaced after so many tasks.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from regrow.clock import Clock
from regrow.errors import NoTimeError
from regrow.health.rules import Declared, Finding, Result, finding

if TYPE_CHECKING:
    from regrow.health.lane import Lane
    from regrow.outgoing import Clients

logger = logging.getLogger(__name__)

SLOW_AFTER = 1.0
"""A probe that runs longer makes room for another, so that many silent services do not hold up the rest."""
_SLOW_LANES = 8
"""How many times ``concurrency`` probes may run in all, slow ones included."""

WRITE_EVERY = 1.0
"""While slow probes hold a sweep up, what the others found is handed over this often (seconds)."""
_STANDSTILL = 10.0
"""Seconds beyond the longest timeout after which an event loop that says nothing is given up."""


@dataclass(frozen=True)
class Task:
    """One probe to run: ``probe`` on a thread of its own, or ``awaits`` where it can be awaited."""

    check: Declared
    probe: Callable[[], Finding] | None = None
    awaits: Callable[[Clients], Awaitable[Finding]] | None = None


@dataclass(eq=False)
class _Attempt:
    """One probe under way. ``began``, ``ended``: monotonic clock; ``at``: when it began, for people."""

    task: Task
    began: float = 0.0
    at: datetime | None = None
    ended: float = 0.0
    found: Finding | None = None
    error: Exception | None = None
    thread: threading.Thread | None = field(default=None, repr=False)

    @property
    def timeout(self) -> float:
        return self.task.check.timeout

    @property
    def awaits(self) -> Callable[[Clients], Awaitable[Finding]]:
        assert self.task.awaits is not None  # noqa: S101 - those without one have threads
        return self.task.awaits


class Sweeper:
    """Runs sweeps in one process and remembers which probes of earlier ones still hang.

    At most ``concurrency`` probes run at once, not counting those that are slow, and eight times as many with
    them. With ``concurrency`` threads left behind by probes that never came back, no new one is begun.
    """

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._lane: Lane | None = None
        self._hanging: dict[str, _Attempt] = {}

    @property
    def lane(self) -> Lane:
        """Where probes are awaited; `regrow health disk` never asks for it, and starts without asyncio."""
        if self._lane is None:
            from regrow.health.lane import Lane

            self._lane = Lane()
        return self._lane

    def give_up_lane(self) -> None:
        self._lane = None

    @property
    def hanging(self) -> int:
        """How many threads of earlier probes have not come back. A forked child has none of them."""
        for name, attempt in list(self._hanging.items()):
            if attempt.thread is None or not attempt.thread.is_alive():
                self._hanging.pop(name, None)
        return len(self._hanging)

    def sweep(self, tasks: Iterable[Task], clock: Clock, budget: float) -> Iterator[list[Result]]:
        """Run all probes; yields results in batches: one at the end, or one a second when it takes longer.

        ``budget``: seconds after which no further probe is begun. A task without any result was not
        reached; it will be due at the next sweep.
        """
        yield from _Sweep(self, tasks, clock, budget).run()

    def left_behind(self, name: str) -> float | None:
        """For how many seconds a probe of this check has been hanging; None when none does."""
        attempt = self._hanging.get(name)
        if attempt is None or attempt.thread is None or not attempt.thread.is_alive():
            return None
        return time.monotonic() - attempt.began

    def leave(self, attempt: _Attempt) -> None:
        self._hanging[attempt.task.check.name] = attempt


class _Sweep:
    """One sweep: what waits, what runs, what was found and not handed over yet."""

    def __init__(self, sweeper: Sweeper, tasks: Iterable[Task], clock: Clock, budget: float) -> None:
        self.sweeper = sweeper
        given = list(tasks)
        self.waiting = deque(task for task in given if task.awaits is None)
        self.awaited = {_Attempt(task) for task in given if task.awaits is not None}
        self.clock = clock
        self.stop_at = time.monotonic() + budget
        self.running: set[_Attempt] = set()
        self.ended: queue.SimpleQueue[list[_Attempt]] = queue.SimpleQueue()
        self.results: list[Result] = []
        self.heard_at = time.monotonic()

    def run(self) -> Iterator[list[Result]]:
        if self.awaited:
            self.sweeper.lane.begin(list(self.awaited), self.ended, self.clock, self.stop_at)  # type: ignore[arg-type]
        handed_over = time.monotonic()
        while self.running or self.awaited or self._may_begin():
            self._begin()
            self._collect(handed_over + WRITE_EVERY)
            self._give_up_on_late_ones()
            if self.results and time.monotonic() - handed_over >= WRITE_EVERY:
                yield self._hand_over()
                handed_over = time.monotonic()
        if self.results:
            yield self._hand_over()

    def _hand_over(self) -> list[Result]:
        results, self.results = self.results, []
        return results

    def _may_begin(self) -> bool:
        return bool(self.waiting) and time.monotonic() < self.stop_at

    def _begin(self) -> None:
        while self._may_begin() and self._has_room():
            task = self.waiting.popleft()
            since = self.sweeper.left_behind(task.check.name)
            if since is not None:
                self._keep(task, finding("unhealthy", f"no answer since {since:.0f} s"), since)
            elif self.sweeper.hanging >= self.sweeper.concurrency:
                said = f"not probed: {self.sweeper.hanging} probes hang and hold all threads"
                self._keep(task, finding("unknown", said), 0.0)
            else:
                self._start(task)

    def _has_room(self) -> bool:
        recent = time.monotonic() - SLOW_AFTER
        quick = sum(attempt.began > recent for attempt in self.running)
        limit = self.sweeper.concurrency
        return quick < limit and len(self.running) < _SLOW_LANES * limit

    def _start(self, task: Task) -> None:
        attempt = _Attempt(task, time.monotonic(), self.clock())
        attempt.thread = threading.Thread(
            target=_attempt, args=(attempt, self.ended), name=f"probe-{task.check.name}", daemon=True
        )
        self.running.add(attempt)
        try:
            attempt.thread.start()
        except RuntimeError as error:  # the system has no more threads for us
            self.running.discard(attempt)
            self._keep(task, finding("unknown", f"not probed: {error}"), 0.0)

    def _collect(self, until: float) -> None:
        """Take in what has ended, waiting at most until a probe is over its time or one makes room."""
        if not self.running and not self.awaited:
            return
        now = time.monotonic()
        wake_at = [attempt.began + attempt.timeout for attempt in self.running]
        if self.waiting:
            turns_slow = (attempt.began + SLOW_AFTER for attempt in self.running)
            wake_at += [moment for moment in turns_slow if moment > now]
        if self.awaited:
            wake_at.append(now + 1.0)
        if self.results:
            wake_at.append(until)
        patience = max(0.0, min(wake_at) - now)
        try:
            attempts = self.ended.get(timeout=patience)
            while True:
                for attempt in attempts:
                    self._take(attempt)
                attempts = self.ended.get_nowait()
        except queue.Empty:
            return

    def _take(self, attempt: _Attempt) -> None:
        if attempt in self.awaited:
            self.awaited.discard(attempt)
            self.heard_at = time.monotonic()
        elif attempt in self.running:
            self.running.discard(attempt)
        else:
            return  # it came back after its verdict
        if not attempt.began:
            return  # its turn never came
        took = attempt.ended - attempt.began
        if isinstance(attempt.error, NoTimeError):
            found = finding("unknown", "not judged: this process got too little CPU to wait for the answer")
        elif attempt.error is not None:
            found = _not_made(attempt.task.check, attempt.error)
        elif attempt.found is not None and took <= attempt.timeout:
            # By its own clock: one that came back in time may be collected late.
            found = attempt.found
        else:
            found = _no_answer(attempt.timeout)
        self._keep(attempt.task, found, took, attempt.at)

    def _give_up_on_late_ones(self) -> None:
        now = time.monotonic()
        late = [a for a in self.running if now - a.began > a.timeout and not a.ended]
        for attempt in late:
            self.running.discard(attempt)
            self.sweeper.leave(attempt)
            self._keep(attempt.task, _no_answer(attempt.timeout), now - attempt.began, attempt.at)
        if self.awaited and now - self.heard_at > max(a.timeout for a in self.awaited) + _STANDSTILL:
            self._give_up_on_the_loop()

    def _give_up_on_the_loop(self) -> None:
        """A probe that was to be awaited blocks all of them: nothing is known of what they watch."""
        logger.error("check.loop_stands_still", extra={"checks": len(self.awaited)})
        for attempt in self.awaited:
            self._keep(attempt.task, finding("unknown", "not probed: the event loop stands still"), 0.0)
        self.awaited.clear()
        self.sweeper.give_up_lane()

    def _keep(self, task: Task, found: Finding, latency: float, at: datetime | None = None) -> None:
        """``at``: when the probe began, so that a slow one does not put the next one off."""
        check, at = task.check, at or self.clock()
        self.results.append(
            Result(check.name, found.status, found.message, latency, at, check.interval, found.data)
        )


def _attempt(attempt: _Attempt, ended: queue.SimpleQueue[list[_Attempt]]) -> None:
    """What a probe's thread does. Nothing escapes: a probe that fails has found nothing out."""
    try:
        assert attempt.task.probe is not None  # noqa: S101 - the others are awaited
        attempt.found = attempt.task.probe()
    except Exception as error:
        attempt.error = error
    finally:
        attempt.ended = time.monotonic()
        ended.put([attempt])


def _not_made(check: Declared, error: Exception) -> Finding:
    """A probe that could not be made. Its error's text stays out: it may quote a password or a header."""
    where = "".join(traceback.format_tb(error.__traceback__)[-3:])
    told = {"check": check.name, "error": type(error).__name__, "where": where}
    logger.error("check.not_probed", extra=told)
    said = f"could not be probed: {type(error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        said += f": {error.strerror}"
    return finding("unknown", said)


def _no_answer(limit: float) -> Finding:
    return finding("unhealthy", f"no answer within {limit:g} s")
