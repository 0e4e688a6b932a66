"""Shipping: what a spool accepted goes to Regrow, again and again, until the database's receipt has come.

One thread a process ships its own source and those it has adopted. Entries are sent in parcels, in order;
what was sent and not received within a while is sent again, after pauses that grow. The receipt is the
*watermark* of the source, which Regrow's workers publish in Redis after they have committed; a broker or a
Redis that was flushed on the way costs a delay. An app without access to that Redis has the broker's word as
its receipt: its entries are then as durable as its broker.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from regrow.dead_letters.spool import Spool
from regrow.dead_letters.spool_parcels import QUEUE, TASK, Parcel, receipt_key
from regrow.dead_letters.spool_source import Entry, Lost, Source
from regrow.errors import StoreUnavailableError
from regrow.log_events import EventLog

if TYPE_CHECKING:
    from regrow.engine import Sender

log = EventLog(__name__)

MOST_ENTRIES, MOST_BYTES = 200, 1 << 20
WINDOW = 2_000
"""Entries that may be on their way at a time."""
FIRST_PATIENCE, LONGEST_PATIENCE = 15.0, 600.0
"""Seconds without a receipt until entries are sent again; doubled each time."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two tries while the broker is away."""
LINGER = 0.05
"""Seconds between an entry and its parcel: in a storm, what follows travels with it."""
LOOK, ADOPT = 0.5, 30.0
"""Seconds between two looks for a receipt, and for sources that nobody holds."""


class Destination(Protocol):
    """Where parcels go."""

    def ship(self, parcel: Parcel) -> int | None:
        """Hand over; the number up to which its source has been received, or None: not known yet.

        StoreUnavailableError: nobody takes it now.
        """

    def received(self, source: str) -> int | None:
        """The number up to which the source has been received, as far as can be learned now."""


def regrows_redis(timeout: float = 2.0) -> Any | None:
    """A client of Regrow's Redis, as this process was told (``REGROW_REDIS_URL``); None: it was not.

    ``timeout`` in seconds, for a connection and for an answer.
    """
    from regrow.configuration import configured
    from regrow.redis import connect

    url = configured().redis_url
    return connect(url, socket_timeout=timeout, connect_timeout=timeout, max_connections=2) if url else None


class BrokerDestination:
    """To Regrow's workers through a broker; receipts come through Regrow's Redis, if it is known."""

    def __init__(self, sender: Sender, receipts: Any | None) -> None:
        """``receipts``: a Redis client with short timeouts, or None: the broker's word is the receipt."""
        self._sender = sender
        self._receipts = receipts
        if receipts is None:
            log.warning(
                "spool.receipts_from_broker",
                meaning="entries are as durable as the broker",
                remedy="set REGROW_REDIS_URL to Regrow's Redis",
            )

    def ship(self, parcel: Parcel) -> int | None:
        self._sender.send(TASK, {"parcel": parcel.to_wire()}, queue=QUEUE)
        return parcel.last if self._receipts is None else None

    def received(self, source: str) -> int | None:
        if self._receipts is None:
            return None
        from redis.exceptions import RedisError

        try:
            found = self._receipts.get(receipt_key(source))
            return None if found is None else int(found)
        except (RedisError, ValueError) as error:
            log.info("spool.no_receipt", source=source, error=str(error))
            return None


@dataclass
class Progress:
    """How far one source has come. Times are seconds of a monotonic clock."""

    received: int
    sent: int
    sent_at: float = 0.0
    patience: float = FIRST_PATIENCE
    skipped: int | None = None
    """The first number that could not be sent: the broker's word about later ones says nothing of it."""

    def learn(self, watermark: int | None) -> bool:
        """Take note of a receipt; whether it was news."""
        if watermark is not None and self.skipped is not None:
            watermark = min(watermark, self.skipped - 1)
        if watermark is None or watermark <= self.received:
            return False
        self.received = watermark
        self.sent = max(self.sent, watermark)
        self.patience = FIRST_PATIENCE
        return True

    def shipped(self, last: int, now: float) -> None:
        self.sent, self.sent_at = max(self.sent, last), now

    def start_over_if_unanswered(self, now: float) -> bool:
        """Send again what nobody has answered for; the next time it waits longer."""
        if self.sent <= self.received or now - self.sent_at < self.patience:
            return False
        self.sent, self.skipped = self.received, None
        self.patience = min(self.patience * 2, LONGEST_PATIENCE)
        return True

    @property
    def room(self) -> int:
        return max(0, WINDOW - (self.sent - self.received))


