"""The pace of each service, one row that all redriving workers share; a short transaction each time.

In the database and not in Redis, because there is no redrive without the database anyway: a Redis that is
away, or was flushed, changes no rate, and no worker needs a rule of its own for that case.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from regrow.database.tables import dead_letter_attempts, redrive_paces
from regrow.dead_letters import pacing
from regrow.dead_letters.classes import STRAINED
from regrow.dead_letters.pacing import Gate, Grant, Limits, Paced, Seen
from regrow.dead_letters.rules import AttemptOutcome
from regrow.engine import Engine

_MOST_SEEN = 1_000
attempts = dead_letter_attempts.c


def take(engine: Engine, service: str, gate: Gate, wanted: int) -> Grant:
    """Leave for up to ``wanted`` letters of a service to go home now."""
    try:
        return engine.database.run(lambda connection: _take(engine, connection, service, gate, wanted))
    except IntegrityError:  # another worker made the row meanwhile
        return engine.database.run(lambda connection: _take(engine, connection, service, gate, wanted))


def give_back(engine: Engine, service: str, unused: int) -> None:
    """What was granted and found no letter."""

    def work(connection: sa.Connection) -> None:
        paced = _read(connection, service)
        if paced is not None:
            _write(connection, service, pacing.give_back(paced, unused, limits_of(engine, service)))

    engine.database.run(work)


def limits_of(engine: Engine, service: str) -> Limits:
    rate, burst, slow_start = engine.settings.dead_letters.redrive(service)
    return Limits(rate, burst, slow_start, engine.settings.breaker(service).recovery_timeout)


def _take(engine: Engine, connection: sa.Connection, service: str, gate: Gate, wanted: int) -> Grant:
    now, limits = engine.clock(), limits_of(engine, service)
    known = _read(connection, service)
    paced = known or pacing.first(gate, limits, now)
    if gate.state == "closed" and (now - paced.looked_at).total_seconds() >= pacing.LOOK_EVERY:
        paced = pacing.adapt(paced, _seen(connection, service, paced.looked_at, now), gate, limits, now)
    given = pacing.grant(paced, gate, limits, wanted, now)
    if known is None:
        connection.execute(sa.insert(redrive_paces).values(service=service, **asdict(given.paced)))
    elif given.paced != known:
        _write(connection, service, given.paced)
    return given


def _read(connection: sa.Connection, service: str) -> Paced | None:
    query = sa.select(redrive_paces).where(redrive_paces.c.service == service).with_for_update()
    row = connection.execute(query).mappings().first()
    return None if row is None else Paced(**{field.name: row[field.name] for field in fields(Paced)})


def _write(connection: sa.Connection, service: str, paced: Paced) -> None:
    connection.execute(
        sa.update(redrive_paces).where(redrive_paces.c.service == service).values(**asdict(paced))
    )


def _seen(connection: sa.Connection, service: str, since: datetime, until: datetime) -> Seen:
    """The latest outcomes of a service's letters in (since, until]."""
    query = (
        sa.select(attempts.outcome, attempts.failure_class, attempts.dispatched_at, attempts.ended_at)
        .where(attempts.service == service, attempts.ended_at > since, attempts.ended_at <= until)
        .order_by(attempts.ended_at.desc())
        .limit(_MOST_SEEN)
    )
    succeeded = strained = 0
    took: list[float] = []
    for row in connection.execute(query):
        if row.outcome == AttemptOutcome.SUCCEEDED:
            succeeded += 1
            if row.dispatched_at is not None:
                took.append((row.ended_at - row.dispatched_at).total_seconds())
        elif row.outcome == AttemptOutcome.NO_OUTCOME or row.failure_class in STRAINED:
            strained += 1
    return Seen(succeeded, strained, sum(took) / len(took) if took else None)
