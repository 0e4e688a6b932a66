"""Archives in the database: which letters are in which file. Steps inside the caller's transaction.

A letter has one row in ``archived_letters``, ever: the primary key is what keeps it out of a second archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import (
    archived_letters,
    audit,
    capture_events,
    dead_letter_archives,
    dead_letter_attempts,
    dead_letter_bodies,
    dead_letters,
)
from regrow.dead_letters.archives import Line, Verified
from regrow.dead_letters.rules import SETTLED, State

letters = dead_letters.c
archived = archived_letters.c

_AT_ONCE = 20  # letters read together: each body may have max_body_bytes


@dataclass(frozen=True)
class Archive:
    """One row of ``dead_letter_archives``; ``purged_at`` None: its letters are not all deleted yet.

    ``purged``: how many are. ``given_up_at``: its file was lost before the others were; they are in another.
    """

    id: str
    file: str
    letters: int
    sha256: str
    first_settled_at: datetime
    last_settled_at: datetime
    created_at: datetime
    purged_at: datetime | None
    purged: int
    given_up_at: datetime | None


def due(
    connection: sa.Connection, before: datetime, *, limit: int, limit_bytes: int
) -> list[tuple[str, datetime]]:
    """(id, settled at) of letters settled before ``before`` that are in no archive, oldest first.

    At most ``limit``, with bodies of ``limit_bytes`` together; one letter, if there is any, however large.
    """
    by_state = (connection.execute(due_in(state, before, limit)) for state in sorted(SETTLED))
    oldest_first = sorted(chain.from_iterable(by_state), key=lambda row: (row.settled_at, row.id))
    found: list[tuple[str, datetime]] = []
    for row in oldest_first[:limit]:
        limit_bytes -= row.bytes
        if found and limit_bytes < 0:
            break
        found.append((row.id, row.settled_at))
    return found


def due_in(state: State, before: datetime, limit: int) -> sa.Select[Any]:
    """Of one state, in the order of its index: nothing is sorted, and no more read than ``limit``."""
    return (
        sa.select(letters.id, letters.settled_at, sa.func.length(dead_letter_bodies.c.body).label("bytes"))
        .join(dead_letter_bodies, dead_letter_bodies.c.letter_id == letters.id)
        .where(
            letters.state == state,
            letters.settled_at < before,
            ~sa.exists().where(archived.letter_id == letters.id),
        )
        .order_by(letters.settled_at, letters.id)
        .limit(limit)
    )


def lines(connection: sa.Connection, ids: Sequence[str]) -> Iterator[Line]:
    """Each letter with all that belongs to it, as its line in an archive, in this order."""
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        found: dict[str, Line] = {
            row["id"]: {"letter": dict(row), "body": None, "attempts": [], "events": [], "audit": []}
            for row in connection.execute(sa.select(dead_letters).where(letters.id.in_(some))).mappings()
        }
        for name, table, owner in (
            ("body", dead_letter_bodies, "letter_id"),
            ("attempts", dead_letter_attempts, "letter_id"),
            ("events", capture_events, "letter_id"),
            ("audit", audit, "subject"),
        ):
            keys = [*table.primary_key.columns]
            query = sa.select(table).where(table.c[owner].in_(some)).order_by(*keys)
            for row in connection.execute(query).mappings():
                line = found[row[owner]]
                if name == "body":
                    line[name] = dict(row)
                else:
                    line[name].append(dict(row))
        yield from (found[letter_id] for letter_id in some if letter_id in found)


def record(
    connection: sa.Connection, found: Verified, *, file: str, settled: Sequence[datetime], now: datetime
) -> None:
    """Write down a verified archive and its letters. IntegrityError: one of them is in another archive."""
    connection.execute(
        sa.insert(dead_letter_archives).values(
            id=found.archive_id,
            file=file,
            letters=found.count,
            sha256=found.sha256,
            first_settled_at=min(settled),
            last_settled_at=max(settled),
            created_at=now,
        )
    )
    connection.execute(
        sa.insert(archived_letters),
        [{"letter_id": letter_id, "archive_id": found.archive_id} for letter_id in found.letter_ids],
    )


def purged(connection: sa.Connection, archive_id: str, now: datetime) -> None:
    """No letter of this archive is left in ``dead_letters``."""
    connection.execute(
        sa.update(dead_letter_archives).where(dead_letter_archives.c.id == archive_id).values(purged_at=now)
    )


def unpurged(connection: sa.Connection) -> list[Archive]:
    """Those with letters that are still to be deleted."""
    columns = dead_letter_archives.c
    return _archives(connection, sa.and_(columns.purged_at.is_(None), columns.given_up_at.is_(None)))


def give_up(connection: sa.Connection, archive_id: str, now: datetime) -> int:
    """Of an archive whose file is lost, let go of the letters that are still there: they are archived anew.

    Those that were purged stay recorded as being in it, for they are nowhere else; returns how many.
    """
    there = sa.exists().where(letters.id == archived.letter_id)
    connection.execute(sa.delete(archived_letters).where(archived.archive_id == archive_id, there))
    gone = connection.execute(
        sa.select(sa.func.count()).select_from(archived_letters).where(archived.archive_id == archive_id)
    ).scalar_one()
    this = dead_letter_archives.c.id == archive_id
    if gone:
        given_up = sa.update(dead_letter_archives).where(this).values(purged=gone, given_up_at=now)
        connection.execute(given_up)
    else:
        connection.execute(sa.delete(dead_letter_archives).where(this))
    return int(gone)


def recorded(connection: sa.Connection) -> set[str]:
    """The ids of all archives that were ever written down."""
    return set(connection.execute(sa.select(dead_letter_archives.c.id)).scalars())


def by_id(connection: sa.Connection, archive_id: str) -> Archive | None:
    return next(iter(_archives(connection, dead_letter_archives.c.id == archive_id)), None)


def newest(connection: sa.Connection, limit: int | None = None) -> list[Archive]:
    """The newest first; all without a limit."""
    return _archives(connection, sa.true(), limit)


def archive_of(connection: sa.Connection, letter_id: str) -> Archive | None:
    query = sa.select(archived.archive_id).where(archived.letter_id == letter_id)
    found = connection.execute(query).scalar()
    return by_id(connection, found) if found else None


def settled_at(connection: sa.Connection, ids: Sequence[str]) -> dict[str, datetime]:
    """When those of ``ids`` that are there, and settled, were settled."""
    found: dict[str, datetime] = {}
    for start in range(0, len(ids), 500):
        query = sa.select(letters.id, letters.settled_at).where(
            letters.id.in_(ids[start : start + 500]), letters.state.in_(SETTLED)
        )
        found |= {row.id: row.settled_at for row in connection.execute(query)}
    return found


def in_archives(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Those of ``ids`` that an archive holds."""
    found: set[str] = set()
    for start in range(0, len(ids), 500):
        query = sa.select(archived.letter_id).where(archived.letter_id.in_(ids[start : start + 500]))
        found |= set(connection.execute(query).scalars())
    return found


def _archives(
    connection: sa.Connection, which: sa.ColumnElement[bool], limit: int | None = None
) -> list[Archive]:
    query = (
        sa.select(dead_letter_archives).where(which).order_by(dead_letter_archives.c.id.desc()).limit(limit)
    )
    rows: Any = connection.execute(query).mappings()
    return [Archive(**row) for row in rows]