class Shipper:
    """Ships a spool from a thread of its own. ``destination`` is made in that thread, at its first use."""

    def __init__(
        self,
        spool: Spool,
        destination: Callable[[], Destination],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._make_destination = destination
        self._clock = clock
        self._host = socket.gethostname()
        self._begin()
        _shippers.add(self)

    def _begin(self) -> None:
        self._destination: Destination | None = None
        self._progress: dict[str, Progress] = {}
        self._adopted: list[Source] = []
        self._adopt_at = 0.0
        self._pause = FIRST_PAUSE
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to ship, if it has not begun; a forked child begins anew."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stop.clear()
                self._thread = threading.Thread(target=self._run, name="regrow-spool", daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Something was appended."""
        self.start()
        self._wake.set()

    def close(self, timeout: float = 2.0) -> None:
        """Ship what can still be shipped within ``timeout`` seconds; the rest stays for whoever adopts it."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._stop.set()
            self._wake.set()
            thread.join(timeout)
        if thread is None or not thread.is_alive():
            for source in self._adopted:
                source.close()
            self._adopted = []
            self._spool.close()

    def round(self) -> float:
        """Adopt, learn receipts, send what is due; returns the seconds until the next round makes sense."""
        now = self._clock()
        self._adopt(now)
        busy = False
        try:
            for source in [self._spool.source, *self._adopted]:
                if source is not None:
                    busy |= self._serve(source)
        except StoreUnavailableError as error:
            pause = self._pause * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            log.warning("letter.waiting", error=str(error), pause=round(pause, 2))
            return pause
        self._pause = FIRST_PAUSE
        return LOOK if busy else ADOPT

    def _run(self) -> None:
        while True:
            try:
                pause = self.round()
            except Exception as error:
                # Whatever it was, the entries are safe; give up nothing.
                log.critical("spool.shipping_failed", error="".join(traceback.format_exception(error)))
                pause = self._pause = LONGEST_PAUSE
            if self._stop.is_set():
                return
            if self._pause > FIRST_PAUSE:  # an outage: new entries are no reason to try sooner
                self._stop.wait(pause)
            elif self._wake.wait(pause):
                self._stop.wait(LINGER)
            self._wake.clear()

    def _adopt(self, now: float) -> None:
        if now < self._adopt_at:
            return
        self._adopt_at = now + ADOPT
        if self._spool.folder.is_dir():
            for source in Source.adopt(self._spool.folder):
                log.info("spool.adopted", source=source.name)
                self._adopted.append(source)

    def _serve(self, source: Source) -> bool:
        """Bring one source forward; whether something of it is still on its way."""
        progress = self._progress.setdefault(source.name, Progress(source.after, source.after))
        if progress.sent > progress.received or source is not self._spool.source:
            self._learn(source, progress, self._to().received(source.name))
        if progress.start_over_if_unanswered(self._clock()):
            log.warning(
                "spool.sent_again",
                source=source.name,
                after=progress.received,
                patience=progress.patience,
            )
        while progress.room and (parcel := self._next_parcel(source, progress)):
            self._send(source, progress, parcel)
        if progress.sent > progress.received:
            return True
        if source is not self._spool.source and self._next_parcel(source, progress) is None:
            self._finish(source)
        return False

    def _send(self, source: Source, progress: Progress, parcel: Parcel) -> None:
        try:
            watermark = self._to().ship(parcel)
        except StoreUnavailableError:
            raise
        except Exception as error:
            if len(parcel.entries) > 1:  # one of them is to blame
                for alone in parcel.one_by_one():
                    self._send(source, progress, alone)
                return
            # Not for lack of a broker. It stays, those behind it go on, and it is tried again later.
            number = parcel.entries[0][0]
            log.critical("spool.not_sent", source=source.name, number=number, error=repr(error))
            watermark = None
            progress.skipped = min(number, progress.skipped or number)
        progress.shipped(parcel.last, self._clock())
        self._learn(source, progress, watermark)

    def _learn(self, source: Source, progress: Progress, watermark: int | None) -> None:
        if progress.learn(watermark):
            if source is self._spool.source:
                self._spool.forget(progress.received)
            else:
                source.forget(progress.received)

    def _next_parcel(self, source: Source, progress: Progress) -> Parcel | None:
        own = source is self._spool.source
        found = (self._spool if own else source).read(
            progress.sent, limit=min(MOST_ENTRIES, max(1, progress.room)), most_bytes=MOST_BYTES
        )
        if not found:
            return None
        return Parcel(
            source.name,
            source.after,
            tuple((entry.number, entry.payload) for entry in found if isinstance(entry, Entry)),
            tuple((lost.first, lost.last) for lost in found if isinstance(lost, Lost)),
            self._host,
        )

    def _finish(self, source: Source) -> None:
        """An adopted source of which everything has been received."""
        self._adopted.remove(source)
        self._progress.pop(source.name, None)
        source.remove()

    def _to(self) -> Destination:
        if self._destination is None:
            self._destination = self._make_destination()
        return self._destination

    def _after_fork(self) -> None:
        for source in self._adopted:
            source.close()
        self._begin()


_shippers: weakref.WeakSet[Shipper] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for shipper in list(_shippers):
        shipper._after_fork()  # noqa: SLF001 - this module's own


os.register_at_fork(after_in_child=_after_fork_in_child)
