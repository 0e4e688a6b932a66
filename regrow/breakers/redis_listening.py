"""Hearing what the script publishes: a Redis connection that has subscribed to the channels of breakers.

A breaker's channel is ``regrow:{breaker:NAME}:changed``, a message the epoch of its newest transition.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from redis.client import PubSub

from regrow.subscription import Subscription

_PREFIX, _SUFFIX = "regrow:{breaker:", "}:changed"


def channel(name: str) -> str:
    return f"{_PREFIX}{name}{_SUFFIX}"


class RedisListening:
    """One subscriber connection, for one thread."""

    def __init__(self, pubsub: PubSub) -> None:
        self._subscription = Subscription(pubsub)

    def follow(self, names: AbstractSet[str]) -> None:
        self._subscription.follow({channel(name) for name in names})

    def next(self, timeout: float) -> tuple[str, int] | None:
        message = self._subscription.message(timeout)
        return None if message is None else _change(*message)

    def close(self) -> None:
        self._subscription.close()


def _change(name: str, epoch: str) -> tuple[str, int] | None:
    """Whose channel it came on, and the epoch; None for what is no message of ours."""
    if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX) and epoch.isascii() and epoch.isdigit()):
        return None
    return name[len(_PREFIX) : -len(_SUFFIX)], int(epoch)
