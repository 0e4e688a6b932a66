"""Looking at real workers and beats until the check of them says what a test waits for."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from regrow.health.checks import probe_of
from regrow.health.rules import Finding
from regrow.settings.checks import CeleryWorkerCheck
from tests.waiting import eventually

QUICK = {"REGROW_CELERY__WATCHDOG_TIMEOUT": "12"}
"""Heartbeats come every 2 s."""


class Timeline:
    """Prints what happened, in seconds from the last fault (``pytest -s``); docs/health.md quotes it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    def fault(self, what: str) -> None:
        self._began = time.monotonic()
        self.say(what)

    def say(self, what: str) -> None:
        if what != self._last:
            self._last = what
            print(f"{time.monotonic() - self._began:5.1f} s  {what}")


class Look:
    """Probes until it sees what a test waits for."""

    def __init__(self, settings, **declared: Any) -> None:
        given = {"kind": "celery_worker", "timeout": 8.0, "stuck_after": 2.0, "backlog": 5, **declared}
        self.check = CeleryWorkerCheck.model_validate(given)
        self.settings = settings
        self.found: Finding | None = None
        self.timeline = Timeline()

    def now(self) -> Finding:
        self.found = probe_of(self.check, self.settings)()
        self.timeline.say(f"{self.found.data['verdict']} ({self.found.status})")
        return self.found

    def until(self, verdict: str, said: str = "", seconds: float = 40) -> Finding:
        def seen() -> bool:
            found = self.now()
            return found.data["verdict"] == verdict and said in found.message

        with contextlib.suppress(AssertionError):
            eventually(seen, seconds)
        assert self.found is not None
        assert self.found.data["verdict"] == verdict, self.found
        assert said in self.found.message, self.found
        return self.found
