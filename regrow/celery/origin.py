"""Where a message came from: its queue, how often it was delivered, the app in which it failed."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regrow.celery.messages import RawMessage, raw_message


@dataclass(frozen=True)
class AppFacts:
    """What an app says of itself: the name of its broker, the version of its code, what it wants captured."""

    broker: str | None = None
    code_version: str | None = None
    expired: bool = False
    revoked: bool = False


@dataclass(frozen=True)
class Binding:
    """A queue that is consumed from, and which messages reach it. ``kind``: direct, topic, fanout."""

    queue: str
    exchange: str
    routing_key: str
    kind: str = "direct"

    def takes(self, exchange: str, routing_key: str) -> bool:
        if exchange != self.exchange:
            return False
        if self.kind == "topic":
            return _topic_matches(self.routing_key, routing_key)
        return self.kind == "fanout" or routing_key == self.routing_key


def queue_of(exchange: str, routing_key: str, bindings: Sequence[Binding]) -> str:
    """The queue that a message was taken from, as far as its address and our queues tell.

    The default exchange routes by the queue's own name. Where the address fits no queue or several, a worker
    that reads a single queue took it from there; else the routing key is the best that is known.
    """
    names = {binding.queue for binding in bindings}
    if not exchange and routing_key in names:
        return routing_key
    fitting = {binding.queue for binding in bindings if binding.takes(exchange, routing_key)}
    for found in (fitting, names):
        if len(found) == 1:
            return found.pop()
    return routing_key


def deliveries_of(headers: Mapping[str, Any], *, redelivered: bool) -> int:
    """How often a message has been delivered, this time included.

    Quorum queues count in ``x-delivery-count``; others say only that it was not the first time.
    """
    counted = headers.get("x-delivery-count")
    if isinstance(counted, int) and not isinstance(counted, bool) and counted >= 0:
        return counted + 1
    return 2 if redelivered else 1


class Taken:
    """Makes the raw message of what one consumer took."""

    def __init__(self, consumer: Any, facts: AppFacts) -> None:
        self._consumer = consumer
        self.facts = facts

    def __call__(self, message: Any) -> RawMessage:
        delivery = message.delivery_info or {}
        headers = message.headers if isinstance(message.headers, Mapping) else {}
        return raw_message(
            message,
            queue=self._queue(delivery),
            broker=self.facts.broker,
            code_version=self.facts.code_version,
            deliveries=deliveries_of(headers, redelivered=bool(delivery.get("redelivered"))),
        )

    def _queue(self, delivery: Mapping[str, Any]) -> str:
        consuming = getattr(self._consumer, "task_consumer", None)
        if tag := delivery.get("consumer_tag"):  # RabbitMQ says to which consumer it delivered
            for queue, active in getattr(consuming, "_active_tags", {}).items():
                if active == tag:
                    return str(queue)
        return queue_of(
            str(delivery.get("exchange") or ""),
            str(delivery.get("routing_key") or ""),
            [
                Binding(queue.name, queue.exchange.name, queue.routing_key, queue.exchange.type)
                for queue in getattr(consuming, "queues", ())
            ],
        )


def _topic_matches(pattern: str, routing_key: str) -> bool:
    """As brokers match: ``*`` stands for one word, ``#`` for any number of them."""
    if "#" in pattern:
        return fnmatch.fnmatchcase(routing_key, pattern.replace("[", "[[]").replace("#", "*"))
    words, keys = pattern.split("."), routing_key.split(".")
    return len(words) == len(keys) and all(
        word in {"*", given} for word, given in zip(words, keys, strict=True)
    )
