"""A Redis transport that survives what kombu's own does not.

Three holes of kombu 5.7, the first two of which end the worker's main process:

* Redis goes away while a delivery is unacknowledged. The closing connection puts its unacknowledged
  messages back, for which a channel reads ``connection.client.hostname`` of a connection that is already
  closed: AttributeError on None, not a connection error, so nobody reconnects. Here it is one.
* Something that is not a kombu message lies in the queue (any program can LPUSH). The item has left Redis
  and is not yet on the list of unacknowledged ones when parsing it fails: the worker dies and the item is
  lost. Here it is wrapped into a message of a content type that nobody accepts and delivered like any
  other, so that it is leased, refused, captured as poison and acknowledged in the usual way.
* The connection breaks between taking a message and leasing it. The worker has it, and kombu forgets it.
  Here it is kept and put back as soon as there is a connection again. (A worker that is *killed* in that
  moment still loses it; no client can help that, see docs/celery.md.)

``tests/worker/test_transport.py`` says when upstream has mended the first one.
"""

from __future__ import annotations

import uuid
from base64 import b64encode
from collections import deque
from typing import Any

import redis.exceptions
from kombu import transport as kombu_transport
from kombu.transport import redis as kombu_redis

UNREADABLE = "application/x-regrow-unreadable"
"""Content type of an item that was no message; ``accept_content`` never lists it."""

ALIASES = {
    "redis": "worker.transport:Transport",
    "rediss": "worker.transport:Transport",
    "sentinel": "worker.transport:SentinelTransport",
}


_taken: deque[tuple[bytes, bytes]] = deque()
"""(key, item) of messages whose connection broke before they were leased."""


def install() -> None:
    """Make kombu use the guarded transports. Call before the app is made: connections keep their class."""
    registry: Any = kombu_transport
    for alias, path in ALIASES.items():
        registry.TRANSPORT_ALIASES[alias] = path
        registry._transport_cache.pop(alias, None)  # noqa: SLF001 - no public way to forget one


def wrapped(item: bytes, queue: str) -> dict[str, Any]:
    """The message that stands for ``item``, which lay in ``queue`` and is none itself."""
    return {
        "body": b64encode(item).decode("ascii"),
        "content-type": UNREADABLE,
        "content-encoding": "binary",
        "headers": {},
        "properties": {
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
        },
    }


class _QoS(kombu_redis.QoS):  # type: ignore[misc, unused-ignore]
    channel: Any

    def append(self, message: Any, delivery_tag: str) -> None:
        super().append(message, delivery_tag)
        self.channel.popped = None  # on the list of unacknowledged ones: nothing can be lost any more


class _Guard:
    """What both channels add. ``popped``: (key, item) taken from Redis and not yet leased."""

    QoS = _QoS
    connection: Any
    client: Any
    conn_or_acquire: Any
    sep: str
    popped: tuple[bytes, bytes] | None = None

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise redis.exceptions.ConnectionError("the connection to the broker was closed")
        return super()._connparams(asynchronous)  # type: ignore[misc]

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)  # type: ignore[misc]
        if asynchronous:
            parse = client.parse_response

            def remember(connection: Any, command: str, **options: Any) -> Any:
                reply = parse(connection, command, **options)
                if command == "BRPOP":
                    self.popped = tuple(reply) if reply else None
                return reply

            client.parse_response = remember
        return client

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (ValueError, TypeError, LookupError, AttributeError):
            if self.popped is None:
                raise
            key, item = self.popped
            queue = bytes(key).decode("utf-8", "replace").rsplit(self.sep, 1)[0]
            self.connection._deliver(wrapped(bytes(item), queue), queue)  # noqa: SLF001
            return True
        except (redis.exceptions.RedisError, OSError):
            if self.popped is not None:
                _taken.append(self.popped)
            raise
        finally:
            self.popped = None

    def _brpop_start(self, timeout: float | None = None) -> Any:
        while _taken:
            key, item = _taken[0]
            with self.conn_or_acquire() as client:
                # To the end from which BRPOP takes: it was the next one.
                client.rpush(bytes(key).decode(), item)
            _taken.popleft()
        return super()._brpop_start(timeout)  # type: ignore[misc]


class Channel(_Guard, kombu_redis.Channel):  # type: ignore[misc, unused-ignore]
    pass


class SentinelChannel(_Guard, kombu_redis.SentinelChannel):  # type: ignore[misc, unused-ignore]
    pass


class Transport(kombu_redis.Transport):  # type: ignore[misc, unused-ignore]
    Channel = Channel


class SentinelTransport(kombu_redis.SentinelTransport):  # type: ignore[misc, unused-ignore]
    Channel = SentinelChannel
