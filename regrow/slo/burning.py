"""What burns now: the rules of ``burn`` over every objective that has a budget, and which outage spent it.

Availability spends time, ``error_rate`` requests that failed, ``latency`` those that were too slow.
Throughput is an average over peak hours and has no budget.

An outage *spent* what a rule fires for when its own downtime would have been enough for the long window, and
what is bad in the short window beside such outages would not be. Then the rule says nothing that the outage
did not; several small ones that fire it together have not been told by any of them. What has just begun to
fail counts when it is confirmed, or over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from regrow.database.tables import check_states
from regrow.engine import Engine
from regrow.health.store import database_errors
from regrow.slo import burn, requests, store
from regrow.slo import objectives as rules
from regrow.slo.budget import bad_share_burn
from regrow.slo.burn import TABLE, Burning, Spent
from regrow.slo.declared import objectives
from regrow.slo.ledger import NOTHING, Ledger, Span, State
from regrow.slo.objectives import Objective
from regrow.slo.reading import Reading, reading, with_youth
from regrow.slo.reported import ReportedMinutes
from regrow.slo.requests import RequestMinute

REQUESTS = frozenset({"error_rate", "latency"})
LONGEST = max(rule.long for rule in TABLE)
"""How far any rule looks back."""
_REACH = max(rule.short for rule in TABLE)
_LATEST = min(rule.short for rule in TABLE)


@dataclass(frozen=True)
class Outage:
    """A stretch of time that is told by something else, under that name."""

    name: str
    start: datetime
    end: datetime


OutagesOf = Callable[[Objective], Sequence[Outage]]


@dataclass(frozen=True)
class Burns:
    """The rules that fire, of each objective the most severe first; objectives of which nothing is heard."""

    firing: tuple[Burning, ...]
    unknown: tuple[str, ...]


def burning(engine: Engine, now: datetime) -> list[Burning]:
    """Every burn rule that fires, of each objective the most severe first.

    A page of availability needs a check that is confirmed down; see ``regrow.slo.burn``.
    """
    return list(burns(engine, now, lambda _one: ()).firing)


def burns(engine: Engine, now: datetime, outages: OutagesOf) -> Burns:
    """The same, with the outage that spent each, and with what is not known.

    ``outages``: those that an objective may have been spent by; asked only of those that burn.
    StoreUnavailableError when the database is away.
    """
    wanted = objectives(engine.settings).values()
    of_time = [one for one in wanted if one.kind == "availability" and one.checks]
    of_requests = [one for one in wanted if one.kind in REQUESTS]
    with database_errors(), engine.database.snapshot() as connection:
        firing, unknown = _of_time(reading(engine, connection, now), of_time, now, outages)
    telling = _Telling(engine, now)
    for one in of_requests:
        found = _of_requests(telling, one, outages)
        if found is None:
            unknown.append(one.name)
        else:
            firing += found
    return Burns(tuple(firing), tuple(unknown))


# Time


def _of_time(
    read: Reading, wanted: Sequence[Objective], now: datetime, outages: OutagesOf
) -> tuple[list[Burning], list[str]]:
    names = sorted({check for one in wanted for check in one.checks})
    marks = read.marks
    bad = store.with_downtime(read.connection, names, now - _REACH, marks.hours, marks.minutes)
    bad |= _down_since(read, names, max(marks.minutes, now - _REACH), now)
    states = _states(read.connection)
    heard = [one for one in wanted if any(_is_heard(states.get(check), one, now) for check in one.checks)]
    # Of the others there is nothing that a short window could hold.
    suspect = [one for one in heard if bad.intersection(one.checks)]
    accounts = _Accounts(read, suspect)
    firing: list[Burning] = []
    for one in suspect:
        confirmed = any(states[c].status == "unhealthy" for c in one.checks if c in states)
        account = _Time(accounts, one, now)
        found = burn.firing(one.promise, account.over, confirmed_down=confirmed)
        fresh = [] if confirmed or not found else account.fresh()
        firing += _attributed(found, account.bad_share, one, now, outages, fresh)
    known = {one.name for one in heard}
    return firing, [one.name for one in wanted if one.name not in known]


class _Accounts:
    """What is read for several objectives at once: many fail together, and ask for the same windows."""

    def __init__(self, read: Reading, wanted: Sequence[Objective]) -> None:
        self._read = read
        self._names = sorted({check for one in wanted for check in one.checks})
        self._found: dict[tuple[datetime, datetime], dict[str, Ledger]] = {}
        self._spans: dict[str, tuple[Span, ...]] | None = None
        self._reach = max((one.interval * (one.failures + 1) for one in wanted), default=0.0)

    def of(self, one: Objective, start: datetime, end: datetime) -> Ledger:
        if (start, end) not in self._found:
            found = self._read.accounts(self._names, start, end)
            self._found[start, end] = with_youth(self._read, found, start, end)
        parts = self._found[start, end]
        return one.counted(rules.summed(parts[check] for check in one.checks))

    def latest(self, one: Objective, now: datetime) -> list[Span]:
        """The span that each of its checks is in."""
        if self._spans is None:
            since = now - timedelta(seconds=self._reach) - requests.MINUTE
            self._spans = self._read.spans(self._names, since, now)
        return [cut[-1] for check in one.checks if (cut := self._spans[check])]


@dataclass
class _Time:
    """The time of an objective until now."""

    accounts: _Accounts
    one: Objective
    now: datetime

    def over(self, length: timedelta) -> Ledger:
        return self.accounts.of(self.one, self.now - length, self.now)

    def bad_share(self, length: timedelta, start: datetime, end: datetime) -> float:
        """The part of the last ``length`` that was down within ``[start, end)``, of what counts of it."""
        begins = max(start, self.now - length)
        whole = self.over(length).promised
        return self.accounts.of(self.one, begins, end).down / whole if begins < end and whole else 0.0

    def fresh(self) -> list[Outage]:
        """What has just begun to fail: it will be confirmed, and told as that, or be over, and count then."""
        lasts = (self.one.failures + 1) * timedelta(seconds=self.one.interval)
        begun = [s.start for s in self.accounts.latest(self.one, self.now) if s.state is State.DOWN]
        return [Outage("", start, self.now) for start in begun if self.now - start < lasts]


def _down_since(read: Reading, names: Sequence[str], start: datetime, now: datetime) -> set[str]:
    """The checks with downtime that is not rolled up yet."""
    return {
        name
        for name, cut in read.spans(names, start, now).items()
        if any(State.DOWN in {span.state, span.beneath} for span in cut)
    }


@dataclass(frozen=True)
class _State:
    status: str
    at: datetime


def _states(connection: sa.Connection) -> Mapping[str, _State]:
    c = check_states.c
    return {name: _State(*row) for name, *row in connection.execute(sa.select(c.check_name, c.status, c.at))}


def _is_heard(state: _State | None, one: Objective, now: datetime) -> bool:
    """Whether a check says anything now: a result, and one that holds."""
    lasts = max(2 * timedelta(seconds=one.interval), _LATEST)
    return state is None or (state.status != "unknown" and now - state.at <= lasts)


# Requests


class _Telling:
    """What applications told, read once for all objectives of a service, and as far back as is wanted."""

    def __init__(self, engine: Engine, now: datetime) -> None:
        self._source = ReportedMinutes(engine.database)
        self._read: dict[str, tuple[timedelta, list[RequestMinute]]] = {}
        self.until = requests.told_until(now)

    def minutes(self, service: str, length: timedelta) -> list[RequestMinute]:
        """Those of the last ``length``."""
        reach, found = self._read.get(service, (NOTHING, []))
        if reach < length:
            reach = _LATEST if length <= _LATEST else _REACH if length <= _REACH else LONGEST
            found = self._source.minutes(service, self.until - reach, self.until)
            self._read[service] = reach, found
        return [one for one in found if one.minute >= self.until - length]


def _of_requests(telling: _Telling, one: Objective, outages: OutagesOf) -> list[Burning] | None:
    """None: its service has told nothing of late."""
    if not telling.minutes(one.service, _LATEST):
        return None
    account = _Requests(telling, one)
    found = burn.fires(one.promise, account.spent)
    return _attributed(found, account.bad_share, one, telling.until, outages)


@dataclass
class _Requests:
    """The requests of an objective's service until now."""

    telling: _Telling
    one: Objective

    def spent(self, length: timedelta) -> Spent:
        return burn.of_requests(
            *self._counted(self.telling.minutes(self.one.service, length)), self.one.target
        )

    def bad_share(self, length: timedelta, start: datetime, end: datetime) -> float:
        """The share of the last ``length``'s requests that were bad in the minutes of ``[start, end)``."""
        minutes = self.telling.minutes(self.one.service, length)
        _bad, whole = self._counted(minutes)
        within = [one for one in minutes if start - requests.MINUTE < one.minute < end]
        return self._counted(within)[0] / whole if whole else 0.0

    def _counted(self, minutes: Sequence[RequestMinute]) -> tuple[int, int]:
        limit = self.one.limit if self.one.kind == "latency" else None
        parts = [requests.spending(minute, limit) for minute in minutes]
        return sum(bad for bad, _ in parts), sum(total for _, total in parts)


