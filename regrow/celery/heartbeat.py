"""What a worker of any Celery app tells about itself; and for apps that are not Regrow's own, the telling.

The pulse is given by the worker's own loop, so it stops when the loop does. Whether the pool gets on is
told by counting: the tasks that it has accepted less those that still run are those that have ended.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection
from typing import Any

import redis
from celery import bootsteps, signals
from celery.worker import state

from regrow.configuration import configured
from regrow.health.checks import heartbeats
from regrow.log_events import EventLog
from regrow.redis import connect

log = EventLog(__name__)

PULSE = 5.0
"""Seconds between two pulses, and between two publications."""


class Progress:
    """Follows one worker: what its pool does, and when a task last ended. Called by the worker's loop."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._done = 0
        self._done_at: float | None = None

    def facts(self, now: float) -> dict[str, Any]:
        """JSON values for the heartbeat. Times are epoch seconds; of an end as exact as the pulses are."""
        running = _copied(state.active_requests)
        done = max(0, state.all_total_count[0] - len(running))
        if done != self._done:
            self._done, self._done_at = done, now
        began = [request.time_start for request in running if request.time_start]
        return {
            "queues": sorted(queues_of(self._worker)),
            "pool": _pool_of(self._worker),
            "active": len(running),
            "held": max(0, len(state.reserved_requests) - len(running)),
            "done": done,
            "done_at": None if self._done_at is None else round(self._done_at, 3),
            "begun_at": round(max(began), 3) if began else None,
        }


def queues_of(worker: Any) -> Collection[str]:
    """What the worker takes from now; remote control may have added or cancelled queues."""
    consumer = getattr(getattr(worker, "consumer", None), "task_consumer", None)
    if consumer is not None:
        return [queue.name for queue in consumer.queues]
    return list(worker.app.amqp.queues.consume_from)


def _pool_of(worker: Any) -> int | None:
    size = getattr(getattr(worker, "pool", None), "num_processes", None) or worker.concurrency
    return size if isinstance(size, int) else None


def _copied(requests: Any) -> list[Any]:
    """Pools with threads change the set while we look at it."""
    for _ in range(3):
        with contextlib.suppress(RuntimeError):
            return list(requests)
    return []


class AppHeartbeat(bootsteps.StartStopStep):
    """Worker step for apps: a heartbeat in Regrow's Redis, when the app was told where that is."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._line: dict[str, Any] = {}
        self._ended = threading.Event()

    def start(self, worker: Any) -> None:
        url = configured().redis_url
        if url is None or getattr(worker, "regrow_heart", None) is not None:
            return
        name = worker.hostname if worker.app.main == "regrow" else f"{worker.app.main}:{worker.hostname}"
        client = connect(url, socket_timeout=2.0, connect_timeout=2.0, max_connections=2)
        self._worker, self._progress, self._began = worker, Progress(worker), time.time()
        self._pulse("starting")
        worker.timer.call_repeatedly(PULSE, self._pulse, ("running",))
        signals.worker_ready.connect(lambda **_: self._pulse("running"), sender=worker.consumer, weak=False)
        signals.worker_shutting_down.connect(lambda **_: self._drains(), weak=False)
        told = threading.Thread(
            target=self._publish, args=(client, name), name="regrow-heartbeat", daemon=True
        )
        told.start()
        signals.worker_shutdown.connect(lambda **_: self._end(told, client, name), sender=worker, weak=False)

    def _pulse(self, said: str) -> None:
        now = time.time()
        self._line = {
            "at": round(now, 3),
            "pid": os.getpid(),
            "node": self._worker.hostname,
            "app": self._worker.app.main,
            "state": said,
            "began": round(self._began, 3),
            **self._progress.facts(now),
        }

    def _drains(self) -> None:
        self._line = {**self._line, "state": "draining"}

    def _publish(self, client: redis.Redis, name: str) -> None:
        """In a thread of its own: a Redis that is slow must not hold up the loop."""
        away = False
        while True:
            try:
                heartbeats.keep(client, "worker", name, self._line, time.time())
                away = False
            except redis.RedisError as error:
                if not away:
                    log.warning("heartbeat.not_published", error=str(error))
                away = True
            if self._ended.wait(PULSE):
                return

    def _end(self, told: threading.Thread, client: redis.Redis, name: str) -> None:
        self._ended.set()
        told.join(5)
        with contextlib.suppress(redis.RedisError):
            heartbeats.withdraw(client, "worker", name)
