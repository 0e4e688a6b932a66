"""Telling Regrow which redriven messages this worker has in hand, so that no copies of them are sent.

One thread a main process, from its first redriven message on. What is in hand Celery itself knows; a beat
marks all of it, and a worker that died stops beating.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from celery.worker import state

from regrow.dead_letters.home import HEADER
from regrow.dead_letters.second_copies import Mark
from regrow.dead_letters.started_marks import RENEWED
from regrow.log_events import EventLog

log = EventLog(__name__)


class InHand:
    """``tell`` writes the marks of attempts (LETTER:TOKEN), and may block for a while or fail."""

    def __init__(self, tell: Callable[[Mapping[str, Mark]], None], renewed: float = RENEWED) -> None:
        self._tell = tell
        self._renewed = renewed
        self._fresh: dict[str, Mark] = {}
        self._news = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def note(self, attempt: str, mark: Mark) -> None:
        """This one was received, or started, just now. Never blocks."""
        with self._lock:
            self._fresh[attempt] = mark
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="regrow-in-hand", daemon=True)
                self._thread.start()
        self._news.set()

    def _run(self) -> None:
        while True:
            self._news.wait(self._renewed)
            self._news.clear()
            with self._lock:
                fresh, self._fresh = self._fresh, {}
            try:
                if marks := {**_known_to_celery(), **fresh}:
                    self._tell(marks)
            except Exception as error:
                # Their letters are waited for a little longer than the deadline, then sent again.
                log.warning("letter.not_marked", fresh=len(fresh), error=str(error))


def _known_to_celery() -> dict[str, Mark]:
    marks: dict[str, Mark] = {}
    for request in list(state.requests.values()):
        attempt = request.request_dict.get(HEADER)
        if isinstance(attempt, str) and attempt:
            marks[attempt] = "started" if request in state.active_requests else "received"
    return marks
