"""Being told: one thread a process that hears what the store publishes when a breaker changes.

A message is a wake-up, not a state: the process looks for itself, and where messages get lost the regular
look finds the change a little later. So nothing here is retried with haste or reported as an error, and
nothing here holds up a report: the thread has a connection of its own and does nothing but listen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from regrow.breakers.store import Listening
from regrow.errors import StoreUnavailableError

logger = logging.getLogger("regrow.breakers")

WAIT = 1.0  # seconds after which a quiet listener sees which breakers have come and gone
AGAIN = 2.0  # seconds until a lost connection is made anew


class Push:
    """The listener of one process, for as long as one store serves it.

    ``listen`` makes a connection (None: this store tells nobody), ``names`` tells which breakers matter now,
    ``changed(name, epoch)`` is called in the listener's thread.
    """

    def __init__(
        self,
        listen: Callable[[], Listening | None],
        names: Callable[[], Collection[str]],
        changed: Callable[[str, int], None],
    ) -> None:
        self._listen = listen
        self._names = names
        self._changed = changed
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.listening = False
        """Whether a change would be heard at the moment."""

    def start(self) -> None:
        """Begin, once. With no thread to be had (the interpreter is going down) nothing is heard."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="regrow-breakers-push", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        self._thread = thread

    def close(self) -> None:
        """End the thread and its connection, within :data:`WAIT`; nobody needs to wait for that."""
        self._closed.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._closed.wait(pause):
            pause = AGAIN
            try:
                connection = self._listen()
                if connection is None:
                    return
                try:
                    self._hear(connection)
                finally:
                    self.listening = False
                    connection.close()
            except StoreUnavailableError as error:
                # Breakers notice an absent Redis by themselves and say so; this is its shadow.
                logger.debug("breakers.push_lost", extra={"error": str(error)})
            except Exception:
                logger.exception("breakers.push_failed")  # a defect of ours costs the latency, no more

    def _hear(self, connection: Listening) -> None:
        while not self._closed.is_set():
            connection.follow(set(self._names()))
            self.listening = True
            until = time.monotonic() + WAIT
            while not self._closed.is_set() and (left := until - time.monotonic()) > 0:
                told = connection.next(left)
                if told is not None:
                    self._changed(*told)
