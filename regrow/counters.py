"""Counts for Prometheus, shared by every process: one Redis hash that only ever grows.

Redis forgetting them is a counter reset, which Prometheus knows how to read. A process cannot serve such
counts from its own memory: of ten pool children a scrape would see one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import redis
import structlog

from regrow.engine import Engine
from regrow.tallies import KEY, field_of

logger = structlog.get_logger(__name__)

PAUSE = 10.0
"""Seconds in which a Redis that did not answer is not asked again: whoever counts has better things to do."""

Labels = tuple[tuple[str, str], ...]

_resume_at: WeakKeyDictionary[Engine, float] = WeakKeyDictionary()


def add(engine: Engine, name: str, *labels: Mapping[str, str]) -> None:
    """Count one more of ``name`` for each set of labels, in one trip, all or none.

    With Redis away nothing is counted, and nothing is said upwards: what is counted matters more.
    """
    add_up(engine, Counter(field_of(name, given) for given in labels))


def add_up(engine: Engine, counts: Mapping[str, int]) -> None:
    """The same for amounts, by field (:func:`regrow.tallies.field_of`)."""
    if not counts or time.monotonic() < _resume_at.get(engine, 0.0):
        return
    try:
        with engine.redis.pipeline(transaction=True) as pipe:
            for field, by in counts.items():
                pipe.hincrby(KEY, field, by)
            pipe.execute()
    except redis.RedisError as error:
        _resume_at[engine] = time.monotonic() + PAUSE
        logger.warning("counters.uncounted", counts=sum(counts.values()), error=str(error))


def read(engine: Engine) -> dict[str, dict[Labels, int]]:
    """All counts, by name and labels; raises redis.RedisError when Redis is away."""
    found: dict[str, dict[Labels, int]] = {}
    kept: dict[str, str] = engine.redis.hgetall(KEY)  # type: ignore[assignment]
    for key, value in kept.items():
        name, labels = json.loads(key)
        found.setdefault(name, {})[tuple((label, text) for label, text in labels)] = int(value)
    return found
