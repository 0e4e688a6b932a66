"""The drain of a process: it says that it leaves, turns work away, waits for what is in hand, cleans up.

::

    SIGTERM   notice               timeout                     linger      callbacks   exit 0
       |-- readiness says no --|-- new requests: 503 --------- ... --|-- each bounded --|
                               |-- in hand: waited for --|
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

from regrow.drain import record
from regrow.drain.callbacks import EACH, Callback, CleanUp
from regrow.drain.record import Course
from regrow.errors import SettingsError
from regrow.intake import Intake, Traffic, every_intake
from regrow.log_events import EventLog

log = EventLog("regrow.drain")

Phase = Literal["serving", "leaving", "draining", "ended"]

TIMEOUT = 30.0
NOTICE = 0.0
LINGER = 1.0
_LOOK = 0.05
"""Seconds between two looks at whether somebody is in a hurry."""


class Drain:
    """How one process stops. Times in seconds; what is not given comes from the environment.

    ``timeout`` (``SHUTDOWN_TIMEOUT``, 30): how long work in hand is waited for. ``notice``
    (``REGROW_SHUTDOWN__NOTICE``, 0): how long new requests are still taken after readiness has begun to say
    no. ``linger`` (``REGROW_SHUTDOWN__LINGER``, 1): how long new ones are turned away with 503, at least,
    before the server may stop listening. ``intakes``: whose requests are waited for; without it, those of
    every middleware in this process. ``process``: what it is called where its end is recorded.
    """

    def __init__(
        self,
        *,
        timeout: float | None = None,
        notice: float | None = None,
        linger: float | None = None,
        intakes: Iterable[Intake] | None = None,
        process: str = "app",
    ) -> None:
        self.timeout = _from_environment("SHUTDOWN_TIMEOUT", TIMEOUT)
        self.notice = _from_environment("REGROW_SHUTDOWN__NOTICE", NOTICE)
        self.linger = _from_environment("REGROW_SHUTDOWN__LINGER", LINGER)
        self.set_times(timeout=timeout, notice=notice, linger=linger)
        self.process = process
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where coroutines among the callbacks run."""
        self._given = None if intakes is None else list(intakes)
        self._clean_up = CleanUp()
        self._began_listeners: list[Callable[[], None]] = []
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._hurried = threading.Event()
        self._over = threading.Event()
        self._course: Course | None = None
        self._phase: Phase = "serving"

    def set_times(
        self, *, timeout: float | None = None, notice: float | None = None, linger: float | None = None
    ) -> None:
        """Change those that are given; SettingsError for what is no time."""
        for name, given in (("timeout", timeout), ("notice", notice), ("linger", linger)):
            if given is not None:
                setattr(self, name, _seconds(given, name))

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def begun(self) -> bool:
        """Whether this process is on its way out: readiness says no."""
        return self._course is not None

    @property
    def ended(self) -> bool:
        return self._phase == "ended"

    @property
    def intakes(self) -> list[Intake]:
        return every_intake() if self._given is None else self._given

    @property
    def in_hand(self) -> int:
        """Requests of this process that have begun and not ended."""
        return sum(intake.in_flight for intake in self.intakes)

    def traffic(self) -> Traffic:
        """What went through the intakes since the process began."""
        return Traffic.together(intake.traffic for intake in self.intakes)

    def status(self) -> dict[str, Any]:
        """``draining``, ``phase``, ``in_hand``, ``since`` (epoch seconds or None) and ``timed_out``."""
        course = self._course
        return {
            "draining": course is not None,
            "phase": self._phase,
            "in_hand": self.in_hand,
            "since": course.since if course else None,
            "timed_out": bool(course and course.timed_out),
        }

    def on_shutdown(self, call: Callback, *, name: str | None = None, timeout: float = EACH) -> Callback:
        """Call this when nothing is in hand any more; the last one registered goes first. Also a decorator.

        A coroutine function runs on the server's event loop. Each has ``timeout`` seconds and all together
        10; one that fails or hangs is logged and holds up no other.
        """
        self._clean_up.add(call, name=name, timeout=timeout)
        return call

    def on_begin(self, tell: Callable[[], None]) -> None:
        """Call this in the drain's thread when it begins: for a server that must be told something."""
        self._began_listeners.append(tell)

    def hurry(self) -> None:
        """Wait for nothing any more; clean up and end."""
        self._hurried.set()

    def run(self, reason: str = "asked to") -> bool:
        """Go the whole way, once; False when something was still in hand at the end.

        It blocks, so it belongs into a thread (:mod:`regrow.drain.signals` has one). Who calls it while it
        runs waits for its end.
        """
        with self._lock:
            first = self._course is None
            if first:
                self._course = self._begin(reason)
        if not first:
            self._over.wait()
        else:
            try:
                self._go()
            finally:
                self._phase = "ended"
                self._over.set()
        return not (self._course and self._course.timed_out)

    def clean_up(self) -> None:
        """Run the callbacks that have not run: for a process that ends without a drain."""
        self._clean_up.run(self.loop)

    def _begin(self, reason: str) -> Course:
        self._phase = "leaving"
        for intake in self.intakes:
            intake.announce()
        in_hand = self.in_hand
        log.info("drain.started", reason=reason, in_hand=in_hand, limit=self.timeout, notice=self.notice)
        return Course(
            self.process,
            socket.gethostname(),
            os.getpid(),
            reason,
            time.time(),
            self.timeout,
            in_hand,
            in_hand,
        )

    def _go(self) -> None:
        assert self._course is not None  # noqa: S101 - set by run()
        for tell in self._began_listeners:
            tell()
        record.keep_soon(self._course)
        self._hurried.wait(self.notice)
        self._phase = "draining"
        for intake in self.intakes:
            intake.close()
        closed = time.monotonic()
        self._wait(closed + self.timeout)
        left = self.in_hand
        seconds = round(time.time() - self._course.since, 3)
        if left:
            log.warning("drain.timed_out", seconds=seconds, in_hand=left, hurried=self._hurried.is_set())
        else:
            log.info("drain.finished", seconds=seconds)
            self._hurried.wait(max(0.0, closed + self.linger - time.monotonic()))
        self._clean_up.run(self.loop)
        self._course = self._course.over(in_hand=left, at=time.time())
        record.keep_now(self._course)

    def _wait(self, until: float) -> None:
        for intake in self.intakes:
            while not self._hurried.is_set() and (left := until - time.monotonic()) > 0:
                if intake.wait(min(_LOOK, left)):
                    break

    def _after_fork(self) -> None:
        """A child has its own end to come; what it inherited to clean up is its own too."""
        self._reset()


def _from_environment(variable: str, default: float) -> float:
    return _seconds(os.environ.get(variable) or default, variable)


def _seconds(given: float | str, name: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingsError(f"{name}: {given!r} is no number of seconds. Write one of 0 or more.")
    return seconds
