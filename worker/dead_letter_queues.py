"""Taking from RabbitMQ's dead-letter queues: one thread a queue, in the workers that capture.

A message is acknowledged once the transaction that keeps it is committed. While the database is away the
messages in hand are held, unacknowledged, and no further ones are taken: to give them back and take them
again would use up the delivery limit of a quorum queue, which then drops them. So it is while a disk takes
no file for what cannot be a letter; the worker's heartbeat says that it waits, and for what. Queues are
looked at and never declared: they belong to somebody else.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from celery import bootsteps, signals
from kombu import Connection, Consumer, Queue
from kombu.exceptions import KombuError
from kombu.transport.pyamqp import Transport

from regrow.celery.messages import RawMessage, raw_message
from regrow.celery.queues import CAPTURE
from regrow.celery.urls import broker_of
from regrow.celery.x_death import capture_of
from regrow.dead_letters import service, unfiled
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.home import HEADER
from regrow.engine import Engine, get_engine
from regrow.errors import RouteError, StoreUnavailableError
from regrow.settings import DeadLetterQueue

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
MISSING_PAUSE = 30.0
"""Seconds to the next look at a queue that is not there."""
BEGIN_LIMIT = 20.0
"""Seconds for the broker to let us begin: one that recovers a quorum queue keeps whoever asks waiting."""
_LINGER = 0.2
"""A batch waits so long for its next message."""
_NOT_FOUND, _REFUSED = 404, 403
_OUTAGES: tuple[type[BaseException], ...] = (
    KombuError,
    OSError,
    *Transport.connection_errors,
    *Transport.channel_errors,
)


@dataclass(frozen=True)
class Taken:
    """One message in hand: what it is, and the attempt that it came back from, if it was redriven."""

    tag: int
    delivery: str
    """Names this delivery, and no other one."""
    message: RawMessage
    reference: str | None


class QueueConsumer(threading.Thread):
    """Takes from one dead-letter queue until it is stopped, whatever goes away meanwhile."""

    def __init__(self, engine: Engine, declared: DeadLetterQueue) -> None:
        super().__init__(name=f"regrow-dlq-{declared.queue}", daemon=True)
        self._engine = engine
        self._declared = declared
        self._log = log.bind(queue=declared.queue, broker=declared.broker)
        self._stopped = threading.Event()
        self._pause = FIRST_PAUSE
        self._session = uuid.uuid4()
        self._waits_for: str | None = None

    def trouble(self) -> str | None:
        """For what it waits with messages in hand, for the worker's heartbeat."""
        return self._waits_for and f"dead-letter queue {self._declared.queue}: {self._waits_for}"

    def stop(self, timeout: float = 0.0) -> None:
        """Take no more. What is in hand is committed and acknowledged, or goes back to the queue."""
        self._stopped.set()
        if timeout and self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._wait_for_database()
                self._consume()
            except _OUTAGES as error:
                self._away(error)
            except Exception:
                # A defect must not end the thread: the queue would fill without a word.
                self._log.exception("dead_letter_queue.failed")
                self._stopped.wait(self._longer_pause())

    def _wait_for_database(self) -> None:
        """Nothing is taken that cannot be kept."""
        while not self._stopped.is_set():
            try:
                self._engine.database.ping_writing()
            except StoreUnavailableError as error:
                self._log.warning("dead_letter_queue.waiting", error=str(error))
                self._stopped.wait(self._longer_pause())
            else:
                return

    def _consume(self) -> None:
        with self._connect() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            arrived: list[Any] = []
            with self._within(connection, BEGIN_LIMIT):
                channel = self._begin(connection, arrived)
            self._log.info("dead_letter_queue.consuming", prefetch=self._declared.prefetch)
            self._pause = FIRST_PAUSE
            while not self._stopped.is_set():
                self._gather(connection, arrived)
                batch = [self._taken(message) for message in arrived]
                if batch and self._keep(connection, batch):
                    # A pause may have brought more: they are the next batch.
                    del arrived[: len(batch)]
                    channel.basic_ack(batch[-1].tag, multiple=True)
                    self._log.info("dead_letter_queue.taken", count=len(batch))

    def _begin(self, connection: Connection, arrived: list[Any]) -> Any:
        """The channel on which messages now arrive."""
        channel: Any = connection.channel()
        channel.basic_qos(0, self._declared.prefetch, a_global=False)
        # Passive: it only asks whether the queue is there.
        channel.queue_declare(self._declared.queue, passive=True)
        self._session = uuid.uuid4()
        queues = [Queue(self._declared.queue)]
        Consumer(channel, queues, on_message=arrived.append, auto_declare=False).consume()
        return channel

    @contextlib.contextmanager
    def _within(self, connection: Connection, seconds: float) -> Iterator[None]:
        """Cut the connection when it takes longer, or when we are to stop: each answer is waited for without
        a limit, and heartbeats keep the wait alive."""
        done = threading.Event()
        until = time.monotonic() + seconds

        def watch() -> None:
            while not done.wait(0.1):
                if self._stopped.is_set() or time.monotonic() > until:
                    with contextlib.suppress(OSError, AttributeError):
                        connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)
                    return

        watcher = threading.Thread(target=watch, name=f"{self.name}-begin", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _connect(self) -> Connection:
        broker = broker_of(self._engine.settings.broker_url(self._declared.broker))
        options = {**broker["broker_transport_options"], "read_timeout": 30, "write_timeout": 10}
        return Connection(
            broker["broker_url"],
            ssl=broker.get("broker_use_ssl", False),
            connect_timeout=4,
            heartbeat=20,
            transport_options=options,
        )

    def _gather(self, connection: Connection, arrived: list[Any]) -> None:
        """Wait for a message, then for those that follow at once, up to the prefetch."""
        until = time.monotonic() + 1.0
        while not arrived and not self._stopped.is_set() and time.monotonic() < until:
            _pump(connection, 0.25)
        while arrived and len(arrived) < self._declared.prefetch:
            before = len(arrived)
            _pump(connection, _LINGER)
            if len(arrived) == before:
                return

    def _taken(self, message: Any) -> Taken:
        raw = raw_message(message, queue=self._declared.queue, broker=self._declared.broker)
        reference = raw.headers.get(HEADER)
        delivery = f"{self._session}:{message.delivery_tag}"
        return Taken(message.delivery_tag, delivery, raw, reference if isinstance(reference, str) else None)

    def _keep(self, connection: Connection, batch: Sequence[Taken]) -> bool:
        """Until all are committed; False when we are told to stop before that."""
        while not self._stopped.is_set():
            try:
                self._file(batch)
            except StoreUnavailableError as error:
                self._waits_for = str(error)
                self._log.warning("dead_letter_queue.waiting", error=str(error), held=len(batch))
                self._hold(connection, self._longer_pause())
            else:
                self._waits_for = None
                self._pause = FIRST_PAUSE
                return True
        return False

    def _hold(self, connection: Connection, seconds: float) -> None:
        """A pause in which the connection stays alive."""
        until = time.monotonic() + seconds
        while not self._stopped.is_set() and (left := until - time.monotonic()) > 0:
            _pump(connection, min(0.5, left))

    def _file(self, batch: Sequence[Taken]) -> None:
        """Keep all, in one transaction if it goes; what cannot be kept becomes a file of its own."""
        captures = []
        for taken in batch:
            try:
                captured = capture_of(taken.message, self._declared, taken.reference, self._engine.clock())
                service.checked(self._engine, captured)
                if taken.reference is None:
                    captures.append((taken, captured))
                else:
                    self._came_back(taken.reference, captured)
            except StoreUnavailableError:
                raise
            except Exception as error:
                # Whatever it is: to begin anew would give all of them back, and queues drop what is given
                # back too often.
                self._set_aside(taken, error)
        try:
            service.capture_many(self._engine, [captured for _, captured in captures])
        except StoreUnavailableError:
            raise
        except Exception as error:
            self._log.warning("dead_letter_queue.batch_refused", error=repr(error), count=len(captures))
            for taken, captured in captures:
                self._file_alone(taken, captured)

    def _file_alone(self, taken: Taken, captured: Capture) -> None:
        """One that the database does not take must not hold up the others."""
        try:
            service.capture(self._engine, captured)
        except StoreUnavailableError:
            raise
        except Exception as error:
            self._set_aside(taken, error)

    def _came_back(self, reference: str, captured: Capture) -> None:
        try:
            service.came_back(self._engine, reference, captured)
        except RouteError:  # the header is not ours after all
            service.capture(self._engine, captured)

    def _set_aside(self, taken: Taken, error: Exception) -> None:
        payload = asdict(taken.message)
        payload["body"] = b64encode(taken.message.body).decode("ascii")
        unfiled.write(self._engine.settings.home, taken.delivery, payload, error)

    def _away(self, error: BaseException) -> None:
        code = getattr(error, "reply_code", None)
        if code in {_NOT_FOUND, _REFUSED}:
            remedy = "declare the queue, or let Regrow's user read it; it is never declared from here"
            self._log.error("dead_letter_queue.missing", error=str(error), remedy=remedy)
            self._stopped.wait(MISSING_PAUSE)
        else:
            pause = self._longer_pause()
            self._log.warning("dead_letter_queue.broker_away", error=str(error), pause=pause)
            self._stopped.wait(pause)

    def _longer_pause(self) -> float:
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause


class DeadLetterQueues(bootsteps.StartStopStep):
    """Worker step: the consumers of all declared queues, where the worker takes from ``regrow.capture``."""

    requires = ("celery.worker.components:Pool", "worker.heartbeat:WorkerHeartbeat")

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._consumers: list[QueueConsumer] = []

    def start(self, worker: Any) -> None:
        if CAPTURE not in worker.app.amqp.queues.consume_from:
            return
        engine = get_engine()
        declared: Mapping[str, DeadLetterQueue] = engine.settings.dead_letters.queues
        self._consumers = [QueueConsumer(engine, queue) for queue in declared.values()]
        for consumer in self._consumers:
            consumer.start()
        if worker.regrow_heart is not None:
            worker.regrow_heart.troubles += [consumer.trouble for consumer in self._consumers]
        # A drain takes nothing new, from the first moment on.
        signals.worker_shutting_down.connect(self._ask, weak=False)

    def stop(self, worker: Any) -> None:
        del worker
        self._ask()
        for consumer in self._consumers:
            consumer.stop(timeout=5.0)

    def _ask(self, **_: Any) -> None:
        for consumer in self._consumers:
            consumer.stop()


def _pump(connection: Connection, seconds: float) -> None:
    """Let messages and heartbeats in, and our own heartbeats out."""
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=seconds)
    connection.heartbeat_check()
