"""The job that adds up what the processes told of a minute, and keeps it; and the hours that are over.

Redis keeps what each process counted for two hours. A minute is read when it is over and every process has
had time to tell of it, and once more whenever a process tells of it later. What was folded is marked last, so
that a run that died is done again; two at once write the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis
import structlog

from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.latency_buckets import merged
from regrow.requests import store
from regrow.requests.minutes import Count, Part, from_wire
from regrow.requests.store import HOUR, MINUTE, Rollup
from regrow.requests.telling import KEEP, key_of

logger = structlog.get_logger(__name__)

GRACE = 10.0
"""Seconds after its end in which every process that can has told of a minute."""
_VERSION, _FOLDED = "#version", "#folded"
_LONGEST_RUN = 120.0


def fold(engine: Engine) -> dict[str, Any]:
    """Keep what is new. Keys: ``minutes`` and ``hours`` looked at, ``services``, ``rows`` changed,
    ``unreadable`` reports of processes.

    StoreUnavailableError when Redis or the database is away: the next run does it all.
    """
    try:
        return _fold(engine)
    except redis.RedisError as error:
        raise StoreUnavailableError(f"Redis did not answer: {error}") from error


def _fold(engine: Engine) -> dict[str, Any]:
    now, began = engine.clock(), time.monotonic()
    last = int((now.timestamp() - GRACE) // 60) - 1
    news = _with_news(engine.patient_redis, range(last - KEEP // 60 + 1, last + 1))
    services: set[str] = set()
    rows = minutes = unreadable = 0
    for minute, version in news.items():
        if time.monotonic() - began > _LONGEST_RUN:
            break  # the next run goes on
        parts, bad = _told(engine.patient_redis, minute)
        unreadable += bad
        rollups = _of_minute(minute, parts)
        rows += store.write(engine.database, rollups)
        rows += _hour_again(engine, minute, last)
        services |= {rollup.service for rollup in rollups}
        engine.patient_redis.hset(key_of(minute), _FOLDED, version)
        minutes += 1
    hours, more = _hours_that_are_over(engine, last)
    return {
        "minutes": minutes,
        "hours": hours,
        "services": len(services),
        "rows": rows + more,
        "unreadable": unreadable,
    }


def _with_news(client: redis.Redis, minutes: Iterable[int]) -> dict[int, str]:
    """The minutes of which something was told that is not folded yet, each with its version."""
    wanted = list(minutes)
    with client.pipeline(transaction=False) as pipe:
        for minute in wanted:
            pipe.hmget(key_of(minute), [_VERSION, _FOLDED])
        found = cast("list[list[str | None]]", pipe.execute())
    return {
        minute: version
        for minute, (version, folded) in zip(wanted, found, strict=True)
        if version is not None and version != folded
    }


def _told(client: redis.Redis, minute: int) -> tuple[list[Part], int]:
    """What the processes told of a minute, and of how many of them it could not be read."""
    held = cast("Mapping[str, str]", client.hgetall(key_of(minute)))
    parts: list[Part] = []
    unreadable = 0
    for source, told in held.items():
        if source.startswith("#"):
            continue
        try:
            parts += from_wire(told.partition(" ")[2])
        except ValueError as error:
            unreadable += 1
            logger.warning("requests.unreadable", source=source, minute=minute, error=str(error))
    return parts, unreadable


def _of_minute(minute: int, parts: Iterable[Part]) -> list[Rollup]:
    """One row a service and route; one without requests for a service that was only heard of."""
    total: dict[tuple[str, str], Count] = {}
    for part in parts:
        total.setdefault((part.service, part.route), Count()).add(part.count)
    at = datetime.fromtimestamp(minute * 60, UTC)
    return [
        Rollup(MINUTE, at, service, route, count.count, count.failed, 1, count.buckets)
        for (service, route), count in total.items()
    ]


def _hour_again(engine: Engine, minute: int, last: int) -> int:
    """A minute of an hour that is over came late: the hour is made anew."""
    hour = datetime.fromtimestamp(minute // 60 * HOUR, UTC)
    return _write_hour(engine, hour) if minute // 60 < (last + 1) // 60 else 0


def _hours_that_are_over(engine: Engine, last: int) -> tuple[int, int]:
    """Make the hours that are over and have none yet: how many there were, and rows changed."""
    end = datetime.fromtimestamp((last + 1) // 60 * HOUR, UTC)
    made = store.newest(engine.database, HOUR)
    kept = timedelta(days=engine.settings.history.request_minutes_days)
    since = made + timedelta(hours=1) if made is not None else end - kept
    hours = rows = 0
    while (first := store.oldest(engine.database, MINUTE, since)) is not None:
        hour = first.replace(minute=0, second=0, microsecond=0)
        if hour >= end:
            break
        rows += _write_hour(engine, hour)
        hours += 1
        since = hour + timedelta(hours=1)
    return hours, rows


def _write_hour(engine: Engine, hour: datetime) -> int:
    minutes = store.read(engine.database, MINUTE, hour, hour + timedelta(hours=1))
    return store.write(engine.database, hour_of(hour, minutes))


def hour_of(hour: datetime, minutes: Sequence[Rollup]) -> list[Rollup]:
    """The rows of an hour out of those of its minutes."""
    heard: dict[str, set[datetime]] = {}
    routes: dict[tuple[str, str], list[Rollup]] = {}
    for one in minutes:
        heard.setdefault(one.service, set()).add(one.starts_at)
        routes.setdefault((one.service, one.route), []).append(one)
    return [
        Rollup(
            HOUR,
            hour,
            service,
            route,
            sum(one.count for one in parts),
            sum(one.failed for one in parts),
            len(heard[service]),
            merged(one.buckets for one in parts),
        )
        for (service, route), parts in routes.items()
    ]
