"""What tasks, pages, alerts and the command line ask: accounts, how objectives stand, what burns.

Each answer is read at one moment, out of one snapshot. StoreUnavailableError when the database is away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from regrow.database.tables import check_changes
from regrow.engine import Engine
from regrow.errors import RegrowError
from regrow.health.store import database_errors
from regrow.latency_buckets import Buckets
from regrow.slo import backtest as backtests
from regrow.slo import budget as budgets
from regrow.slo import burn, ledger, requests
from regrow.slo import objectives as rules
from regrow.slo.backtest import Backtest
from regrow.slo.budget import Cost
from regrow.slo.burn import TABLE, Burning, Remark
from regrow.slo.burning import LONGEST, REQUESTS, Burns, Outage, burning, burns
from regrow.slo.declared import objectives
from regrow.slo.ledger import Ledger, Span, State
from regrow.slo.objectives import BURNS, Objective, Standing
from regrow.slo.reading import Reading, reading, with_youth
from regrow.slo.reported import ReportedMinutes
from regrow.slo.requests import RequestMinute
from regrow.slo.rolled import DAY, HOUR, MINUTE, floored

__all__ = [
    "LONGEST",
    "Backtest",
    "Burning",
    "Burns",
    "Cost",
    "ObjectiveError",
    "Outage",
    "Remark",
    "Standing",
    "Strip",
    "account",
    "accounts",
    "backtest",
    "burning",
    "burns",
    "costs",
    "latency",
    "lint",
    "objectives",
    "spans",
    "standing",
    "standing_in",
    "strips",
]

BACK = timedelta(days=30)
"""How far a back-test looks back."""
BUCKETS = 90


class ObjectiveError(RegrowError):
    """There is no such objective, or it is none of which this can be said; the message says which."""


def account(engine: Engine, check: str, start: datetime, end: datetime) -> Ledger:
    """Where the time of a check went over ``[start, end)`` (aware)."""
    return accounts(engine, [check], start, end)[check]


def accounts(engine: Engine, checks: Sequence[str], start: datetime, end: datetime) -> dict[str, Ledger]:
    """The same of several, at the cost of about one; of one that nobody knows all is unknown."""
    with _reading(engine, engine.clock()) as read:
        return read.accounts(checks, start, end)


def spans(
    engine: Engine, checks: Sequence[str], start: datetime, end: datetime
) -> dict[str, tuple[Span, ...]]:
    """The stretches of one state each that fill ``[start, end)``, of each check."""
    with _reading(engine, engine.clock()) as read:
        return read.spans(checks, start, end)


def latency(engine: Engine, check: str, start: datetime, end: datetime) -> Buckets:
    """The latencies of the probes that found a check up, for ``regrow.latency_buckets.percentile``."""
    with _reading(engine, engine.clock()) as read:
        return read.latencies([check], start, end)[check]


def standing(engine: Engine, now: datetime, names: Collection[str] | None = None) -> list[Standing]:
    """How objectives stand (all, or these), in order of their names.

    Their windows end now and begin with an hour (shorter ones with a minute), so that 30 days may be an hour
    longer.
    """
    with _reading(engine, now) as read:
        return standing_in(read, now, names)


def standing_in(read: Reading, now: datetime, names: Collection[str] | None = None) -> list[Standing]:
    """The same within a reading that has begun, which may know some of it already."""
    engine = read.engine
    wanted = [
        one for name, one in sorted(objectives(engine.settings).items()) if names is None or name in names
    ]
    told = _availability(read, [one for one in wanted if one.kind == "availability"], now)
    told |= {
        one.name: rules.of_requests(one, now, _measured(engine, one, now))
        for one in wanted
        if one.kind != "availability"
    }
    return [told[one.name] for one in wanted]


def _availability(read: Reading, wanted: Sequence[Objective], now: datetime) -> dict[str, Standing]:
    lengths = {one.window for one in wanted}
    recent = {length: _sums(read, wanted, now, length) for length in {*BURNS, *lengths}}
    return {
        one.name: rules.of_availability(
            one, now, recent[one.window][one.name], {length: recent[length][one.name] for length in BURNS}
        )
        for one in wanted
    }


def _sums(read: Reading, wanted: Sequence[Objective], now: datetime, length: timedelta) -> dict[str, Ledger]:
    """The account of each objective's checks together, over the time until now."""
    start = floored(now - length, HOUR if length >= DAY else MINUTE)
    names = sorted({check for one in wanted for check in one.checks})
    found = with_youth(read, read.accounts(names, start, now), start, now)
    return {one.name: rules.summed(found[check] for check in one.checks) for one in wanted}


