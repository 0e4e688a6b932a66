"""What else belongs into a timeline: breakers, attempts to recover, changes of the level, while it lasted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import breaker_transitions, degradation_changes, recoveries
from regrow.engine import Engine
from regrow.incidents import model
from regrow.incidents.model import Event, Incident
from regrow.incidents.rules import Book
from regrow.incidents.store import add_events
from regrow.recovery.declared import services

_AFTERWARDS = timedelta(minutes=5)
"""What a recovery's end or the level tells so soon after the end still belongs to it."""
_LIMIT = 500


def complete(engine: Engine, connection: sa.Connection, book: Book, now: datetime) -> None:
    """Add what others wrote down while each open or lately ended incident lasted. Each is added once."""
    for one in book.incidents.values():
        if one.status != "merged" and (one.resolved_at is None or now - one.resolved_at < 2 * _AFTERWARDS):
            add_events(connection, list(_beside(engine, connection, book, one, now)))


def _beside(
    engine: Engine, connection: sa.Connection, book: Book, one: Incident, now: datetime
) -> Iterator[Event]:
    until = min(now, one.resolved_at + _AFTERWARDS) if one.resolved_at else now
    subjects = {member.subject for member in book.of(one.id)} | {one.root}
    concerned = [
        service
        for service in services(engine.settings).values()
        if {
            model.check(service.check or ""),
            model.breaker(service.breaker or ""),
            model.recovery(service.name),
        }
        & subjects
    ]
    breakers = {model.name_of(name) for name in subjects if name.startswith("breaker:")}
    breakers |= {service.breaker for service in concerned if service.breaker}
    breakers |= {model.name_of(name) for name in subjects if name.startswith("check:")}
    table = breaker_transitions
    for row in _between(connection, table, table.c.at, one.began_at, until, table.c.breaker.in_(breakers)):
        if row["from_state"] != row["to_state"]:
            yield _of_breaker(one, row)
    names = [service.name for service in concerned]
    started = recoveries.c.started_at
    for row in _between(
        connection, recoveries, started, one.began_at, until, recoveries.c.service.in_(names)
    ):
        yield from _of_attempt(one, row)
    at = degradation_changes.c.at
    for row in _between(connection, degradation_changes, at, one.began_at, until, sa.true()):
        yield _of_level(one, row)


def _between(
    connection: sa.Connection,
    table: sa.Table,
    column: sa.Column[Any],
    since: datetime,
    until: datetime,
    only: sa.ColumnElement[bool],
) -> list[Any]:
    query = sa.select(table).where(column >= since, column <= until, only).order_by(column).limit(_LIMIT)
    return list(connection.execute(query).mappings())


def _of_breaker(one: Incident, row: Any) -> Event:
    subject = model.breaker(row["breaker"])
    word = {"open": "breaker_opened", "half_open": "breaker_half_open"}.get(row["to_state"], "breaker_closed")
    source = f"{subject}:{row['epoch']}:switched"
    return Event(one.id, row["at"], word, source, subject, row["reason"], actor=row["actor"])


def _of_attempt(one: Incident, row: Any) -> Iterator[Event]:
    subject = model.recovery(row["service"])
    source = f"recovery-attempt:{row['id']}"
    told = {"attempt": row["attempt"], "kind": row["kind"], "trigger": row["trigger"]}
    said = f"attempt {row['attempt']} ({row['kind']}): {row['reason']}"
    yield Event(
        one.id, row["started_at"], "recovery_started", f"{source}:began", subject, said, row["actor"], told
    )
    if row["outcome"] is not None:
        word = f"recovery_{row['outcome']}"
        at = row["ended_at"] or row["started_at"]
        yield Event(one.id, at, word, f"{source}:ended", subject, row["message"], data=told)


def _of_level(one: Incident, row: Any) -> Event:
    said = f"{row['old_level'] or 'unknown'} -> {row['new_level']}: {row['reason']}"
    return Event(one.id, row["at"], "level_changed", f"level:{row['revision']}", "", said, actor=row["actor"])
