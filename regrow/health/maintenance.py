"""Maintenance as the sweep, pages and the command line ask for it: windows declared and windows added.

Declared ones (``[maintenance.NAME]``) come again and need no store. Added ones are rows of the table
``maintenance``, which is the truth; Redis has a copy (``regrow:{health}:maintenance``) for the time in which
the database is away. What is over is kept: reports leave it out of their sums.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
import structlog

from regrow import audit
from regrow.database.tables import maintenance as table
from regrow.engine import Engine
from regrow.errors import RegrowError, StoreUnavailableError
from regrow.health.store import database_errors, redis_errors
from regrow.health.windows import (
    LONGEST_EMERGENCY,
    Recurring,
    Scope,
    Window,
    kind_at,
    scope_of,
)
from regrow.ids import uuid7
from regrow.recurrence import hours_of, rule_of
from regrow.settings.maintenance import MaintenanceSettings

logger = structlog.get_logger(__name__)

COPY = "regrow:{health}:maintenance"
AHEAD = timedelta(days=35)
"""How far ahead windows are listed: the next one of each month is always among them."""


class MaintenanceError(RegrowError):
    """A maintenance window that cannot be added or ended; the message says why, and the remedy."""


@dataclass(frozen=True)
class Added:
    """A window that was added. ``short_notice``: it was announced less than 24 h ahead."""

    window: Window
    short_notice: bool


def around(engine: Engine, now: datetime) -> list[Window]:
    """The windows that hold at ``now``, or within the next hour: what a sweep may need. Never raises."""
    soon = now + timedelta(hours=1)
    return [*declared(engine, now, soon), *(w for w in _added(engine, now) if w.starts < soon)]


def upcoming(engine: Engine, now: datetime) -> list[Window]:
    """The windows that hold now or begin within 35 days, in order of their beginning.

    StoreUnavailableError when the database is away: a list that leaves some out would be wrong.
    """
    added = [window for window in read(engine, now) if window.starts < now + AHEAD]
    return sorted(
        [*declared(engine, now, now + AHEAD), *added], key=lambda window: (window.starts, window.name)
    )


def declared(engine: Engine, since: datetime, until: datetime) -> list[Window]:
    """The windows of ``regrow.toml`` that have a moment in between."""
    return [
        window
        for name, told in engine.settings.maintenance.items()
        for window in _recurring(name, told).between(since, until)
    ]


def _recurring(name: str, told: MaintenanceSettings) -> Recurring:
    start, end_ = hours_of(told.hours)
    scope = Scope(told.checks, tuple(sorted(told.labels.items())), told.everything)
    return Recurring(name, rule_of(told.repeat), start, end_, told.zone, scope, told.reason)


def add(engine: Engine, scope: Scope, starts: datetime, ends: datetime, *, actor: str, reason: str) -> Added:
    """Add a window. Less than 24 h ahead it is an emergency, which lasts 4 h at most.

    MaintenanceError when it cannot be; StoreUnavailableError when the database is away.
    """
    now = engine.clock()
    kind = kind_at(now, starts)
    if not reason.strip():
        raise MaintenanceError("say why: a maintenance window needs a reason")
    if ends <= starts or ends <= now:
        raise MaintenanceError("a maintenance window must end after it begins, and after now")
    if kind == "emergency" and ends - starts > LONGEST_EMERGENCY:
        raise MaintenanceError(
            "announced less than 24 h ahead it is an emergency, which lasts 4 h at most. Make it shorter, or "
            "let it begin later"
        )
    unknown = sorted(set(scope.checks) - set(engine.settings.health.checks))
    if unknown:
        raise MaintenanceError(f"no check is named {', '.join(unknown)}; `regrow health watch` lists them")
    window = Window(uuid7(now), kind, starts, ends, scope, reason, actor, now)

    def write(connection: sa.Connection) -> None:
        connection.execute(sa.insert(table).values(_row(window)))
        audit.write(
            connection,
            at=now,
            actor=actor,
            act="maintenance.added",
            subject=window.name,
            reason=reason,
            details={"scope": str(scope), "starts": starts.isoformat(), "ends": ends.isoformat()},
        )

    with database_errors():
        engine.database.run(write)
    _copy(engine, read(engine, now))
    logger.info("maintenance.added", id=window.name, kind=kind, scope=str(scope), actor=actor, reason=reason)
    return Added(window, short_notice=kind == "emergency")


def end(engine: Engine, name: str, *, actor: str, reason: str) -> Window:
    """End an added window now, or call it off when it has not begun; returns it as it was.

    MaintenanceError when there is none of that id that is not over; StoreUnavailableError when the database
    is away.
    """
    now = engine.clock()
    if name in engine.settings.maintenance:
        raise MaintenanceError(
            f"{name} is declared in regrow.toml: take [maintenance.{name}] out there, which needs no restart"
        )
    if not reason.strip():
        raise MaintenanceError("say why: ending a maintenance window needs a reason")

    def write(connection: sa.Connection) -> Window | None:
        query = sa.select(table).where(table.c.id == name, *_stands(now)).with_for_update()
        row = connection.execute(query).mappings().first()
        if row is None:
            return None
        window = _window(row)
        ends = max(now, window.starts)  # called off: a span without a moment
        connection.execute(sa.update(table).where(table.c.id == name).values(ends_at=ends, ended_by=actor))
        audit.write(connection, at=now, actor=actor, act="maintenance.ended", subject=name, reason=reason)
        return window

    with database_errors():
        ended = engine.database.run(write)
    if ended is None:
        raise MaintenanceError(f"no maintenance window {name} stands; `regrow maintenance list` shows them")
    _copy(engine, read(engine, now))
    logger.info("maintenance.ended", id=name, actor=actor, reason=reason)
    return ended


def read(engine: Engine, now: datetime) -> list[Window]:
    """The added windows that are not over. StoreUnavailableError when the database is away."""
    query = sa.select(table).where(*_stands(now)).order_by(table.c.starts_at)
    with database_errors(), engine.database.snapshot() as connection:
        return [_window(row) for row in connection.execute(query).mappings()]


def _stands(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Not over, and not called off, which leaves a span without a moment."""
    return (table.c.ends_at > now, table.c.ends_at > table.c.starts_at)


