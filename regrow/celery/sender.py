"""Sending Celery messages for services that do not know Celery: the adapter of the engine's Sender port."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kombu.exceptions import KombuError

from regrow.celery import queue_look
from regrow.celery.queues import queue as own_queue
from regrow.dead_letters.home import HomeMessage, Raw
from regrow.dead_letters.posting import Posting
from regrow.dead_letters.second_copies import QueueLook
from regrow.errors import RouteError, StoreUnavailableError

if TYPE_CHECKING:
    from regrow.settings import Settings

T = TypeVar("T")

_IDLE = 5.0
"""Seconds after which a channel is no longer trusted to be alive."""
_CONFIRM = 10.0
"""Seconds the broker has to confirm a message."""
_MISTAKES = {403, 404, 406}
"""What AMQP answers to an exchange that is not there, not ours to use, or not usable so."""
_OWN_RETRIES = {"max_retries": 3, "interval_start": 0, "interval_step": 0.5, "interval_max": 1}


class CelerySender:
    """Publishes through ``app``; on RabbitMQ its connections must confirm (``confirm_publish``)."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._way_home = _WayHome(app.connection_for_write)

    @classmethod
    def from_settings(cls, settings: Settings) -> CelerySender:
        """A sender of its own, for processes that are no Celery app: web, command line."""
        return cls.from_url(settings.celery.broker_url.get_secret_value())

    @classmethod
    def from_url(cls, url: str) -> CelerySender:
        """A sender on the broker at ``url``, written as in Regrow's settings; waits for the broker's word."""
        from regrow.celery.urls import broker_of

        broker = broker_of(url)
        return cls(_app({**broker, "broker_transport_options": _bounded(broker)}))

    @classmethod
    def from_broker(cls, broker_url: str, options: Mapping[str, Any]) -> CelerySender:
        """A sender on this broker (Celery's form of the URL), with these transport options."""
        return cls(_app({"broker_url": broker_url, "broker_transport_options": dict(options)}))

    @classmethod
    def beside(cls, app: Any) -> CelerySender:
        """A sender on an app's own broker that waits for the broker's word, whatever the app does."""
        conf = app.conf
        broker = {
            "broker_url": conf.broker_write_url or conf.broker_url,
            "broker_use_ssl": conf.broker_use_ssl,
            "broker_transport_options": dict(conf.broker_transport_options or {}),
        }
        return cls(_app({**broker, "broker_transport_options": _bounded(broker)}))

    def send(self, task: str, kwargs: Mapping[str, Any], *, queue: str) -> None:
        """Publish one of Regrow's own tasks; all of them tolerate being sent twice."""
        try:
            self._app.send_task(
                task,
                kwargs=dict(kwargs),
                queue=own_queue(queue),
                serializer="json",
                ignore_result=True,
                retry=True,
                retry_policy=_OWN_RETRIES,
                confirm_timeout=_CONFIRM,
            )
        except (KombuError, OSError) as error:
            raise StoreUnavailableError(f"the broker did not take {task}: {error}") from error

    def send_home(self, message: HomeMessage, *, queue: str) -> None:
        raw = message.raw or _body(message)
        told = {"correlation_id": message.task_id}
        self._way_home.send(Posting("", queue, raw, message.headers, told))

    def publish(self, posting: Posting) -> None:
        self._way_home.send(posting)

    def exists(self, *, queue: str = "", exchange: str = "") -> bool | None:
        return self._way_home.exists(queue, exchange)

    def look(self, queue: str) -> QueueLook:
        return self._way_home.look(queue)


