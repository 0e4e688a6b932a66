"""While the database is away, captures and redrives stay in the broker: nothing is taken that cannot be kept.

A consumer that went on would take each message, fail, and give it back, again and again: a busy loop, and a
quorum queue of RabbitMQ drops what comes back too often (20 times). So the worker stops taking from
``regrow.capture`` and ``regrow.redrive`` and goes on when the database takes writes: one that
answers and only reads, as after a failover, keeps nothing. Its control queue goes on all the time: the
monitor must see.
"""

from __future__ import annotations

import threading
from typing import Any

import structlog
from celery import bootsteps

from regrow.celery.queues import CAPTURE, REDRIVE
from regrow.engine import Engine, get_engine
from regrow.errors import StoreUnavailableError

log = structlog.get_logger(__name__)

PROBE = 2.0
"""Seconds between two looks at the database. What is in hand meanwhile comes back once or twice."""
APPLY = 0.5


class StoreWatch(threading.Thread):
    """Asks the database whether it takes writes, in a thread: that may take as long as a connection may."""

    def __init__(self, engine: Engine, probe: float = PROBE) -> None:
        super().__init__(name="regrow-store-watch", daemon=True)
        self._engine = engine
        self._probe = probe
        self._stopped = threading.Event()
        self.away: str | None = None
        """Why the database cannot be used; None: it can."""

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._engine.database.ping_writing()
            except StoreUnavailableError as error:
                self.away = str(error)
            except Exception as error:
                # Whatever it is, no capture would fare better.
                log.exception("store.not_asked")
                self.away = repr(error)
            else:
                self.away = None
            self._stopped.wait(self._probe)

    def stop(self) -> None:
        self._stopped.set()


class StorePause(bootsteps.StartStopStep):
    """Consumer step, where the worker takes from one of the two queues; lives as long as its consumer."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._queues: list[str] = []
        self._watch: StoreWatch | None = None
        self._paused = False
        self._timer_entry: Any = None

    def start(self, consumer: Any) -> None:
        if self._watch is None:
            taken = consumer.app.amqp.queues.consume_from
            self._queues = [name for name in (CAPTURE, REDRIVE) if name in taken]
            if not self._queues:
                return
            self._watch = StoreWatch(get_engine())
            self._watch.start()
            heart = getattr(consumer.controller, "regrow_heart", None)
            if heart is not None:
                heart.troubles.append(self._trouble)
                heart.paused = lambda: self._queues if self._paused else []
        self._cancel()
        self._timer_entry = consumer.timer.call_repeatedly(APPLY, self._apply, (consumer,))

    def stop(self, _consumer: Any) -> None:
        self._cancel()

    def shutdown(self, _consumer: Any) -> None:
        self._cancel()
        if self._watch is not None:
            self._watch.stop()

    def _trouble(self) -> str | None:
        waits = "captures and redrives stay in the broker until the database takes writes"
        return waits if self._paused else None

    def _cancel(self) -> None:
        entry, self._timer_entry = self._timer_entry, None
        if entry is not None:
            entry.cancel()

    def _apply(self, consumer: Any) -> None:
        """In the event loop, which alone may talk to the broker. A new connection finds what was decided."""
        away = self._watch.away if self._watch is not None else None
        if consumer.task_consumer is None or (away is not None) == self._paused:
            return
        pause = away is not None
        for queue in self._queues:
            if pause:
                consumer.cancel_task_queue(queue)
            else:
                consumer.add_task_queue(queue)
        self._paused = pause  # last: where the connection breaks in between, the next one does all of it
        if pause:
            log.warning("capture.paused", queues=self._queues, error=away)
        else:
            log.info("capture.resumed", queues=self._queues)
