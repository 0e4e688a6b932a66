"""Taking failures to where they are kept without holding up the event loop, and without losing one.

A failure is handed to one thread; the message stays unacknowledged until the thread has kept it. All that
wait are kept together. A store that is away is asked again, for ever, with growing pauses: the broker keeps
the messages meanwhile. What the store refuses as it is, or fails on for a reason that time will not mend,
goes to a file of its own, so that no message can stop the ones behind it.
"""

from __future__ import annotations

import queue
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from regrow.celery.in_hand import InHand
from regrow.celery.messages import Failure
from regrow.dead_letters import unfiled
from regrow.dead_letters.classes import parse
from regrow.dead_letters.second_copies import Mark
from regrow.dead_letters.spool_shipping import Destination
from regrow.errors import StoreUnavailableError
from regrow.failures import FailureClass
from regrow.log_events import EventLog

log = EventLog(__name__)

Classify = Callable[[BaseException], str | None]

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
TRIES = 5
MOST_TOGETHER = 200


@dataclass(frozen=True)
class Ended:
    """How an attempt of a redriven letter (LETTER:TOKEN) ended; without a failure, well."""

    attempt: str
    failure: Failure | None = None


Told = Failure | Ended


_Waiting = tuple[Told, Callable[[], None]]
"""What is to be kept, and what is to be done when it is."""


class Sink(Protocol):
    """Where failures and outcomes go. Telling one twice changes nothing."""

    def keep(self, told: Sequence[Told]) -> None:
        """Keep them durably. StoreUnavailableError: ask again later. Anything else: not as they are."""

    def settled(self, letter_id: str) -> bool:
        """Whether this letter is known to be settled; False when that cannot be learned quickly."""

    def mark(self, attempts: Mapping[str, Mark]) -> None:
        """These redriven attempts (LETTER:TOKEN) are in hand here. May fail: it is a favour."""

    def destination(self) -> Destination:
        """Where a spool in front of this sink ships to."""

    def start(self) -> None:
        """The worker takes up its work: what was left from before may go on."""

    def close(self) -> None:
        """The process ends."""


class Capturer:
    """One per main process. ``home`` is the state folder, where what the store refuses becomes a file.

    ``classify``: the app's own word on what kind of failure an error is; None leaves it to the registry.
    """

    def __init__(
        self,
        sink: Sink,
        home: Path,
        sleep: Callable[[float], None] = time.sleep,
        classify: Classify | None = None,
    ) -> None:
        self._classify = classify
        self.sink = sink
        self.home = home
        self.in_hand = InHand(sink.mark)
        self._sleep = sleep
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._unkept = 0
        self._all_kept = threading.Condition(self._lock)

    def class_of(self, error: BaseException) -> FailureClass | None:
        """What the app's hook says; a hook that fails, or says what is no class, says nothing."""
        try:
            said = None if self._classify is None else self._classify(error)
            return None if said is None else parse(said)
        except Exception as broken:
            log.warning("letter.not_classified", error=repr(error), reason=repr(broken))
            return None

    def submit(self, told: Told, done: Callable[[], None]) -> None:
        """Keep it in the background; ``done`` runs in the thread, once it is kept."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="regrow-capture", daemon=True)
                self._thread.start()
            self._unkept += 1
        self._waiting.put((told, done))

    def left_after(self, seconds: float) -> int:
        """How many that were submitted are not kept yet, after waiting for them for so long at most."""
        with self._all_kept:
            self._all_kept.wait_for(lambda: not self._unkept, seconds)
            return self._unkept

    def keep_now(self, told: Told) -> None:
        """One try, now. Raises StoreUnavailableError when the store is away."""
        self._once([told], last=True)

    def _run(self) -> None:
        while True:
            together = [self._waiting.get()]
            while len(together) < MOST_TOGETHER:
                try:
                    together.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            self._until_kept(together)

    def _until_kept(self, together: Sequence[_Waiting]) -> None:
        pause, tries = FIRST_PAUSE, 0
        while True:
            tries += 1
            try:
                self._once([told for told, _ in together], last=tries >= TRIES)
            except StoreUnavailableError as error:
                tries = 0  # an outage says nothing about the message
                log.warning("letter.waiting", error=str(error), pause=pause)
            except Exception as error:
                if len(together) > 1:  # one of them is to blame
                    for alone in together:
                        self._until_kept([alone])
                    return
                log.warning("letter.not_captured", error=repr(error), tries=tries, pause=pause)
            else:
                for _, done in together:
                    done()
                with self._all_kept:
                    self._unkept -= len(together)
                    self._all_kept.notify_all()
                return
            self._sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _once(self, together: Sequence[Told], *, last: bool) -> None:
        try:
            self.sink.keep(together)
        except StoreUnavailableError:
            raise
        except Exception as error:
            if not last or len(together) > 1:
                raise
            self._set_aside(together[0], error)

    def _set_aside(self, told: Told, error: Exception) -> None:
        if isinstance(told, Ended):
            log.error("letter.outcome_refused", error=repr(error))
            return
        payload = asdict(told)
        payload["message"]["body"] = b64encode(told.message.body).decode("ascii")
        unfiled.write(self.home, told.event_id, payload, error)