def between(engine: Engine, since: datetime, until: datetime) -> list[Window]:
    """All windows that have a moment in ``[since, until)``, those that are over with them.

    StoreUnavailableError when the database is away.
    """
    within = sa.and_(table.c.ends_at > since, table.c.starts_at < until, table.c.ends_at > table.c.starts_at)
    with database_errors(), engine.database.snapshot() as connection:
        rows = connection.execute(sa.select(table).where(within)).mappings()
        return [*declared(engine, since, until), *map(_window, rows)]


def _added(engine: Engine, now: datetime) -> list[Window]:
    """The same, from the copy in Redis while the database is away; without either, none is known."""
    try:
        found = read(engine, now)
    except StoreUnavailableError:
        return [window for window in _copied(engine) if window.ends > now]
    if found or _copied(engine):
        _copy(engine, found)
    return found


def _copy(engine: Engine, windows: list[Window]) -> None:
    text = json.dumps([_told(window) for window in windows])
    try:
        with redis_errors():
            engine.redis.set(COPY, text)
    except StoreUnavailableError as error:
        logger.debug("maintenance.not_copied", error=str(error))


def _copied(engine: Engine) -> list[Window]:
    try:
        with redis_errors():
            text = cast("str | None", engine.redis.get(COPY))
        told = json.loads(text or "[]")
        times = ("starts_at", "ends_at", "announced_at")
        return [_window({**row, **{t: datetime.fromisoformat(row[t]) for t in times}}) for row in told]
    except (StoreUnavailableError, ValueError, TypeError, KeyError):
        return []


def _told(window: Window) -> dict[str, Any]:
    row = _row(window)
    return {
        **row,
        **{name: row[name].isoformat() for name in ("starts_at", "ends_at", "announced_at")},
    }


def _row(window: Window) -> dict[str, Any]:
    return {
        "id": window.name,
        "kind": window.kind,
        "scope": {
            "checks": list(window.scope.checks),
            "labels": dict(window.scope.labels),
            "everything": window.scope.everything,
        },
        "starts_at": window.starts,
        "ends_at": window.ends,
        "announced_at": window.announced or window.starts,
        "actor": window.actor,
        "reason": window.reason,
    }


def _window(row: Any) -> Window:
    return Window(
        name=row["id"],
        kind="planned" if row["kind"] == "planned" else "emergency",
        starts=row["starts_at"],
        ends=row["ends_at"],
        scope=scope_of(row["scope"]),
        reason=row["reason"],
        actor=row["actor"],
        announced=row["announced_at"],
    )
