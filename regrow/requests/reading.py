"""How a service answered its requests over a window: what objectives, alerts, reports and pages read.

A minute of which nobody told is *unknown*: it is missing from ``heard`` and counts for nothing else, least of
all as one without failures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from regrow import latency_buckets
from regrow.database import Database
from regrow.requests import store
from regrow.requests.store import HOUR, MINUTE, Rollup

SETTLED = timedelta(seconds=60)
"""After its end, a minute is kept by then (the apps tell every 5 s, the job folds every 30 s)."""
_SHORT = timedelta(hours=3)
"""Windows up to here are read by the minute."""


@dataclass(frozen=True)
class Throughput:
    """Requests in an hour (UTC), or in what the window holds of it. ``heard``: minutes told of."""

    starts_at: datetime
    count: int
    heard: int

    @property
    def per_second(self) -> float:
        """Over the minutes that were heard of."""
        return self.count / (self.heard * 60) if self.heard else 0.0


@dataclass(frozen=True)
class Window:
    """The requests of a service from ``since`` until ``until`` (exclusive, whole minutes, UTC).

    ``count`` of them, ``failed`` of these; ``buckets``: how long those took that reached the application
    (:mod:`regrow.latency_buckets`); ``heard``: minutes in which the service told anything; ``hours``: in the
    order of time, those it told anything of.
    """

    service: str
    since: datetime
    until: datetime
    count: int = 0
    failed: int = 0
    heard: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)
    hours: tuple[Throughput, ...] = ()

    @property
    def minutes(self) -> int:
        """How many minutes the window has."""
        return round((self.until - self.since).total_seconds() / 60)

    @property
    def coverage(self) -> float:
        """The share of the window that is known, 0 to 1."""
        return self.heard / self.minutes if self.minutes else 0.0

    @property
    def failure_rate(self) -> float | None:
        """Failed requests of all, 0 to 1; None when there were none, or nothing is known."""
        return self.failed / self.count if self.count else None

    @property
    def per_second(self) -> float | None:
        """Requests a second over the minutes that are known; None when none is."""
        return self.count / (self.heard * 60) if self.heard else None

    def percentile(self, share: float) -> float | None:
        """Seconds within which this share (0.95) of the requests was answered; None without a request."""
        return latency_buckets.percentile(self.buckets, share)

    def busiest(self, number: int = 3) -> list[Throughput]:
        """The peak hours, busiest first."""
        return sorted(self.hours, key=lambda hour: (-hour.per_second, hour.starts_at))[:number]


def window(
    database: Database, service: str, since: datetime, until: datetime, *, route: str | None = None
) -> Window:
    """The window of one service, or of one of its routes (the name of a breaker that guards paths).

    Both ends are rounded down to whole minutes. StoreUnavailableError without the database.
    """
    found = windows(database, since, until, services=[service], route=route)
    return found.get(service) or Window(service, *_whole_minutes(since, until))


def windows(
    database: Database,
    since: datetime,
    until: datetime,
    *,
    services: Sequence[str] | None = None,
    route: str | None = None,
) -> dict[str, Window]:
    """The windows of all services that told anything in this time, or of these; by service."""
    since, until = _whole_minutes(since, until)
    parts: dict[str, list[Rollup]] = {}
    for rollup in _rollups(database, since, until, services, route):
        parts.setdefault(rollup.service, []).append(rollup)
    return {service: _window(service, since, until, told, route) for service, told in sorted(parts.items())}


def lately(database: Database, now: datetime, span: timedelta) -> dict[str, Window]:
    """The windows of all services over the last ``span`` of which everything is told by now."""
    until = now - SETTLED
    return windows(database, until - span, until)


def services(database: Database, since: datetime) -> list[str]:
    """Services whose requests were heard of since then."""
    return store.services(database, since)


def _whole_minutes(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    begins, ends = (at.astimezone(UTC).replace(second=0, microsecond=0) for at in (since, until))
    return begins, ends


def _rollups(
    database: Database, since: datetime, until: datetime, services: Sequence[str] | None, route: str | None
) -> list[Rollup]:
    """Minutes at the edges, and the hours in between as far as they are made."""
    if until - since <= _SHORT:
        return store.read(database, MINUTE, since, until, services, route)
    begins = since.replace(minute=0) + (timedelta(hours=1) if since.minute else timedelta())
    hours = store.read(database, HOUR, begins, until.replace(minute=0), services, route)
    made = hours[-1].starts_at + timedelta(hours=1) if hours else begins
    return [
        *store.read(database, MINUTE, since, begins, services, route),
        *hours,
        *store.read(database, MINUTE, made, until, services, route),
    ]


def _window(
    service: str, since: datetime, until: datetime, rollups: Sequence[Rollup], route: str | None
) -> Window:
    wanted = [one for one in rollups if route is None or one.route == route]
    return Window(
        service=service,
        since=since,
        until=until,
        count=sum(one.count for one in wanted),
        failed=sum(one.failed for one in wanted),
        heard=_heard(rollups),
        buckets=latency_buckets.merged(one.buckets for one in wanted),
        hours=_hours(rollups, wanted),
    )


def _heard(rollups: Iterable[Rollup]) -> int:
    """Minutes told of: each counts once, whatever routes it has."""
    return sum({(one.seconds, one.starts_at): one.heard for one in rollups}.values())


def _hours(rollups: Sequence[Rollup], wanted: Sequence[Rollup]) -> tuple[Throughput, ...]:
    hours: dict[datetime, list[Rollup]] = {}
    counts: dict[datetime, int] = {}
    for one in rollups:
        hours.setdefault(one.starts_at.replace(minute=0), []).append(one)
    for one in wanted:
        at = one.starts_at.replace(minute=0)
        counts[at] = counts.get(at, 0) + one.count
    return tuple(Throughput(at, counts.get(at, 0), _heard(parts)) for at, parts in sorted(hours.items()))
