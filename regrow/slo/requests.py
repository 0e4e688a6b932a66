"""Promises about requests: latency, error rate, throughput, from what applications report a minute at a time.

The port is :class:`RequestMinutes`; who fills it keeps one row a service and minute. A minute of which
nothing was reported is *unknown*: an application that runs and has no requests reports a row of zeros. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from regrow.latency_buckets import Buckets, longer_than, merged
from regrow.latency_buckets import percentile as percentile_of
from regrow.recurrence import span_on
from regrow.slo.ledger import SUFFICIENT

MINUTE = timedelta(minutes=1)
LAST_MINUTES = timedelta(minutes=2)
"""What applications reported of the last two minutes is still on its way."""


@dataclass(frozen=True)
class RequestMinute:
    """What the whole fleet of a service reported of one minute (its beginning, UTC).

    ``failed`` of ``count`` requests failed; ``latency`` holds one count for each request that was answered.
    """

    service: str
    minute: datetime
    count: int
    failed: int
    latency: Buckets = field(default_factory=dict)


class RequestMinutes(Protocol):
    """Where the minutes are kept."""

    def minutes(self, service: str, start: datetime, end: datetime) -> Iterable[RequestMinute]:
        """The minutes of ``[start, end)`` that something was reported of, each once, in any order.

        StoreUnavailableError when the store is away.
        """


@dataclass(frozen=True)
class Measured:
    """What was measured against what was promised. ``met`` is None while too little is known.

    ``value``: seconds (latency), share 0 to 1 (error rate) or requests a second (throughput); None without a
    request. ``coverage``: the share of minutes that something was reported of.
    """

    value: float | None
    promised: float
    met: bool | None
    coverage: float
    requests: int


def told_until(now: datetime) -> datetime:
    """Until when everything that will be reported is surely there: the beginning of a minute."""
    return now.replace(second=0, microsecond=0) - LAST_MINUTES


def latency(
    minutes: Iterable[RequestMinute], start: datetime, end: datetime, percentile: float, limit: float
) -> Measured:
    """Whether ``percentile`` (0 to 1) of all requests took less than ``limit`` seconds."""
    within = _within(minutes, [(start, end)])
    value = percentile_of(merged(m.latency for m in within), percentile)
    met = None if value is None else value < limit
    return _judged(value, limit, met, within, [(start, end)])


def error_rate(minutes: Iterable[RequestMinute], start: datetime, end: datetime, target: float) -> Measured:
    """Whether at least ``target`` of all requests (0 to 1) succeeded; ``promised`` is the rest."""
    within = _within(minutes, [(start, end)])
    count = sum(m.count for m in within)
    value = sum(m.failed for m in within) / count if count else None
    allowed = 1 - target
    met = None if value is None else value <= allowed + 1e-12
    return _judged(value, allowed, met, within, [(start, end)])


def spending(one: RequestMinute, limit: float | None) -> tuple[int, int]:
    """Bad requests of a minute, and all: those that failed, or those slower than ``limit`` seconds."""
    if limit is None:
        return one.failed, one.count
    return longer_than(one.latency, limit), sum(one.latency.values())


def throughput(
    minutes: Iterable[RequestMinute], peaks: Sequence[tuple[datetime, datetime]], rate: float
) -> Measured:
    """Whether ``rate`` requests a second were served on average over the peak hours that were reported of."""
    within = _within(minutes, peaks)
    count = sum(m.count for m in within)
    value = count / (len(within) * 60) if within else None
    met = None if value is None else value >= rate
    return _judged(value, rate, met, within, peaks)


def peak_hours(
    hours: tuple[time, time], zone: str, start: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    """The spans in UTC in which the clock of ``zone`` shows these hours, cut to ``[start, end)``.

    On days on which that clock is put forward or back they are shorter or longer, as the hours there are.
    """
    place = ZoneInfo(zone)
    first = start.astimezone(place).date() - timedelta(days=1)
    days = (end.astimezone(place).date() - first).days + 1
    spans = (span_on(first + timedelta(days=n), *hours, place) for n in range(days))
    cut = ((max(begins, start), min(ends, end)) for begins, ends in spans)
    return [(begins, ends) for begins, ends in cut if begins < ends]


def _within(
    minutes: Iterable[RequestMinute], spans: Sequence[tuple[datetime, datetime]]
) -> list[RequestMinute]:
    return [m for m in minutes if any(start <= m.minute < end for start, end in spans)]


def _judged(
    value: float | None,
    promised: float,
    met: bool | None,
    within: Sequence[RequestMinute],
    spans: Sequence[tuple[datetime, datetime]],
) -> Measured:
    expected = sum((end - start for start, end in spans), timedelta()) / MINUTE
    coverage = min(1.0, len({m.minute for m in within}) / expected) if expected else 0.0
    requests = sum(m.count for m in within)
    return Measured(value, promised, met if coverage >= SUFFICIENT else None, coverage, requests)
