"""Lists of letters, and how many there are. Takes no lock.

A page is read backwards from an index that ends in the id: it reads what it shows, among millions too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import capture_events, dead_letters
from regrow.dead_letters.rules import SETTLED, UNSETTLED, State
from regrow.dead_letters.store import Letter, letter_of

letters = dead_letters.c


def page(
    connection: sa.Connection,
    *,
    state: State | None,
    service: str | None,
    message_type: str | None,
    limit: int,
    before: str | None,
) -> list[Letter]:
    """Newest first; ``before`` is the last id of the page before (keyset paging, no OFFSET).

    By state, by service, by both, or by message type no more letters are read than shown. Those of a message
    type *and* a state or service are looked for among the letters of the type, or of the state.
    """
    wanted = {"state": state, "service": service, "message_type": message_type}
    given = {name: value for name, value in wanted.items() if value is not None}
    if set(given) == {"service"}:
        query = _of_service(given["service"], limit, before)
    else:
        query = _newest(sa.select(dead_letters), given, limit, before)
    return [letter_of(row) for row in connection.execute(query).mappings()]


def _of_service(service: str, limit: int, before: str | None) -> sa.Select[Any]:
    """The ids of each state are in order, those of all states are not: the newest of the newest of each."""
    each = [
        _newest(sa.select(letters.id), {"service": service, "state": state}, limit, before)
        .subquery()
        .select()
        for state in State
    ]
    ids = sa.union_all(*each).subquery("newest")
    some = sa.select(ids.c.id).order_by(ids.c.id.desc()).limit(limit).subquery("page")
    return sa.select(dead_letters).join(some, some.c.id == letters.id).order_by(some.c.id.desc())


def _newest(query: sa.Select[Any], given: dict[str, str], limit: int, before: str | None) -> sa.Select[Any]:
    for name, value in given.items():
        query = query.where(letters[name] == value)
    if before is not None:
        query = query.where(letters.id < before)
    if fitting := _indexes_for(set(given)):
        # Else a planner that takes what is wanted for frequent reads all letters, from the newest on.
        hint = f"FORCE INDEX ({', '.join(fitting)})"
        query = query.with_hint(dead_letters, hint, "mysql").with_hint(dead_letters, hint, "mariadb")
    return query.order_by(letters.id.desc()).limit(limit)


def _indexes_for(given: set[str]) -> list[str]:
    """Those that hold, in the order of the ids, what is wanted and perhaps more."""
    found = {}
    for index in dead_letters.indexes:
        *first, last = index.columns.keys()
        if last == "id" and set(first) <= given:
            found[str(index.name)] = len(first)
    return sorted(name for name, columns in found.items() if columns == max(found.values()))


def counts(connection: sa.Connection) -> dict[str, int]:
    """How many letters are in each state; every state is named, empty ones too."""
    found = connection.execute(sa.select(letters.state, sa.func.count()).group_by(letters.state))
    return {**dict.fromkeys((s.value for s in State), 0), **{row[0]: row[1] for row in found}}


def oldest_unsettled(connection: sa.Connection) -> datetime | None:
    query = sa.select(sa.func.min(letters.first_failed_at)).where(letters.state.in_(UNSETTLED))
    oldest: datetime | None = connection.execute(query).scalar()
    return oldest


def flow(connection: sa.Connection, since: datetime, until: datetime) -> dict[str, int]:
    """Captured events, and letters settled, within [since, until)."""
    captured = connection.execute(
        sa.select(sa.func.count())
        .select_from(capture_events)
        .where(capture_events.c.received_at >= since, capture_events.c.received_at < until)
    ).scalar_one()
    settled = connection.execute(
        sa.select(letters.state, sa.func.count())
        .where(letters.state.in_(SETTLED), letters.settled_at >= since, letters.settled_at < until)
        .group_by(letters.state)
    )
    return {"captured": captured, "resolved": 0, "discarded": 0, **{row[0]: row[1] for row in settled}}
