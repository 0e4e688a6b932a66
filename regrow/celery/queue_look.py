"""Looking into a queue on Redis and taking nothing: kombu keeps it as lists, the oldest message at the right.

Live messages say nothing of their age, so the look goes on to the first one that was redriven; it ends after
``MOST_LOOKED`` messages or ``MOST_BYTES``, because somebody's queue may hold a million of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from regrow.dead_letters.posting import SENT_AT
from regrow.dead_letters.second_copies import QueueLook
from regrow.redis_queues import lists_of

MOST_LOOKED = 500
MOST_BYTES = 4_000_000
_PAGE = 50


def in_redis(channel: Any, queue: str) -> QueueLook:
    """What waits in ``queue``, of every priority; ``channel`` is kombu's."""
    lists = lists_of(queue, steps=channel.priority_steps, separator=channel.sep)
    prefix = channel.global_keyprefix  # kombu puts it before the keys of those commands that it uses itself
    with channel.conn_or_acquire() as client:
        looks = [_look(client, f"{prefix}{name}", client.llen(name)) for name in lists]
    ages = [look.oldest for look in looks if look.oldest is not None]
    return QueueLook(
        waiting=sum(look.waiting for look in looks),
        oldest=min(ages, default=None),
        # One list that was not seen to its end may hold an older one.
        whole=all(look.whole for look in looks),
    )


def _look(client: Any, name: str, length: int) -> QueueLook:
    if length == 0:
        return QueueLook(0, whole=True)
    seen = 0
    for message in _oldest_first(client, name, length):
        seen += 1
        if (sent := _sent_at(message)) is not None:
            return QueueLook(length, oldest=sent, whole=True)
    return QueueLook(length, whole=seen >= length)


def _oldest_first(client: Any, name: str, length: int) -> Iterator[Any]:
    most, left, largest, seen = min(length, MOST_LOOKED), MOST_BYTES, 1, 0
    page = 1  # until it is known how large these messages are
    while seen < most and left > 0:
        found = client.lrange(name, -seen - page, -seen - 1)
        if not found:
            return
        for message in reversed(found):
            left -= len(message)
            largest = max(largest, len(message))
            yield message
        seen += len(found)
        page = max(1, min(_PAGE, most - seen, left // largest))


def _sent_at(message: Any) -> datetime | None:
    try:
        found = json.loads(message)["headers"][SENT_AT]
        sent = datetime.fromisoformat(found)
    except (ValueError, TypeError, KeyError):
        return None
    return sent if sent.tzinfo is not None else None
