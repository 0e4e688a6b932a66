"""Following what happened into incidents: one look, done whole or not at all.

Rows of others are read from where the last look ended, and a little before: one that was written earlier may
have become visible later. A change of a check is known by its number, a transition by its epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
import structlog

from regrow.database.tables import (
    breaker_transitions,
    check_changes,
    check_results,
    check_states,
    recovery_events,
)
from regrow.engine import Engine
from regrow.health import maintenance
from regrow.health import service as health
from regrow.health.causes import Graph
from regrow.health.rules import Declared, stale_after
from regrow.health.status import Change
from regrow.health.windows import Window, covering
from regrow.ids import uuid7
from regrow.incidents import facts, model, timelines
from regrow.incidents.facts import Heard, Locking, Transition
from regrow.incidents.model import MONITOR, Fact, Policy, Severity
from regrow.incidents.rules import Book, fold
from regrow.incidents.store import Cursor, Incidents, read_book, write_book, write_cursors
from regrow.recovery.declared import services

logger = structlog.get_logger(__name__)

_BATCH = 1_000
_BACK = 1_000
"""Ids before the cursor that are looked at again: as many rows as can be under way in other transactions."""

_SOURCES = {"checks": check_changes, "breakers": breaker_transitions, "recovery": recovery_events}


def follow(engine: Engine) -> dict[str, int]:
    """Follow everything that was written since the last look; how many rows, and what came of them."""
    total = {"followed": 0, "opened": 0, "closed": 0, "changed": 0}
    now = engine.clock()
    windows = [window for window in maintenance.around(engine, now) if window.covers(now)]
    while True:
        found = Incidents(engine.database).follow(
            lambda connection, cursors: _look(engine, connection, cursors, windows, now)
        )
        for name in total:
            total[name] += found[name]
        if found["left"] == 0:
            return total


def _look(
    engine: Engine,
    connection: sa.Connection,
    cursors: dict[str, Cursor],
    windows: Sequence[Window],
    now: datetime,
) -> dict[str, int]:
    chosen = engine.settings.incidents
    rows = {name: _rows(connection, table, cursors.get(name)) for name, table in _SOURCES.items()}
    left = sum(len(found) == _BATCH + _BACK for found in rows.values())
    oldest = min((row["at"] for found in rows.values() for row in found), default=now)
    patience = timedelta(seconds=chosen.reopen_within) + timedelta(hours=1)
    before = read_book(connection, min(now, oldest) - patience)
    graph = graph_of(engine, before, (row["breaker"] for row in rows["breakers"]))
    planned = planned_of(graph, windows, now)
    heard = _heard(connection, graph)
    told = [facts.of_change(_change(row), graph) for row in rows["checks"]]
    told += facts.of_recovery(_lockings(rows["recovery"]))
    told += facts.of_breakers(
        _transitions(rows["breakers"]),
        before.standings,
        graph,
        open_after=chosen.breaker_open_after,
        severity=chosen.breaker_severity,
        planned=planned,
        now=now,
    )
    policy = Policy(chosen.reopen_within)
    after = fold(before, told, graph, policy, uuid7, planned)
    if not left:
        levels = _levels(engine, connection, after, graph, planned, heard, cursors.get(MONITOR), now)
        after = fold(after, levels, graph, policy, uuid7, planned)
    write_book(connection, before, after)
    timelines.complete(engine, connection, after, now)
    newest = max((one.at for one in heard.values()), default=None)
    moved = {name: Cursor(max(row["id"] for row in found)) for name, found in rows.items() if found}
    write_cursors(connection, {**moved, MONITOR: Cursor(0, newest)})
    return {"left": left, "followed": sum(_new(found, cursors.get(n)) for n, found in rows.items())} | _news(
        before, after
    )


def graph_of(engine: Engine, book: Book, breakers: Iterable[str] = ()) -> Graph:
    """What stands on what: checks as declared, breakers and recoveries on the checks of their services."""
    settings = engine.settings
    graph: dict[str, Declared] = {}
    for name, declared in health.graph_of(settings).items():
        parents = tuple(model.check(parent) for parent in declared.depends_on)
        graph[model.check(name)] = replace(declared, name=model.check(name), depends_on=parents)
    owned = services(settings)
    by_breaker = {service.breaker: service for service in owned.values() if service.breaker}
    known = {model.name_of(name) for name in book.standings if name.startswith("breaker:")}
    for name in known | set(breakers) | by_breaker.keys():
        service = by_breaker.get(name)
        check = model.check((service.check if service else None) or name)
        of = graph.get(check)
        severity = of.severity if of else (service.handler.severity if service else None)
        graph[model.breaker(name)] = Declared(
            model.breaker(name),
            "breaker",
            60.0,
            0.0,
            depends_on=(check,) if of else (),
            severity=severity or settings.incidents.breaker_severity,
        )
    for name, service in owned.items():
        parents = (
            *([model.check(service.check)] if service.check else []),
            *([model.breaker(service.breaker)] if service.breaker else []),
        )
        subject = model.recovery(name)
        graph[subject] = Declared(subject, "recovery", 60.0, 0.0, depends_on=parents)
    return graph


def _rows(connection: sa.Connection, table: sa.Table, cursor: Cursor | None) -> list[Any]:
    position = cursor.position if cursor else 0
    query = sa.select(table).where(table.c.id > max(0, position - _BACK)).order_by(table.c.id)
    if table is recovery_events:
        query = query.where(table.c.event.in_(("locked", "unlocked", "recovered")))
    return list(connection.execute(query.limit(_BATCH + _BACK)).mappings())


def _new(rows: list[Any], cursor: Cursor | None) -> int:
    return sum(row["id"] > (cursor.position if cursor else 0) for row in rows)


def _change(row: Any) -> Change:
    told = {name: row[name] for name in Change.__dataclass_fields__ if name not in {"check", "began"}}
    return Change(check=row["check_name"], began=row["began_at"], **told)


def _transitions(rows: Iterable[Any]) -> list[Transition]:
    """Those of the fleet; a host that is cut off from Redis has a chain of its own, and is left out."""
    return [
        Transition(
            row["breaker"],
            row["epoch"],
            row["to_state"],
            row["at"],
            row["reason"],
            by_hand=row["actor"] is not None,
        )
        for row in rows
        if not row["details"].get("reporter")
    ]


def _lockings(rows: Iterable[Any]) -> list[Locking]:
    return [
        Locking(
            row["id"],
            row["subject"],
            row["event"] == "locked",
            row["at"],
            cast("Severity", row["data"].get("severity", row["severity"])),
            row["message"],
        )
        for row in rows
    ]


def _heard(connection: sa.Connection, graph: Graph) -> dict[str, Heard]:
    rows = connection.execute(sa.select(check_states)).mappings()
    return {
        model.check(row["check_name"]): Heard(row["at"], row["status"], row["flapping"], row["number"])
        for row in rows
        if model.check(row["check_name"]) in graph
    }


def planned_of(graph: Graph, windows: Sequence[Window], now: datetime) -> dict[str, str]:
    """Subjects that are in a maintenance window now: checks by themselves, breakers and recoveries by the
    check they stand on, and everything, the monitor too, in a window for everything."""
    everything = next((window.name for window in windows if window.scope.everything), None)
    found: dict[str, str] = dict.fromkeys((*graph, MONITOR), everything) if everything else {}
    for name, declared in graph.items():
        checks = (name,) if name.startswith("check:") else declared.depends_on
        named = [replace(graph[one], name=model.name_of(one)) for one in checks if one.startswith("check:")]
        own = [window for one in named if (window := covering(windows, one, now))]
        if own:
            found[name] = own[0]
    return found


def _levels(
    engine: Engine,
    connection: sa.Connection,
    book: Book,
    graph: Graph,
    planned: dict[str, str],
    heard: dict[str, Heard],
    cursor: Cursor | None,
    now: datetime,
) -> list[Fact]:
    """What no row tells: silence, what is declared no more, what has outlived its maintenance."""
    chosen = engine.settings.incidents
    looks = [stale_after(one.interval, one.timeout) for name, one in graph.items() if name in heard]
    gap = _gap(connection, cursor.heard_at) if cursor and cursor.heard_at else []
    silence = facts.of_silence(
        heard,
        book.standings,
        graph,
        silent_after=max([chosen.silent_after, min(looks, default=0.0)]),
        severity=chosen.monitor_severity,
        planned=planned,
        gaps=gap,
        now=now,
    )
    return [
        *silence,
        *facts.of_what_is_gone(book.standings, graph, now),
        *facts.of_ended_maintenance(book.standings, graph, planned, now),
    ]


def _gap(connection: sa.Connection, heard_at: datetime) -> list[tuple[datetime, datetime]]:
    """The span between the newest result of the last look and the first one after it."""
    first = sa.select(sa.func.min(check_results.c.at)).where(check_results.c.at > heard_at)
    until: datetime | None = connection.execute(first).scalar_one()
    return [(heard_at, until)] if until is not None else []


def _news(before: Book, after: Book) -> dict[str, int]:
    was = {name for name, one in before.incidents.items() if one.is_open}
    now_open = {name for name, one in after.incidents.items() if one.is_open}
    for name in sorted(now_open - was):
        one = after.incidents[name]
        logger.warning(
            "incident.opened", incident=name, root=one.root, severity=one.severity, title=one.title
        )
    for name in sorted(was - now_open):
        logger.info("incident.closed", incident=name, status=after.incidents[name].status)
    return {"opened": len(now_open - was), "closed": len(was - now_open), "changed": len(after.events)}
