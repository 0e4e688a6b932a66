"""Taking failures to the store without holding up the event loop, and without losing one on the way.

A failure is handed to one thread; the message stays unacknowledged until the thread has stored it. A store
that is away is asked again, for ever, with growing pauses: the broker keeps the message meanwhile. What the
store refuses as it is, or fails on for a reason that time will not mend, goes to a file of its own, so that
no message can stop the ones behind it.
"""

from __future__ import annotations

import queue
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import structlog

from regrow.celery.messages import Failure
from regrow.dead_letters import unfiled
from regrow.errors import StoreUnavailableError

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
TRIES = 5


class Sink(Protocol):
    """Where failures go. Both calls are idempotent."""

    def capture(self, failure: Failure) -> None:
        """Keep the failure durably. StoreUnavailableError: ask again later. Anything else: not as it is."""

    def settle(self, attempt: str, failure: Failure | None) -> None:
        """Tell how an attempt of a redriven letter (LETTER:TOKEN) ended; None is success. Errors as above."""


class Capturer:
    """One per main process. ``home`` is the state folder, where what the store refuses becomes a file."""

    def __init__(self, sink: Sink, home: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self.sink = sink
        self.home = home
        self._sleep = sleep
        self._waiting: queue.SimpleQueue[tuple[Callable[[], None], Failure | None, Callable[[], None]]] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, failure: Failure, done: Callable[[], None]) -> None:
        """Capture in the background; ``done`` runs in the thread, once the failure is kept."""
        self._put(lambda: self.sink.capture(failure), failure, done)

    def submit_outcome(self, attempt: str, failure: Failure | None, done: Callable[[], None]) -> None:
        """Tell the end of a redriven letter in the background; ``done`` runs once it is kept."""
        self._put(lambda: self.sink.settle(attempt, failure), failure, done)

    def capture_now(self, failure: Failure) -> None:
        """One try, now. Raises StoreUnavailableError when the store is away."""
        self._once(lambda: self.sink.capture(failure), failure, last=True)

    def _put(self, work: Callable[[], None], failure: Failure | None, done: Callable[[], None]) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="regrow-capture", daemon=True)
                self._thread.start()
        self._waiting.put((work, failure, done))

    def _run(self) -> None:
        while True:
            work, failure, done = self._waiting.get()
            self._until_kept(work, failure)
            done()

    def _until_kept(self, work: Callable[[], None], failure: Failure | None) -> None:
        pause, tries = FIRST_PAUSE, 0
        while True:
            tries += 1
            try:
                return self._once(work, failure, last=tries >= TRIES)
            except StoreUnavailableError as error:
                tries = 0  # an outage says nothing about the message
                log.warning("letter.waiting", error=str(error), pause=pause)
            except Exception as error:
                log.warning("letter.not_captured", error=repr(error), tries=tries, pause=pause)
            self._sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _once(self, work: Callable[[], None], failure: Failure | None, *, last: bool) -> None:
        try:
            work()
        except StoreUnavailableError:
            raise
        except Exception as error:
            if not last:
                raise
            self._set_aside(failure, error)

    def _set_aside(self, failure: Failure | None, error: Exception) -> None:
        if failure is None:
            log.error("letter.outcome_refused", error=repr(error))
            return
        payload = asdict(failure)
        payload["message"]["body"] = b64encode(failure.message.body).decode("ascii")
        unfiled.write(self.home, failure.event_id, payload, error)
