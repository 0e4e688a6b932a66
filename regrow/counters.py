"""Counts for Prometheus, shared by every process: one Redis hash that only ever grows.

Redis forgetting them is a counter reset, which Prometheus knows how to read. A process cannot serve such
counts from its own memory: of ten pool children a scrape would see one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import redis
import structlog

from regrow.engine import Engine

logger = structlog.get_logger(__name__)

KEY = "regrow:{counters}"

Labels = tuple[tuple[str, str], ...]


def add(engine: Engine, name: str, labels: Mapping[str, str], by: float = 1) -> None:
    """Count ``by`` more; with Redis away nothing is counted, because what is counted matters more."""
    add_all(engine, {(name, tuple(sorted(labels.items()))): by})


def add_all(engine: Engine, counts: Mapping[tuple[str, Labels], float]) -> None:
    """Many counts in one trip, all or none."""
    if not counts:
        return
    try:
        with engine.redis.pipeline(transaction=True) as pipe:
            for (name, labels), by in counts.items():
                pipe.hincrbyfloat(KEY, _field(name, labels), by)
            pipe.execute()
    except redis.RedisError as error:
        logger.warning("counters.uncounted", names=sorted({name for name, _ in counts}), error=str(error))


def read(engine: Engine) -> dict[str, dict[Labels, float]]:
    """All counts, by name and labels; raises redis.RedisError when Redis is away."""
    found: dict[str, dict[Labels, float]] = {}
    kept: dict[str, str] = engine.redis.hgetall(KEY)  # type: ignore[assignment]
    for key, value in kept.items():
        name, labels = json.loads(key)
        found.setdefault(name, {})[tuple((label, text) for label, text in labels)] = float(value)
    return found


def _field(name: str, labels: Labels) -> str:
    return json.dumps([name, sorted(labels)], separators=(",", ":"), ensure_ascii=False)
