"""Scheduled runs that expired before a worker took them: counted, because that is all they are worth.

Kept in Redis as ``regrow:{expired}:runs`` (hash: task -> count, since the beginning).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery import bootsteps, signals

from regrow.engine import get_engine

log = structlog.get_logger(__name__)

KEY = "regrow:{expired}:runs"


class ExpiredRuns:
    """Counts in the event loop, at no cost; :meth:`flush` tells Redis, in the watchdog's thread."""

    def __init__(self, client: Callable[[], redis.Redis]) -> None:
        self._client = client
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, sender: Any = None, expired: bool = False, **_: Any) -> None:
        """Receiver of Celery's ``task_revoked``, whose sender is the task."""
        if expired:
            with self._lock:
                self._counts[sender.name] += 1

    def flush(self) -> None:
        """Add what was counted; kept for the next time when Redis is away."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        log.info("runs.expired", **{name.replace(".", "_"): number for name, number in counts.items()})
        try:
            with self._client().pipeline(transaction=True) as pipe:
                for name, number in counts.items():
                    pipe.hincrby(KEY, name, number)
                pipe.execute()
        except redis.RedisError:
            with self._lock:
                self._counts.update(counts)


class ExpiryCount(bootsteps.StartStopStep):
    """Worker step."""

    requires = ("worker.heartbeat:WorkerHeartbeat",)

    def start(self, worker: Any) -> None:
        expired = ExpiredRuns(lambda: get_engine().redis)
        signals.task_revoked.connect(expired.count, weak=False)
        worker.regrow_watchdog.duties.append(expired.flush)
