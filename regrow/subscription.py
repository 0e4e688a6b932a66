"""Hearing what is published: one Redis connection that has subscribed, and knows when nobody is there.

Plain PUBLISH and SUBSCRIBE: they work on Redis 6.2 and reach every node of a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Set as AbstractSet
from typing import Any

from redis.client import PubSub
from redis.exceptions import RedisError

from regrow.errors import StoreUnavailableError

PING_AFTER = 5.0  # seconds of silence after which the server is asked whether it is still there
LOST_AFTER = 12.0  # seconds of silence, questions included, that mean it is not


class Subscription:
    """One subscriber connection, for one thread. Its errors are StoreUnavailableError."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self._followed: AbstractSet[str] = frozenset()
        self._heard_at = self._asked_at = time.monotonic()

    def follow(self, channels: AbstractSet[str]) -> None:
        """Hear these channels from now on, and no others."""
        new, gone = channels - self._followed, self._followed - channels
        try:
            if new:
                self._pubsub.subscribe(*new)
            if gone:
                self._pubsub.unsubscribe(*gone)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise _lost(error) from error
        self._followed = channels

    def message(self, timeout: float) -> tuple[str, str] | None:
        """The next message within ``timeout`` seconds as (channel, text); None for anything else."""
        try:
            told: Any = self._pubsub.get_message(timeout=timeout)
            self._see_to_it_that_somebody_is_there(spoke=told is not None)
        except (RedisError, OSError) as error:
            raise _lost(error) from error
        if told is None or told["type"] != "message":
            return None
        return _text(told["channel"]), _text(told["data"])

    def close(self) -> None:
        try:
            self._pubsub.close()
        except (RedisError, OSError):  # it was lost, and is now let go
            return

    def _see_to_it_that_somebody_is_there(self, *, spoke: bool) -> None:
        """A peer that froze or vanished closes no socket; without questions one would listen for ever."""
        now = time.monotonic()
        if spoke or not self._followed:
            self._heard_at = self._asked_at = now
        elif now - self._heard_at > LOST_AFTER:
            raise TimeoutError(f"nothing was heard for {LOST_AFTER:g} s")
        elif now - self._asked_at > PING_AFTER:
            self._asked_at = now
            self._pubsub.ping()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _lost(error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"the connection that listens was lost: {type(error).__name__}: {error}")
