"""Counts of a process on their way to the fleet's counters in Redis, where the web process reads them.

Whoever counts does no I/O: a thread adds what was counted to one Redis hash every few seconds and at the
process's end, each increment once. While Redis refuses connections the counts wait. A write whose answer
never came may have happened, so it is not sent again: rather a little too few than twice.

Whoever else has something to tell every few seconds rides along, so that there is one such thread a process.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from regrow.configuration import configured
from regrow.pools import at_exit_of_pool_processes
from regrow.riding import Rider

if TYPE_CHECKING:
    import redis

logger = logging.getLogger("regrow.tallies")

KEY = "regrow:{counters}"
EVERY = 5.0  # seconds between two writes
QUIET = 60.0  # seconds without a count after which the thread ends; the next count starts another
MOST = 10_000  # different counts kept while Redis is away


def field_of(name: str, labels: Mapping[str, str]) -> str:
    """The field of the hash that one count is kept in."""
    return _field(name, tuple(sorted(labels.items())))


@lru_cache(maxsize=1024)
def _field(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    return json.dumps([name, labels], separators=(",", ":"), ensure_ascii=False)


class Tallies:
    """The counts of one process."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None
        self._client_url: str | None = None
        self._riders: list[weakref.ref[Rider]] = []

    def carry(self, rider: Rider) -> None:
        """Take a rider along with every flush, for as long as somebody holds it; nothing without Redis."""
        if configured().redis_url is None:
            return
        with self._lock:
            if not any(known() is rider for known in self._riders):
                self._riders.append(weakref.ref(rider))
            if self._thread is None:
                self._start()

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """Add to a counter. Nothing is kept in a process that was told of no Redis."""
        if by <= 0 or configured().redis_url is None:
            return
        key = field_of(name, labels)
        with self._lock:
            if key in self._counts or len(self._counts) < MOST:
                self._counts[key] += by
            if self._thread is None:
                self._start()

    def flush(self) -> None:
        """Write what is gathered, now."""
        for known in list(self._riders):
            if (rider := known()) is not None and rider.due:
                rider.ride()
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if counts and not self._written(counts):
            with self._lock:
                self._counts.update(counts)

    def after_fork(self) -> None:
        """In a child: what was counted is the parent's to tell."""
        self._begin()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="regrow-tallies", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is going down; the flush at exit does what is left
            return
        self._thread = thread
        at_exit_of_pool_processes(self.flush, priority=90)  # after what breakers still have to count

    def _run(self) -> None:
        pause, quiet = threading.Event(), 0.0
        while True:
            pause.wait(EVERY)
            quiet = 0.0 if self._counts else quiet + EVERY
            try:
                self.flush()
            except Exception:
                logger.exception("tallies.failed")  # a defect of ours ends no counting
            with self._lock:
                self._riders = [known for known in self._riders if known() is not None]
                if quiet >= QUIET and not self._counts and not self._riders:
                    self._thread = None
                    return

    def _written(self, counts: Mapping[str, int]) -> bool:
        """Whether the counts are settled; False when they surely did not arrive."""
        from redis.exceptions import RedisError

        client = self.connected()
        if client is None:
            return True
        try:
            client.exists(KEY)  # of a cluster, this asks the node that will have to write
        except (RedisError, OSError):
            return False
        try:
            with client.pipeline(transaction=True) as pipe:
                for key, by in counts.items():
                    pipe.hincrby(KEY, key, by)
                pipe.execute()
        except (RedisError, OSError) as error:
            logger.warning("tallies.lost", extra={"error": str(error), "counts": sum(counts.values())})
        return True

    def connected(self) -> redis.Redis | None:
        """The client of this thread, with short waits; None when the process was told of no Redis."""
        url = configured().redis_url
        if url is None:
            return None
        if self._client is None or url != self._client_url:
            from regrow.redis import connect

            self._client = connect(url, socket_timeout=1.0, connect_timeout=1.0, max_connections=2)
            self._client_url = url
        return self._client


tallies = Tallies()

atexit.register(tallies.flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=tallies.after_fork)
