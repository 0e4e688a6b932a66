"""What a broker says of its queues: what waits in them, what is in hand, and since when the oldest waits.

On Redis what waits is ``LLEN`` of each queue and its priority sub-queues, and what is in hand ``HLEN`` of the
hash in which kombu keeps deliveries: a wedged pool shows an empty list and all its messages in the hash. On
an AMQP broker a passive declare tells waiting messages and consumers; what is in hand is not told there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regrow.headers import SENT_AT
from regrow.redis_queues import STEPS, lists_of
from regrow.redis_url import kind_of

if TYPE_CHECKING:
    from regrow.settings import Settings

OWN_UNACKED = "regrow.unacked"
"""The hash in which our workers' transport keeps deliveries (``unacked_key`` in worker/configuration.py)."""
UNACKED = "unacked"
"""Kombu's own name for it, which an app has that does not say otherwise."""

_PEEKED = 65_536
"""Bytes; the head of a queue is not looked into when it is larger."""


class BrokerAwayError(Exception):
    """The broker does not answer; its text says why and names no password."""


@dataclass(frozen=True)
class Head:
    """The message of a queue that waits longest, as far as known.

    ``sent_at``: epoch seconds; None when it does not say.
    """

    mark: str
    sent_at: float | None


@dataclass(frozen=True)
class Told:
    """``waiting``: messages per queue, None for one that does not exist.

    ``unacked``, ``consumers``: None where the broker does not tell.
    """

    waiting: Mapping[str, int | None]
    unacked: int | None
    consumers: Mapping[str, int] | None = None
    heads: Mapping[str, Head] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return sum(count or 0 for count in self.waiting.values()) + (self.unacked or 0)


def unacked_key(settings: Settings, broker: str | None, declared: str | None) -> str:
    """The name of the hash: what is declared, else our own on our own broker, else kombu's."""
    same = broker is None or settings.broker_url(broker) == settings.broker_url(None)
    return declared or (OWN_UNACKED if same else UNACKED)


def ask(url: str, queues: Sequence[str], unacked: str, timeout: float, *, prefix: str = "") -> Told:
    """What the broker at ``url`` says within about ``timeout`` seconds. BrokerAwayError: it says nothing.

    ``prefix``: on Redis, what the app puts before all keys (``global_keyprefix``).
    """
    if kind_of(url) is not None:
        return _on_redis(url, queues, unacked, timeout, prefix)
    return _on_amqp(url, queues, timeout)


def _on_redis(url: str, queues: Sequence[str], unacked: str, timeout: float, prefix: str) -> Told:
    import redis

    from regrow.health.checks.redis_client import asking

    lists = {name: [f"{prefix}{key}" for key in lists_of(name)] for name in queues}
    try:
        with asking(url, timeout) as client:
            with client.pipeline(transaction=False) as asked:
                for keys in lists.values():
                    for key in keys:
                        asked.llen(key)
                asked.hlen(f"{prefix}{unacked}")
                *lengths, in_hand = asked.execute()
            waiting = _per_queue(queues, lengths)
            heads = _heads(client, {name: keys for name, keys in lists.items() if waiting[name]})
    except (redis.RedisError, OSError) as error:
        raise BrokerAwayError(f"{type(error).__name__}: {error}") from error
    return Told(waiting, in_hand, heads=heads)


def _per_queue(names: Sequence[str], lengths: Sequence[int]) -> dict[str, int | None]:
    steps = len(STEPS)
    return {name: sum(lengths[at * steps : (at + 1) * steps]) for at, name in enumerate(names)}


def _heads(client: Any, lists: Mapping[str, Sequence[str]]) -> dict[str, Head]:
    """Of what is taken next from each list of a queue, what was sent first; else what is taken first."""
    with client.pipeline(transaction=False) as asked:
        for keys in lists.values():
            for key in keys:
                asked.lindex(key, -1)
        lines = iter(asked.execute(raise_on_error=False))
    found = {}
    for name, keys in lists.items():
        heads = [head for head in (head_of(next(lines)) for _ in keys) if head is not None]
        if heads:
            found[name] = min(heads, key=lambda head: head.sent_at or float("inf"))
    return found


def head_of(line: object) -> Head | None:
    """Mark and time of a message as it lies in Redis; None for what is none, or too large to look into."""
    if not isinstance(line, str) or len(line) > _PEEKED:
        return None
    try:
        told = json.loads(line)
        mark = str(told["properties"]["delivery_tag"])
        sent_at = told["headers"].get(SENT_AT)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    known = isinstance(sent_at, int | float) and not isinstance(sent_at, bool)
    return Head(mark, float(sent_at) if known else None)


def _on_amqp(url: str, queues: Sequence[str], timeout: float) -> Told:
    from kombu import Connection
    from kombu.exceptions import OperationalError

    waiting: dict[str, int | None] = {}
    consumers: dict[str, int] = {}
    bound = max(1.0, 0.45 * timeout)
    options = {"read_timeout": bound, "write_timeout": bound}
    connection: Any = Connection(url, connect_timeout=bound, heartbeat=0, transport_options=options)
    try:
        connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        for name in queues:
            try:
                with connection.channel() as channel:
                    told = channel.queue_declare(queue=name, passive=True)
                waiting[name], consumers[name] = told.message_count, told.consumer_count
            except connection.channel_errors:
                waiting[name] = None
    except (*connection.connection_errors, OperationalError) as error:
        raise BrokerAwayError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.release()
    return Told(waiting, None, consumers)