def costs(engine: Engine, checks: Collection[str], start: datetime, end: datetime) -> list[Cost]:
    """What the downtime of these checks in ``[start, end)`` took of every objective that is about one."""
    wanted = [
        one
        for one in objectives(engine.settings).values()
        if one.kind == "availability" and set(one.checks) & set(checks)
    ]
    found = []
    with _reading(engine, engine.clock()) as read:
        for one in sorted(wanted, key=lambda one: one.name):
            begins = end - one.window
            whole = with_youth(read, read.accounts(one.checks, begins, end), begins, end)
            those = [check for check in one.checks if check in checks]
            spent = one.counted(rules.summed(read.accounts(those, max(start, begins), end).values()))
            total = budgets.budget(one.counted(rules.summed(whole.values())), one.target).total
            found.append(Cost(one.name, one.target, one.window, spent.down, total))
    return found


def _measured(engine: Engine, one: Objective, now: datetime) -> requests.Measured | None:
    start = now - one.window
    minutes: list[RequestMinute] = ReportedMinutes(engine.database).minutes(one.service, start, now)
    if not minutes:
        return None
    end = max(start, requests.told_until(now))
    if one.kind == "latency":
        return requests.latency(minutes, start, end, one.target, one.limit or 0.0)
    if one.kind == "error_rate":
        return requests.error_rate(minutes, start, end, one.target)
    assert one.hours is not None  # noqa: S101 - settings see to it
    return requests.throughput(
        minutes, requests.peak_hours(one.hours, one.zone, start, end), one.limit or 0.0
    )


def lint(engine: Engine) -> list[Remark]:
    """What is amiss with the burn rules of the objectives that were declared, and with their data."""
    found = [one for one in objectives(engine.settings).values() if one.declared]
    empty = [
        Remark(one.name, "refused", None, "all its checks are switched off: nothing will ever be known of it")
        for one in found
        if one.kind == "availability" and not one.checks
    ]
    told = [one.promise for one in found if one.kind == "availability" and one.checks]
    of_requests = [one.promise for one in found if one.kind in REQUESTS]
    return [*empty, *burn.lint(told), *(r for r in burn.lint(of_requests) if r.level == "refused")]


def backtest(engine: Engine, now: datetime, names: Collection[str] | None = None) -> list[Backtest]:
    """What the burn rules would have said over the last 30 days, of objectives of availability by name."""
    start = now - BACK
    found = []
    with _reading(engine, now) as read:
        for name, one in sorted(objectives(engine.settings).items()):
            if one.kind != "availability" or (names is not None and name not in names):
                continue
            parts = read.spans(one.checks, start - _BEFORE, now)
            cuts = parts if one.exclude_maintenance else {c: ledger.unmasked(s) for c, s in parts.items()}
            confirmed = _confirmed_spans(read.connection, one.checks, now)
            found.append(backtests.backtest(one.promise, tuple(cuts.values()), confirmed, start, now))
    return found


_BEFORE = max(rule.long for rule in TABLE)
"""The first look of a back-test looks back as well."""


def _confirmed_spans(
    connection: sa.Connection, names: Sequence[str], now: datetime
) -> list[tuple[datetime, datetime]]:
    """When a check was confirmed down, as its changes tell."""
    table = check_changes
    query = (
        sa.select(table.c.check_name, table.c.at, table.c.to_status)
        .where(table.c.check_name.in_(names), table.c.kind == "status")
        .order_by(table.c.check_name, table.c.number)
    )
    found: list[tuple[datetime, datetime]] = []
    began: dict[str, datetime] = {}
    for name, at, status in connection.execute(query):
        if name in began:
            found.append((began.pop(name), at))
        if status == "unhealthy":
            began[name] = at
    return [*found, *((at, now) for at in began.values())]


@dataclass(frozen=True)
class Strip:
    """The window of an objective in 90 parts, each in the worst state that any of its checks saw."""

    start: datetime
    end: datetime
    states: tuple[State, ...]


def strips(engine: Engine, now: datetime, names: Collection[str] | None = None) -> Mapping[str, Strip]:
    """Strips of objectives of availability, by name."""
    found = {}
    with _reading(engine, now) as read:
        for name, one in objectives(engine.settings).items():
            if one.kind != "availability" or not one.checks or (names is not None and name not in names):
                continue
            start = now - one.window
            cuts = read.spans(one.checks, start, now).values()
            parts = [ledger.strip(cut, start, now, BUCKETS) for cut in cuts]
            worst = tuple(min(states, key=ledger.WORST_FIRST.index) for states in zip(*parts, strict=True))
            found[name] = Strip(start, now, worst)
    return found


@contextmanager
def _reading(engine: Engine, now: datetime) -> Iterator[Reading]:
    with database_errors(), engine.database.snapshot() as connection:
        yield reading(engine, connection, now)
