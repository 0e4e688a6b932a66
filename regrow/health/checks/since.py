"""For how long something has stayed as it is: remembered from probe to probe, where it does not say so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import redis

PREFIX = "regrow:{health}:since:"
_KEPT = 86_400


def unchanged(
    client: redis.Redis, name: str, marks: Mapping[str, str | None], now: float, *, lasting: bool = True
) -> dict[str, float]:
    """Seconds for which each mark has been the same, 0 at its first sight; what is not named is forgotten.

    A mark of None is not known now: the one before it goes on. ``now``: epoch seconds. ``lasting`` False:
    nothing is written or forgotten. Two probes at once may both call a sight the first one: an age is never
    too long.
    """
    key = f"{PREFIX}{name}"
    known = cast("dict[str, str]", client.hgetall(key))
    first = {what: _first(known.get(what), mark, now) for what, mark in marks.items()}
    ages = {what: now - at for what, (_, at) in first.items()}
    if not lasting:
        return ages
    with client.pipeline(transaction=True) as batch:
        if gone := [what for what in known if what not in marks]:
            batch.hdel(key, *gone)
        if first:
            batch.hset(key, mapping={what: json.dumps(told) for what, told in first.items()})
            batch.expire(key, _KEPT)
        batch.execute()
    return ages


def _first(told: str | None, mark: str | None, now: float) -> tuple[str, float]:
    """The mark, and when it was first seen: now when another one was there, or a clock was wrong."""
    try:
        before, at = json.loads(told or "")
        if mark in {before, None} and float(at) <= now:
            return str(before), float(at)
    except (ValueError, TypeError):
        pass
    return mark or "", now


def remembered(
    url: str, name: str, marks: Mapping[str, str | None], now: float, timeout: float, *, lasting: bool = True
) -> dict[str, float]:
    """As :func:`unchanged`, on the Redis at ``url``; without it nothing is remembered, and no age known."""
    import redis

    from regrow.health.checks.redis_client import asking

    try:
        with asking(url, timeout) as client:
            return unchanged(client, name, marks, now, lasting=lasting)
    except (redis.RedisError, OSError):
        return {}
