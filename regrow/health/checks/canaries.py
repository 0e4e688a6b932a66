"""Canaries in Redis: one on its way for each queue at most, and how long the last one took.

``regrow:{canary}:<broker>:<queue>`` is a hash. Times are the Redis server's, so that clocks of hosts that are
apart make no latency. It needs Redis alone: an app's worker answers here, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regrow.redis_scripts import call, script

if TYPE_CHECKING:
    import redis

TASK = "regrow.health.canary"
ANSWER = "regrow.health.answer_canary"
PREFIX = "regrow:{canary}:"
_KEPT = 86_400
_HERE = "regrow.health.checks"
_MOST_DOUBLED = 6  # as in canary_begin.lua


@dataclass(frozen=True)
class Flight:
    """The canary of one queue. Seconds; None: there is none.

    ``begun``: a new one is to be sent now; ``waiting``: for how long one has been on its way; ``lost``: how
    many in a row never ran; ``latency`` and ``age``: of the last answer.
    """

    begun: bool
    waiting: float | None
    lost: int
    latency: float | None
    age: float | None


def key(broker: str | None, queue: str) -> str:
    return f"{PREFIX}{broker or ''}:{queue}"


def patience(lost_after: float, lost: int) -> float:
    """Seconds until another one is sent, after so many were lost: nobody may be there to take them away."""
    return lost_after * 2.0 ** min(lost, _MOST_DOUBLED)


def begin(client: redis.Redis, broker: str | None, queue: str, number: str, lost_after: float) -> Flight:
    """Note a new canary unless one is on its way, and has been for less than :func:`patience`."""
    begun, waiting, lost, latency, age = call(
        client, script(_HERE, "canary_begin.lua"), [key(broker, queue)], [number, lost_after, _KEPT]
    )
    return Flight(bool(begun), _number(waiting), int(lost), _number(latency), _number(age))


def seen(client: redis.Redis, broker: str | None, queue: str, lost_after: float) -> Flight:
    """The canary of a queue as it stands; nothing is begun or kept."""
    return replace(begin(client, broker, queue, "", lost_after), begun=False)


def answer(client: redis.Redis, broker: str | None, queue: str, number: str) -> bool:
    """A canary has run; False when it is not the one that is waited for."""
    return bool(call(client, script(_HERE, "canary_answer.lua"), [key(broker, queue)], [number]))


def withdraw(client: redis.Redis, broker: str | None, queue: str) -> None:
    """The one that was begun could not be sent: nobody waits for it."""
    client.hdel(key(broker, queue), "number", "sent_at", "answered")


def _number(told: str) -> float | None:
    return float(told) if told else None