class _WayHome:
    """One connection for messages that must not be published twice: nothing is tried again after sending."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._channel: Any = None
        self._used_at = 0.0
        self._returned: list[Any] = []
        self._lock = threading.Lock()

    def send(self, posting: Posting) -> None:
        """Returns once the broker has it. RouteError: it leads nowhere. StoreUnavailableError: it is away."""
        with self._lock:
            try:
                self._open()
                self._publish(posting)
            except self._outages() as error:
                self._drop()
                if getattr(error, "reply_code", None) in _MISTAKES:
                    raise RouteError(f"the broker refuses {posting.target}: {error}") from error
                raise StoreUnavailableError(
                    f"the broker did not confirm {posting.target}: {error}"
                ) from error
            if self._returned:
                raise RouteError(_unroutable(posting))

    def exists(self, queue: str, exchange: str) -> bool | None:
        def ask() -> bool | None:
            if not self._is_rabbitmq():
                return None
            # Passive: it asks, and declares nothing.
            if queue:
                self._channel.queue_declare(queue, passive=True)
            else:
                self._channel.exchange_declare(exchange, "direct", passive=True)
            return True

        nothing: bool | None = False
        return self._asked(ask, nothing)

    def look(self, queue: str) -> QueueLook:
        def ask() -> QueueLook:
            if not self._is_rabbitmq():
                return queue_look.in_redis(self._channel, queue)
            _, waiting, consumers = self._channel.queue_declare(queue, passive=True)
            return QueueLook(waiting, consumers)

        return self._asked(ask, missing=QueueLook(0))

    def _asked(self, ask: Callable[[], T], missing: T) -> T:
        """What the broker answers, ``missing`` if it has no such thing."""
        with self._lock:
            try:
                self._open()
                return ask()
            except self._outages() as error:
                self._drop()
                code = getattr(error, "reply_code", None)
                if code == 404:
                    return missing
                if code in _MISTAKES:
                    raise RouteError(f"the broker does not let us look: {error}") from error
                raise StoreUnavailableError(f"the broker did not answer: {error}") from error

    def _publish(self, posting: Posting) -> None:
        from kombu import Producer

        self._returned.clear()
        if posting.exchange and not self._is_rabbitmq():
            raise RouteError(f"{posting.target}: only RabbitMQ has exchanges that say what they dropped")
        # Nothing is declared, because queue and exchange belong to another app and may have arguments that
        # we do not know. ``mandatory`` has RabbitMQ say so when no queue takes it; on Redis every list
        # exists.
        Producer(self._channel, auto_declare=False).publish(
            posting.raw.body,
            exchange=posting.exchange,
            routing_key=posting.routing_key,
            content_type=posting.raw.content_type,
            content_encoding=posting.raw.content_encoding,
            headers=dict(posting.headers),
            delivery_mode=2,
            mandatory=True,
            retry=False,
            confirm_timeout=_CONFIRM,
            **posting.properties,
        )
        self._used_at = time.monotonic()

    def _is_rabbitmq(self) -> bool:
        return hasattr(self._channel, "events")

    def _open(self) -> None:
        """A channel that is alive. Opening one asks the broker, before anything is sent."""
        if self._channel is not None and time.monotonic() - self._used_at < _IDLE:
            return
        for last in (False, True):
            try:
                if self._connection is None:
                    self._connection = self._connect()
                    self._connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=5)
                if self._channel is not None:
                    self._channel.close()
                self._channel = self._connection.channel()
                break
            except self._outages():
                self._drop()
                if last:
                    raise
        if self._is_rabbitmq():
            self._channel.events["basic_return"].add(lambda *returned: self._returned.append(returned))

    def _outages(self) -> tuple[type[BaseException], ...]:
        """What the current connection calls an error of its own, and kombu's names for the same."""
        if self._connection is None:
            return (KombuError, OSError)
        return (KombuError, OSError, *self._connection.connection_errors, *self._connection.channel_errors)

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect(socket_timeout=1)


def _unroutable(posting: Posting) -> str:
    if posting.exchange:
        return f"no queue is bound to {posting.target}; bind one, or correct the route"
    return f"the broker has no {posting.target}; start the worker that takes from it, or correct the route"


def _body(message: HomeMessage) -> Raw:
    embed = {
        "callbacks": list(message.callbacks),
        "errbacks": list(message.errbacks),
        "chain": None,
        "chord": None,
    }
    text = json.dumps([list(message.args), dict(message.kwargs), embed], ensure_ascii=False)
    return Raw(text.encode(), "application/json", "utf-8")


def _bounded(broker: Mapping[str, Any]) -> dict[str, Any]:
    """Transport options under which no publish waits for ever, and RabbitMQ confirms each."""
    options = dict(broker["broker_transport_options"])
    if str(broker["broker_url"]).startswith(("amqp", "pyamqp")):
        return {**options, "confirm_publish": True, "read_timeout": 30, "write_timeout": 10}
    return {"socket_timeout": 10, "socket_connect_timeout": 3, **options}


def _app(conf: Mapping[str, Any]) -> Any:
    import celery

    app = celery.Celery("regrow-sender", set_as_current=False)
    app.conf.update(broker_connection_timeout=4, task_serializer="json", **conf)
    return app
