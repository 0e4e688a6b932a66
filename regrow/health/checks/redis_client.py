"""A Redis connection for one probe: new, bounded, closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from regrow.redis import connect


@contextmanager
def asking(url: str, timeout: float) -> Iterator[redis.Redis]:
    """A client that answers or fails within about ``timeout`` seconds: half to connect, half an answer."""
    client = connect(
        url, socket_timeout=0.45 * timeout, connect_timeout=0.45 * timeout, max_connections=1, waiting=False
    )
    try:
        yield client
    finally:
        client.close()
