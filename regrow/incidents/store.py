"""Where incidents are kept: the database. Each method is one transaction.

Followers hold the row of the cursor, so that two workers at once follow one after the other, and what one did
the other finds done; a worker that dies in the middle leaves nothing behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from regrow import audit
from regrow.audit import Act
from regrow.database import Database, upserts
from regrow.database.tables import (
    incident_cursors,
    incident_events,
    incident_members,
    incident_subjects,
    incidents,
)
from regrow.errors import IncidentNotFoundError, StoreUnavailableError
from regrow.incidents.model import Event, Incident, Member, Standing, Status
from regrow.incidents.rules import Book

T = TypeVar("T")

_LOCK = "incidents"
_SOURCE = 255
TEXT = 10_000
"""Characters of a message that are kept."""


@dataclass(frozen=True)
class Cursor:
    """How far the rows of one source were followed. ``heard_at``: the newest result of any check then."""

    position: int = 0
    heard_at: datetime | None = None


class Incidents:
    """The tables of incidents. Any method raises StoreUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def follow(self, work: Callable[[sa.Connection, dict[str, Cursor]], T]) -> T:
        """``work`` while nobody else follows; it is given the cursors, and done again after a lost race."""

        def alone(connection: sa.Connection) -> T:
            upserts.add_new(
                connection, incident_cursors, [{"source": _LOCK, "position": 0, "heard_at": None}]
            )
            lock = sa.select(incident_cursors).where(incident_cursors.c.source == _LOCK).with_for_update()
            connection.execute(lock).all()
            rows = connection.execute(sa.select(incident_cursors)).mappings()
            return work(connection, {row["source"]: Cursor(row["position"], row["heard_at"]) for row in rows})

        with errors():
            return self._database.run(alone)

    def newest(
        self,
        *,
        status: Status | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[Incident]:
        """The newest first. With ``since`` and ``until``, those that lasted at some moment in between."""
        query = sa.select(incidents).order_by(incidents.c.began_at.desc(), incidents.c.id.desc()).limit(limit)
        query = query.where(incidents.c.status == status) if status else _but_merged(query)
        if since is not None:
            query = query.where(sa.or_(incidents.c.resolved_at.is_(None), incidents.c.resolved_at > since))
        if until is not None:
            query = query.where(incidents.c.began_at < until)
        with errors(), self._database.snapshot() as connection:
            return [_incident(row) for row in connection.execute(query).mappings()]

    def get(self, incident_id: str) -> tuple[Incident, list[Member], list[Event]]:
        """One incident, what was in it, its timeline in order. IncidentNotFoundError."""
        with errors(), self._database.snapshot() as connection:
            found = _get(connection, incident_id)
            return found, _members(connection, [incident_id]), _timeline(connection, incident_id)

    def members(self, ids: Sequence[str]) -> list[Member]:
        with errors(), self._database.snapshot() as connection:
            return _members(connection, ids)

    def change(
        self, incident_id: str, rule: Callable[[Incident], Incident], event: Event, act: Act
    ) -> Incident:
        """Apply a person's act to an incident, with its line of the timeline and its audit row.

        One that is closed by it lets go of what it held.
        """

        def work(connection: sa.Connection) -> Incident:
            before = _get(connection, incident_id, lock=True)
            after = rule(before)
            upserts.put(connection, incidents, [_incident_row(after)])
            upserts.add_new(connection, incident_events, [_event_row(replace(event, incident=after.id))])
            if before.is_open and not after.is_open:
                held = sa.update(incident_subjects).where(incident_subjects.c.incident == after.id)
                connection.execute(held.values(incident=None))
            audit.keep(connection, act)
            return after

        with errors():
            return self._database.run(work)


def read_book(connection: sa.Connection, since: datetime) -> Book:
    """How everything stands, the open incidents, and those that ended after ``since``."""
    standings = connection.execute(sa.select(incident_subjects)).mappings()
    wanted = sa.or_(
        incidents.c.status == "open",
        sa.and_(incidents.c.status == "closed", incidents.c.resolved_at >= since),
    )
    found = [_incident(row) for row in connection.execute(sa.select(incidents).where(wanted)).mappings()]
    members = _members(connection, [one.id for one in found])
    return Book(
        standings={row["subject"]: Standing(**row) for row in standings},
        incidents={one.id: one for one in found},
        members={(one.incident, one.subject): one for one in members},
    )


def write_book(connection: sa.Connection, before: Book, after: Book) -> None:
    """What is not as it was."""
    changed = [asdict(one) for name, one in after.standings.items() if before.standings.get(name) != one]
    upserts.put(connection, incident_subjects, changed)
    new = [one for name, one in after.incidents.items() if before.incidents.get(name) != one]
    upserts.put(connection, incidents, [_incident_row(one) for one in new])
    for incident, subject in before.members.keys() - after.members.keys():
        gone = sa.and_(incident_members.c.incident == incident, incident_members.c.subject == subject)
        connection.execute(sa.delete(incident_members).where(gone))
    members = [asdict(one) for name, one in after.members.items() if before.members.get(name) != one]
    upserts.put(connection, incident_members, members)
    add_events(connection, after.events)


def add_events(connection: sa.Connection, events: Sequence[Event]) -> None:
    """Lines of timelines; those that are there already stay as they are."""
    upserts.add_new(connection, incident_events, [_event_row(event) for event in events])


def write_cursors(connection: sa.Connection, cursors: dict[str, Cursor]) -> None:
    rows = [{"source": name, **asdict(cursor)} for name, cursor in cursors.items()]
    upserts.put(connection, incident_cursors, rows)


def prune(database: Database, before: datetime) -> int:
    """Delete incidents that ended before that time, with all that belongs to them; how many went."""
    over = sa.select(incidents.c.id).where(incidents.c.status != "open", incidents.c.resolved_at < before)

    def work(connection: sa.Connection) -> int:
        ids = list(connection.execute(over.limit(100)).scalars())
        for table in (incident_events, incident_members):
            connection.execute(sa.delete(table).where(table.c.incident.in_(ids)))
        connection.execute(sa.delete(incidents).where(incidents.c.id.in_(ids)))
        return len(ids)

    total = 0
    with errors():
        while went := database.run(work):
            total += went
    return total


@contextmanager
def errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise StoreUnavailableError(f"the database refused: {error.orig}") from error


def _get(connection: sa.Connection, incident_id: str, *, lock: bool = False) -> Incident:
    query = sa.select(incidents).where(incidents.c.id == incident_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise IncidentNotFoundError(
            f"no incident has the id {incident_id!r}; `regrow incidents list` shows them"
        )
    return _incident(row)


def _members(connection: sa.Connection, ids: Sequence[str]) -> list[Member]:
    if not ids:
        return []
    query = sa.select(incident_members).where(incident_members.c.incident.in_(ids))
    ordered = query.order_by(incident_members.c.joined_at, incident_members.c.subject)
    return [Member(**row) for row in connection.execute(ordered).mappings()]


def _timeline(connection: sa.Connection, incident_id: str) -> list[Event]:
    query = sa.select(incident_events).where(incident_events.c.incident == incident_id)
    rows = connection.execute(query.order_by(incident_events.c.at, incident_events.c.id)).mappings()
    names = Event.__dataclass_fields__
    return [Event(**{name: row[name] for name in names}) for row in rows]


def _but_merged(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.where(incidents.c.status != "merged")


def _incident(row: Any) -> Incident:
    return Incident(**row)


def _incident_row(one: Incident) -> dict[str, Any]:
    return {**asdict(one), "root_cause": one.root_cause and one.root_cause[:TEXT]}


def _event_row(event: Event) -> dict[str, Any]:
    source = event.source
    if len(source) > _SOURCE:
        source = f"{source[:180]}:{hashlib.sha256(source.encode()).hexdigest()}"
    return {**asdict(event), "source": source, "message": event.message[:TEXT], "data": dict(event.data)}
