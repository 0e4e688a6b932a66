"""From a signal to a drain, and from its end back to the server that would have handled the signal.

The handler may interrupt anything, a lock of the standard library included: it only puts the signal into a
queue that is made for this. The drain's thread goes the whole way, then sends the signal again; this time the
handler hands it on to who was there before, in the main thread, where servers expect it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from types import FrameType
from typing import Any

from regrow.drain.course import Drain
from regrow.log_events import EventLog

log = EventLog("regrow.drain")

CUT_OFF = 2
"""Seconds that uvicorn may still wait after a drain, which has been patient already."""


class Signals:
    """SIGTERM and SIGINT (or others) begin one drain. A second SIGINT hurries it."""

    def __init__(self, drain: Drain, numbers: Iterable[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
        self.drain = drain
        self._numbers = tuple(numbers)
        self._previous: dict[int, Any] = {}
        self._asked: SimpleQueue[int] = SimpleQueue()

    def install(self) -> bool:
        """Take the signals over. Only a process's main thread can; False, with a warning, in any other."""
        if threading.current_thread() is not threading.main_thread():
            log.warning("drain.no_signals", remedy="call regrow.drain.install() in the main thread")
            return False
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` is meant
                self._previous[number] = signal.signal(number, self._handle)
        threading.Thread(target=self._wait, name="regrow-drain", daemon=True).start()
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.drain.ended:
            _hand_on(self._previous.get(number), number, frame)
        elif not self.drain.begun:
            self._asked.put(number)
        elif number == signal.SIGINT:
            self.drain.hurry()

    def _wait(self) -> None:
        number = self._asked.get()
        try:
            self.drain.run(signal.Signals(number).name)
        finally:
            os.kill(os.getpid(), number)


def _hand_on(previous: Callable[..., Any] | int | None, number: int, frame: FrameType | None) -> None:
    """Let the one before us stop its server."""
    server: Any = getattr(previous, "__self__", None)
    if hasattr(server, "should_exit") and hasattr(server, "config"):
        # uvicorn's own handler would have it die of the signal in the end, which is no clean exit.
        server.config.timeout_graceful_shutdown = CUT_OFF
        server.should_exit = True
    elif previous is signal.default_int_handler or previous in (signal.SIG_DFL, None):
        raise SystemExit(0)
    elif callable(previous):
        previous(number, frame)
