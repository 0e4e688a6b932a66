"""What a report reads of the promises: checks' time and latency, objectives, incidents, requests.

Checks come out of the sums that ``regrow.slo`` keeps, some hundreds at a time, added up by the database as
far as it can: a month takes hardly more memory than an hour. Everything is as it stood at the period's
end, whenever it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from regrow.database.tables import check_results
from regrow.engine import Engine
from regrow.health.store import database_errors
from regrow.incidents import service as incidents
from regrow.incidents.model import Incident
from regrow.latency_buckets import Buckets
from regrow.requests import reading as requests
from regrow.requests.reading import Window
from regrow.slo import ledger
from regrow.slo import service as slo
from regrow.slo.ledger import Ledger, State
from regrow.slo.objectives import Standing
from regrow.slo.reading import Reading, reading

AT_ONCE = 500
BURNED_DOWN = 5
"""Of how many objectives it is told how their budget went down: those with the least left."""
POINTS = 30
_LAST_WORD = timedelta(hours=1)
"""A message that is older than this at the end of the period is not its last word."""


@dataclass(frozen=True)
class Check:
    """One check over the period. ``states``: of the parts of its strip, each the worst it saw.

    ``kind`` and ``required`` are None for a check that is no longer declared.
    """

    name: str
    kind: str | None
    required: bool | None
    account: Ledger
    outages: tuple[timedelta, ...]
    states: tuple[State, ...]
    latency: Buckets = field(default_factory=dict)
    last_message: str | None = None


@dataclass(frozen=True)
class Promise:
    """How an objective stood. ``left``: the share of its budget left at equal steps of its window."""

    standing: Standing
    left: tuple[float, ...] = ()


@dataclass(frozen=True)
class Measures:
    """All of it."""

    checks: tuple[Check, ...] = ()
    promises: tuple[Promise, ...] = ()
    incidents: tuple[Incident, ...] = ()
    requests: tuple[Window, ...] = ()


def read(engine: Engine, start: datetime, end: datetime, edges: Sequence[datetime]) -> Measures:
    """Everything of ``[start, end)``. StoreUnavailableError when the database is away."""
    with database_errors(), engine.database.snapshot() as connection:
        seen = reading(engine, connection, engine.clock())
        checks = tuple(_checks(seen, start, end, edges))
        promises = _promises(seen, end)
    return Measures(
        checks=checks,
        promises=promises,
        incidents=tuple(incidents.as_of(one, end) for one in incidents.of_period(engine, start, end)),
        requests=tuple(
            window
            for service in sorted(requests.services(engine.database, start))
            if (window := requests.window(engine.database, service, start, end)).heard
        ),
    )


def _checks(read: Reading, start: datetime, end: datetime, edges: Sequence[datetime]) -> Iterator[Check]:
    declared = {name: check for name, check in read.engine.settings.health.checks.items() if check.enabled}
    heard = _heard(read.connection, max(start, end - _LAST_WORD), end)
    names = sorted({*declared, *heard, *read.first})
    for first in range(0, len(names), AT_ONCE):
        some = names[first : first + AT_ONCE]
        accounts = read.accounts(some, start, end)
        some = [n for n in some if n in declared or n in heard or _told(accounts[n])]
        latencies = read.latencies(some, start, end)
        messages = _messages(read.connection, {name: heard[name] for name in some if name in heard})
        for name, cut in read.spans(some, start, end).items():
            yield Check(
                name=name,
                kind=declared[name].kind if name in declared else None,
                required=declared[name].required if name in declared else None,
                account=accounts[name],
                outages=tuple(ledger.outages(cut)),
                states=ledger.strip_over(cut, edges),
                latency=latencies[name],
                last_message=messages.get(name),
            )


def _told(account: Ledger) -> bool:
    return bool(account.up or account.down or account.maintenance)


def _heard(connection: sa.Connection, start: datetime, end: datetime) -> dict[str, datetime]:
    """The last result's time of each check that had one."""
    table = check_results
    query = sa.select(table.c.check_name, sa.func.max(table.c.at)).where(
        table.c.at >= start, table.c.at < end
    )
    return {row[0]: row[1] for row in connection.execute(query.group_by(table.c.check_name))}


def _messages(connection: sa.Connection, heard: Mapping[str, datetime]) -> dict[str, str]:
    table = check_results
    query = sa.select(table.c.check_name, table.c.at, table.c.message).where(
        table.c.check_name.in_(heard), table.c.at.in_(set(heard.values()))
    )
    return {name: message for name, at, message in connection.execute(query) if heard[name] == at}


def _promises(read: Reading, end: datetime) -> tuple[Promise, ...]:
    found = slo.standing_in(read, end)
    spent = [one for one in found if one.budget and one.budget.remaining is not None and one.budget.spent]
    spent.sort(key=lambda one: (one.budget.remaining, one.objective.name) if one.budget else (0.0, ""))
    least = {one.objective.name for one in spent[:BURNED_DOWN]}
    return tuple(
        Promise(one, _burned_down(read, one) if one.objective.name in least else ()) for one in found
    )


def _burned_down(read: Reading, standing: Standing) -> tuple[float, ...]:
    """What was left of the whole window's budget, from its beginning (1.0) to now."""
    one, budget = standing.objective, standing.budget
    if budget is None or not budget.total:
        return ()
    start = standing.at - one.window
    found = read.spans(one.checks, start, standing.at).values()
    cuts = found if one.exclude_maintenance else [ledger.unmasked(cut) for cut in found]
    down = [span for cut in cuts for span in cut if span.state is State.DOWN]
    moments = [start + one.window * n / POINTS for n in range(POINTS + 1)]
    gone = [
        sum((max(ledger.NOTHING, min(span.end, until) - span.start) for span in down), ledger.NOTHING)
        for until in moments
    ]
    return tuple(1 - spent / budget.total for spent in gone)