# Which outage spent it

BadShare = Callable[[timedelta, datetime, datetime], float]


def _attributed(
    found: Sequence[Burning],
    bad_share: BadShare,
    one: Objective,
    now: datetime,
    outages: OutagesOf,
    fresh: Sequence[Outage] = (),
) -> list[Burning]:
    """Those that fire without what is fresh, with the outages that spent them."""
    kept = [rule for rule in found if not fresh or _burns_beside(rule, one.target, fresh, bad_share, now)]
    told = outages(one) if kept else ()
    return [replace(rule, spent_by=spent_by(rule, one.target, told, bad_share, now, fresh)) for rule in kept]


def spent_by(
    found: Burning,
    target: float,
    outages: Sequence[Outage],
    bad_share: BadShare,
    now: datetime,
    fresh: Sequence[Outage] = (),
) -> str | None:
    """The name of the latest outage that alone is enough for what fires, if nothing else still burns.

    ``bad_share(length, start, end)``: of the last ``length``, the share that was bad within these times.
    ``fresh``: what does not count as still burning.
    """

    def suffices(outage: Outage) -> bool:
        share = bad_share(found.rule.long, outage.start, min(outage.end, now))
        return bad_share_burn(share, target) > found.factor

    enough = [outage for outage in outages if suffices(outage)]
    if not enough or _burns_beside(found, target, [*enough, *fresh], bad_share, now):
        return None
    return max(enough, key=lambda outage: (outage.end, outage.start)).name


def _burns_beside(
    found: Burning, target: float, outages: Sequence[Outage], bad_share: BadShare, now: datetime
) -> bool:
    """Whether the short window would still be enough without these."""
    times = _together(outages, now)
    inside = sum(bad_share_burn(bad_share(found.rule.short, *span), target) for span in times)
    return found.short_burn - inside > found.factor * (1 + 1e-9)  # sums of shares differ in their last bits


def _together(outages: Sequence[Outage], now: datetime) -> list[tuple[datetime, datetime]]:
    """Their times until now, none twice."""
    found: list[tuple[datetime, datetime]] = []
    for start, end in sorted((one.start, min(one.end, now)) for one in outages):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found
