"""The composition root: one Engine a process, its stores opened lazily, after any fork.

Services take an engine; rules never see one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import redis as redis_driver

from regrow import redis
from regrow.clock import Clock, utc_now
from regrow.database import Database
from regrow.settings import Settings, load_settings
from regrow.settings.reloading import Reloader, Standing
from regrow.settings.sources import config_path

if TYPE_CHECKING:
    from regrow.breakers import CircuitBreaker
    from regrow.breakers.reporter import Reporter


class Sender(Protocol):
    """How Regrow sends Celery tasks without importing Celery: the worker's adapter, or a test's."""

    def send(self, task: str, kwargs: Mapping[str, Any], *, queue: str) -> None:
        """Publish one of Regrow's own tasks; returns when the broker has it."""

    def send_home(self, message: Any, *, queue: str) -> None:
        """Publish a dead letter's message to its home queue; returns when the broker has confirmed it.

        Raises RouteError when the queue does not exist (RabbitMQ), StoreUnavailableError when the broker
        is away; after either, the message is not in the queue as far as the broker has told us.
        """

    def publish(self, posting: Any) -> None:
        """Publish any other message to its exchange or queue; returns and raises as ``send_home`` does."""

    def exists(self, *, queue: str = "", exchange: str = "") -> bool | None:
        """Whether the broker has this queue or exchange; None where that cannot be told (Redis).

        StoreUnavailableError when the broker is away.
        """

    def look(self, queue: str) -> Any:
        """What waits in a queue, as a ``QueueLook``; nothing is taken. StoreUnavailableError: broker away."""


class Engine:
    """Settings and stores of one process. Everything is opened on first use."""

    def __init__(
        self,
        settings: Settings,
        *,
        sender: Sender | None = None,
        clock: Clock = utc_now,
        reloader: Reloader | None = None,
    ) -> None:
        self.settings = settings
        self._reloader = reloader
        self.clock = clock
        self._sender = sender
        self._senders: dict[str, Sender] = {}

    def refresh(self) -> None:
        """Go on with a ``regrow.toml`` that has changed and is well. For the beginning of a task or tick."""
        if self._reloader is not None and (changed := self._reloader.look(self.settings)) is not None:
            self.settings = changed

    @property
    def settings_standing(self) -> Standing:
        """Whether all that ``regrow.toml`` says is in force here."""
        return self._reloader.standing if self._reloader is not None else Standing()

    @cached_property
    def database(self) -> Database:
        chosen = self.settings.database
        return Database(
            chosen.url.get_secret_value(),
            pool_size=chosen.pool_size,
            pool_timeout=chosen.pool_timeout,
            connect_timeout=chosen.connect_timeout,
            statement_timeout=chosen.statement_timeout,
        )

    @cached_property
    def redis(self) -> redis_driver.Redis:
        """For live state on request paths: bounded, never retried."""
        return self._redis(waiting=False)

    @cached_property
    def patient_redis(self) -> redis_driver.Redis:
        """For jobs that may wait: 5 attempts with exponential backoff (``redis.max_retries``)."""
        return self._redis(waiting=True)

    @property
    def sender(self) -> Sender:
        if self._sender is None:
            from regrow.celery import CelerySender

            self._sender = CelerySender.from_settings(self.settings)
        return self._sender

    @sender.setter
    def sender(self, sender: Sender) -> None:
        self._sender = sender

    def sender_on(self, broker: str | None) -> Sender:
        """The sender on a broker of ``[brokers]``; None is Regrow's own."""
        if broker is None:
            return self.sender
        if broker not in self._senders:
            from regrow.celery import CelerySender

            self._senders[broker] = CelerySender.from_url(self.settings.broker_url(broker))
        return self._senders[broker]

    def breaker(self, name: str, *, record: tuple[type[Exception], ...] = (Exception,)) -> CircuitBreaker:
        """This process's breaker of that name, set by ``[breakers.NAME]``, shared in this engine's Redis.

        It may wait up to a second for leave to probe: what the worker guards comes by once in minutes, and
        a lease that was asked for in its absence would have expired.
        """
        from regrow.breakers import CircuitBreaker

        chosen = self.settings.breaker(name).model_dump()
        return CircuitBreaker(name, record=record, probe_wait=1.0, reporter=self._reporter, **chosen)

    @cached_property
    def _reporter(self) -> Reporter:
        from regrow.breakers.redis_store import RedisStore
        from regrow.breakers.reporter import Reporter

        return Reporter(RedisStore.from_url(self.settings.redis.url.get_secret_value()))

    def close(self, *, forked: bool = False) -> None:
        """Close what was opened. ``forked``: the parent keeps its sockets, we only let go of ours."""
        opened = self.__dict__
        self._senders = {}
        if "_reporter" in opened and not forked:  # after a fork it looks after itself
            self._reporter.close()
            opened.pop("_reporter")
        if "database" in opened:
            self.database.close(forked=forked)
        for name in ("redis", "patient_redis"):
            if name in opened and not forked:
                opened[name].close()
        for name in ("database", "redis", "patient_redis"):
            opened.pop(name, None)

    def _redis(self, *, waiting: bool) -> redis_driver.Redis:
        chosen = self.settings.redis
        return redis.connect(
            chosen.url.get_secret_value(),
            socket_timeout=chosen.socket_timeout,
            connect_timeout=chosen.connect_timeout,
            max_connections=chosen.max_connections,
            waiting=waiting,
            max_retries=chosen.max_retries,
        )


_engine: Engine | None = None
_lock = threading.Lock()


def get_engine() -> Engine:
    """This process's engine, made from the settings on first use."""
    global _engine  # noqa: PLW0603 - the composition root is the one place with process-wide state
    with _lock:
        if _engine is None:
            # It looks at the file before that is read: what changes in between is a change.
            reloader = Reloader(load_settings, config_path(None, os.environ))
            _engine = Engine(load_settings(), reloader=reloader)
        return _engine


def set_engine(engine: Engine | None) -> None:
    """Use this engine in this process from now on (None: make a new one on next use)."""
    global _engine  # noqa: PLW0603
    with _lock:
        _engine = engine


def _after_fork() -> None:
    """A child must not share its parent's sockets: let go of them, and open its own on first use."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()  # the parent's may have been held at the moment of the fork
    if _engine is not None:
        _engine.close(forked=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Engine", "Sender", "get_engine", "set_engine"]
