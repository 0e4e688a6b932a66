"""Hearing what the script publishes: a Redis connection that has subscribed to the channels of breakers.

A breaker's channel is ``regrow:{breaker:NAME}:changed``, a message the epoch of its newest transition. Plain
PUBLISH: it works on Redis 6.2 and reaches every node of a cluster.
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

_PREFIX, _SUFFIX = "regrow:{breaker:", "}:changed"


def channel(name: str) -> str:
    return f"{_PREFIX}{name}{_SUFFIX}"


class RedisListening:
    """One subscriber connection, for one thread."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self._followed: AbstractSet[str] = frozenset()
        self._heard_at = self._asked_at = time.monotonic()

    def follow(self, names: AbstractSet[str]) -> None:
        new, gone = names - self._followed, self._followed - names
        try:
            if new:
                self._pubsub.subscribe(*map(channel, new))
            if gone:
                self._pubsub.unsubscribe(*map(channel, gone))  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise _lost(error) from error
        self._followed = names

    def next(self, timeout: float) -> tuple[str, int] | None:
        try:
            message: Any = self._pubsub.get_message(timeout=timeout)
            self._see_to_it_that_somebody_is_there(spoke=message is not None)
        except (RedisError, OSError) as error:
            raise _lost(error) from error
        return _change(message) if message is not None and message["type"] == "message" else None

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


def _change(message: dict[str, Any]) -> tuple[str, int] | None:
    """Whose channel it came on, and the epoch; None for what is no message of ours."""
    name, epoch = _text(message["channel"]), _text(message["data"])
    if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX) and epoch.isascii() and epoch.isdigit()):
        return None
    return name[len(_PREFIX) : -len(_SUFFIX)], int(epoch)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _lost(error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"the connection that listens was lost: {type(error).__name__}: {error}")
