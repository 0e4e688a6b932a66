"""The table ``request_rollups``: what the requests of each service amount to, by minute and by hour.

A row is only ever replaced by one that knows more. Counts of a minute can but grow; what comes with fewer was
read before, or after Redis forgot a part. So it does not matter who writes first, or how often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from regrow.database import Database
from regrow.database.inserting import insert_new
from regrow.database.retention import delete_older
from regrow.database.tables import request_rollups as table
from regrow.engine import Engine
from regrow.latency_buckets import from_text, to_text

MINUTE, HOUR = 60, 3600
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Rollup:
    """Requests of a service and route in ``seconds`` (60 or 3600) from ``starts_at`` on.

    ``heard``: minutes of these in which the service was heard of.
    """

    seconds: int
    starts_at: datetime
    service: str
    route: str
    count: int
    failed: int
    heard: int = 1
    buckets: Mapping[int, int] = field(default_factory=dict)


def write(database: Database, rollups: Iterable[Rollup]) -> int:
    """Keep these, each but once, where the table knows less; how many rows it changed."""
    ordered = sorted(rollups, key=lambda one: (one.seconds, one.starts_at, one.service, one.route))
    chunks = [ordered[at : at + _AT_ONCE] for at in range(0, len(ordered), _AT_ONCE)]
    return sum(database.run(lambda connection, chunk=chunk: _write(connection, chunk)) for chunk in chunks)  # type: ignore[misc]


def _write(connection: sa.Connection, rollups: Sequence[Rollup]) -> int:
    known = _known(connection, rollups)
    new = [_values(one) for one in rollups if _key(one) not in known]
    grown = [one for one in rollups if (have := known.get(_key(one))) and have < (one.count, one.heard)]
    if new:
        connection.execute(insert_new(table), new)
    if grown:
        less = sa.or_(
            table.c["count"] < sa.bindparam("its_count"),
            sa.and_(table.c["count"] == sa.bindparam("its_count"), table.c.heard < sa.bindparam("its_heard")),
        )
        same = [table.c[name] == sa.bindparam(f"its_{name}") for name in _KEY]
        update = (
            sa.update(table)
            .where(*same, less)
            .values({name: sa.bindparam(f"its_{name}") for name in ("count", "failed", "heard", "buckets")})
        )
        told = [{f"its_{name}": value for name, value in _values(one).items()} for one in grown]
        connection.execute(update, told)
    return len(new) + len(grown)


_KEY = ("seconds", "starts_at", "service", "route")


def _key(one: Rollup) -> tuple[int, datetime, str, str]:
    return one.seconds, one.starts_at, one.service, one.route


def _known(connection: sa.Connection, rollups: Sequence[Rollup]) -> dict[tuple[Any, ...], tuple[int, int]]:
    columns = [table.c[name] for name in (*_KEY, "count", "heard")]
    query = sa.select(*columns).where(
        table.c.seconds.in_({one.seconds for one in rollups}),
        table.c.starts_at.in_({one.starts_at for one in rollups}),
        table.c.service.in_({one.service for one in rollups}),
    )
    return {tuple(row[:4]): (row[4], row[5]) for row in connection.execute(query)}


def _values(one: Rollup) -> dict[str, Any]:
    return {
        "seconds": one.seconds,
        "starts_at": one.starts_at,
        "service": one.service,
        "route": one.route,
        "count": one.count,
        "failed": one.failed,
        "heard": one.heard,
        "buckets": to_text(one.buckets),
    }


def read(
    database: Database,
    seconds: int,
    since: datetime,
    until: datetime,
    services: Sequence[str] | None = None,
    route: str | None = None,
) -> list[Rollup]:
    """Rows that start in the half-open span, of all services or these, in the order of time."""
    query = (
        sa.select(table)
        .where(table.c.seconds == seconds, table.c.starts_at >= since, table.c.starts_at < until)
        .order_by(table.c.starts_at)
    )
    if services is not None:
        query = query.where(table.c.service.in_(services))
    if route is not None:
        query = query.where(table.c.route.in_({route, ""}))
    with database.snapshot() as connection:
        return [_rollup(row) for row in connection.execute(query).mappings()]


def newest(database: Database, seconds: int) -> datetime | None:
    """When the newest row of this kind starts; None without one."""
    query = sa.select(sa.func.max(table.c.starts_at, type_=table.c.starts_at.type)).where(
        table.c.seconds == seconds
    )
    with database.snapshot() as connection:
        return connection.execute(query).scalar()


def oldest(database: Database, seconds: int, since: datetime) -> datetime | None:
    """When the first row of this kind at or after ``since`` starts."""
    query = sa.select(sa.func.min(table.c.starts_at, type_=table.c.starts_at.type)).where(
        table.c.seconds == seconds, table.c.starts_at >= since
    )
    with database.snapshot() as connection:
        return connection.execute(query).scalar()


def services(database: Database, since: datetime) -> list[str]:
    """Services that were heard of since then, by name."""
    query = sa.select(table.c.service).where(table.c.starts_at >= since).distinct().order_by(table.c.service)
    with database.snapshot() as connection:
        return list(connection.execute(query).scalars())


def prune(engine: Engine) -> int:
    """Delete minutes and hours that are older than they are kept; how many rows went."""
    kept = {
        MINUTE: engine.settings.history.request_minutes_days,
        HOUR: engine.settings.history.request_hours_days,
    }
    return sum(
        delete_older(
            engine.database,
            table,
            table.c.starts_at,
            engine.clock() - timedelta(days=days),
            table.c.seconds == seconds,
        )
        for seconds, days in kept.items()
    )


def _rollup(row: Any) -> Rollup:
    told = {name: row[name] for name in Rollup.__dataclass_fields__}
    return Rollup(**{**told, "buckets": from_text(row["buckets"])})
