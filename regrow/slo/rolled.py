"""Spans and samples of one check added up by minute or hour. Pure.

A bucket's sums are made from all of its time at once and overwrite what was there; nothing is ever added to
them. So the same results make the same rows, in whatever order and however often they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from regrow.latency_buckets import Buckets, bucket_of, merged
from regrow.slo.ledger import NOTHING, Ledger, Sample, Span, State, account, joined

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Rolled:
    """The sums of the bucket that begins at ``at``. ``latency``: of the probes that found it up."""

    at: datetime
    account: Ledger
    latency: Buckets = field(default_factory=dict)


def rolled(
    cut: Sequence[Span], samples: Iterable[Sample], start: datetime, end: datetime, step: timedelta
) -> list[Rolled]:
    """``[start, end)`` in buckets of ``step``, from the spans that fill it and the samples in it."""
    count = -(-(end - start) // step)
    parts: list[list[Span]] = [[] for _ in range(count)]
    for span in cut:
        for index in range((span.start - start) // step, -(-(span.end - start) // step)):
            parts[index].append(span)
    probes: list[list[Sample]] = [[] for _ in range(count)]
    for sample in samples:
        if start <= sample.at < end:
            probes[(sample.at - start) // step].append(sample)
    return [
        _bucket(parts[n], probes[n], start + n * step, min(start + (n + 1) * step, end)) for n in range(count)
    ]


def _bucket(parts: Iterable[Span], probes: Sequence[Sample], start: datetime, end: datetime) -> Rolled:
    cut = [_within(span, start, end) for span in parts]
    aside = [span for span in cut if span.state is State.MAINTENANCE]
    latency: dict[int, int] = {}
    for sample in probes:
        if sample.state in _SILENT or sample.latency < 0:
            continue
        if not any(span.start <= sample.at < span.end for span in aside):
            bucket = bucket_of(sample.latency)
            latency[bucket] = latency.get(bucket, 0) + 1
    return Rolled(start, account(cut, probes, start, end), latency)


_SILENT = {State.UNKNOWN, State.DOWN}


def _within(span: Span, start: datetime, end: datetime) -> Span:
    if start <= span.start and span.end <= end:
        return span
    return Span(max(span.start, start), min(span.end, end), span.state, span.beneath)


def day_of(hours: Sequence[Rolled], day: datetime, first: datetime) -> Rolled:
    """A day from its hours. One that is missing was paused before the ``first`` result, unknown after it."""
    total = Ledger()
    for hour in hours:
        total += hour.account
    missing = DAY - total.window
    before = min(max(floored(first, HOUR) - day, NOTHING), missing)
    total += Ledger(unknown=missing - before, paused=before)
    return Rolled(day, total, merged(hour.latency for hour in hours))


def spliced(day: Iterable[Span], new: Sequence[Span], start: datetime, end: datetime) -> tuple[Span, ...]:
    """The spans of a day with those of ``[start, end)`` in place of what they said of it."""
    kept = [
        part
        for span in day
        for part in (
            Span(span.start, min(span.end, start), span.state, span.beneath),
            Span(max(span.start, end), span.end, span.state, span.beneath),
        )
        if part.start < part.end
    ]
    return joined([*kept, *new])


def floored(moment: datetime, step: timedelta) -> datetime:
    """The beginning of the bucket that a moment is in; days are those of UTC."""
    return moment - (moment - _EPOCH.replace(tzinfo=moment.tzinfo)) % step


def ceiled(moment: datetime, step: timedelta) -> datetime:
    """The moment itself where a bucket begins, else the beginning of the next."""
    below = floored(moment, step)
    return below if below == moment else below + step


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - takes the zone of what it is compared to, UTC everywhere here


@dataclass(frozen=True, slots=True)
class Marks:
    """How far results are rolled up: ``minutes`` and ``hours`` are complete until then, but for late data.

    ``raw``, ``fine`` and ``hourly``: since when results, sums by minute and sums by hour are surely kept.
    """

    minutes: datetime
    hours: datetime
    raw: datetime
    fine: datetime
    hourly: datetime


Level = str
"""``day``, ``hour`` and ``minute`` sums, ``span`` for stored spans, ``raw`` for results themselves."""


def plan(start: datetime, end: datetime, marks: Marks) -> list[tuple[Level, datetime, datetime]]:
    """How to account for ``[start, end)``: the coarsest sums that lie within, finer ones at the edges."""
    return _days(start, end, marks)


def _days(start: datetime, end: datetime, marks: Marks) -> list[tuple[Level, datetime, datetime]]:
    first, last = ceiled(start, DAY), floored(min(end, marks.hours), DAY)
    if first >= last:
        return _hours(start, end, marks)
    return [*_hours(start, first, marks), ("day", first, last), *_hours(last, end, marks)]


def _hours(start: datetime, end: datetime, marks: Marks) -> list[tuple[Level, datetime, datetime]]:
    first, last = ceiled(max(start, marks.hourly), HOUR), floored(min(end, marks.hours), HOUR)
    if first >= last:
        return _minutes(start, end, marks)
    return [*_minutes(start, first, marks), ("hour", first, last), *_minutes(last, end, marks)]


def _minutes(start: datetime, end: datetime, marks: Marks) -> list[tuple[Level, datetime, datetime]]:
    first, last = ceiled(max(start, marks.fine), MINUTE), floored(min(end, marks.minutes), MINUTE)
    if first >= last:
        return _edge(start, end, marks)
    return [*_edge(start, first, marks), ("minute", first, last), *_edge(last, end, marks)]


def _edge(start: datetime, end: datetime, marks: Marks) -> list[tuple[Level, datetime, datetime]]:
    if start >= end:
        return []
    # What is not yet in stored spans is in the results alone, however old.
    level = "raw" if start >= marks.raw or end > marks.hours else "span"
    return [(level, start, end)]


def without_gaps(account: Ledger, start: datetime, end: datetime, paused: timedelta) -> Ledger:
    """An account filled up to its window: what no row tells of is unknown, or paused for at most so long."""
    missing = (end - start) - account.window
    if not missing:
        return account
    extra = min(max(paused - account.paused, NOTHING), missing)
    return account + Ledger(unknown=missing - extra, paused=extra)


def overlap(spans: Iterable[tuple[datetime, datetime]], start: datetime, end: datetime) -> timedelta:
    """How much of ``[start, end)`` is in the spans, which do not overlap each other."""
    return sum((max(NOTHING, min(b, end) - max(a, start)) for a, b in spans), NOTHING)
