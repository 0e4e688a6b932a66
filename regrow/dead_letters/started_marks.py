"""Marks in Redis of redriven messages that a worker has in hand, so that no copy of them is sent meanwhile.

Written by the app's worker (``regrow.celery.install``), renewed while it lives and gone soon after it died. A
mark is a favour: without Redis nothing is known, and a late letter is waited for a while longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from redis.exceptions import RedisError

from regrow.dead_letters.second_copies import Mark

KEPT = 60
"""Seconds that the mark of a worker which died stands."""
RENEWED = 20.0
"""Seconds between two beats of a worker that lives."""


def mark_key(attempt: str) -> str:
    """``attempt``: LETTER:TOKEN."""
    return f"regrow:{{started}}:{attempt}"


def write(client: Any, marks: Mapping[str, Mark]) -> None:
    """RedisError or OSError when Redis is away."""
    with client.pipeline(transaction=False) as pipe:
        for attempt, mark in marks.items():
            pipe.set(mark_key(attempt), mark, ex=KEPT)
        pipe.execute()


def read(client: Any, attempts: Sequence[str]) -> Mapping[str, Mark] | None:
    """Attempt -> its mark, of those that have one; None when Redis cannot be asked."""
    try:
        found = client.mget([mark_key(attempt) for attempt in attempts]) if attempts else []
    except (RedisError, OSError):
        return None
    texts = [value.decode() if isinstance(value, bytes) else value for value in found]
    marked = zip(attempts, texts, strict=True)
    return {attempt: cast("Mark", text) for attempt, text in marked if text in {"received", "started"}}
