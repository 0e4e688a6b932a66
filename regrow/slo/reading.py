"""Accounts, spans and latencies of any stretch of time: sums where there are any, results at the edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from regrow.engine import Engine
from regrow.latency_buckets import Buckets, bucket_of, merged
from regrow.slo import ledger, store
from regrow.slo.ledger import NOTHING, Ledger, Span, State
from regrow.slo.masks import Masks
from regrow.slo.rolled import (
    DAY,
    HOUR,
    MINUTE,
    Marks,
    ceiled,
    floored,
    overlap,
    plan,
    without_gaps,
)

STEPS = {"day": DAY, "hour": HOUR, "minute": MINUTE}
_CHECKS_AT_ONCE = 500


@dataclass
class Reading:
    """What one reading knows of the roll-up; for one answer. ``now``: when it was begun."""

    engine: Engine
    connection: sa.Connection
    marks: Marks
    first: dict[str, datetime]
    pauses: store.Pauses
    masks: Masks
    parts: dict[tuple[str, datetime, datetime], dict[str, Ledger | None]] = field(default_factory=dict)

    def accounts(self, names: Sequence[str], start: datetime, end: datetime) -> dict[str, Ledger]:
        """The account of each check over ``[start, end)``; of one that nobody knows all is unknown."""
        found: dict[str, Ledger] = {}
        for level, begins, ends in plan(start, end, self.marks):
            for name, account in self._part(level, names, begins, ends).items():
                found[name] = found[name] + account if name in found else account
        return {
            name: without_gaps(found.get(name, Ledger()), start, end, self._paused(name, start, end))
            for name in names
        }

    def young(self, name: str, start: datetime, end: datetime) -> timedelta:
        """How much of ``[start, end)`` lies before the check's first result; nothing of one without any."""
        first = self.first.get(name)
        return NOTHING if first is None else max(min(first, end) - start, NOTHING)

    def spans(self, names: Sequence[str], start: datetime, end: datetime) -> dict[str, tuple[Span, ...]]:
        """The spans of each check over ``[start, end)``: stored ones, and those of results not yet closed."""
        middle = min(max(self.marks.hours, start), end)
        recent = self._recent_spans(names, middle, end)
        stored = store.spans(self.connection, names, floored(start, DAY), middle) if start < middle else {}
        found = {}
        for name in names:
            known = [span for span in stored.get(name, ()) if span.end > start]
            cut = ledger.clipped([*known, *recent.get(name, ())], start, end)
            found[name] = ledger.masked(cut, self._pause_masks(name, start, end))
        return found

    def latencies(self, names: Sequence[str], start: datetime, end: datetime) -> dict[str, Buckets]:
        """The latencies of the probes that found a check up; edges finer than kept sums are left out."""
        parts: dict[str, list[Buckets]] = {name: [] for name in names}
        for level, begins, ends in plan(start, end, self.marks):
            if level in STEPS:
                for name, told in store.latencies(self.connection, STEPS[level], names, begins, ends).items():
                    parts[name].append(told)
            elif level == "raw":
                for name, samples in store.samples(self.connection, names, begins, ends).items():
                    parts[name] += [
                        {bucket_of(sample.latency): 1}
                        for sample in samples
                        if sample.at >= begins and sample.state in {State.UP, State.DEGRADED}
                    ]
        return {name: merged(found) for name, found in parts.items()}

    def _part(self, level: str, names: Sequence[str], start: datetime, end: datetime) -> dict[str, Ledger]:
        """The account of a part of a plan, of the checks that have any; windows that end now share their
        last ones."""
        held = self.parts.setdefault((level, start, end), {})
        for some in _chunks([name for name in names if name not in held]):
            found = self._read(level, some, start, end)
            held.update((name, found.get(name)) for name in some)
        return {name: account for name in names if (account := held[name]) is not None}

    def _read(self, level: str, names: Sequence[str], start: datetime, end: datetime) -> dict[str, Ledger]:
        if level in STEPS:
            return store.sums(self.connection, STEPS[level], names, start, end)
        if level == "span":
            stored = store.spans(self.connection, names, floored(start, DAY), end)
            return {
                name: ledger.account(ledger.clipped(cut, start, end), (), start, end)
                for name, cut in stored.items()
                if cut
            }
        found = store.samples(self.connection, names, start, end)
        return {name: ledger.ledger(found[name], start, end, self._masks(name, start, end)) for name in names}

    def _recent_spans(
        self, names: Sequence[str], start: datetime, end: datetime
    ) -> dict[str, tuple[Span, ...]]:
        """What is not in stored spans yet. A check whose minutes are all of one state has one span of them,
        so that the results of those that changed alone are read."""
        first, last = ceiled(start, MINUTE), floored(min(end, self.marks.minutes), MINUTE)
        if first >= last or first < self.marks.fine:
            return self._raw_spans(names, start, end)
        steady = {
            name: state
            for name, account in self._part("minute", names, first, last).items()
            if (state := account.steady_over(last - first)) is not None
        }
        found = self._raw_spans([name for name in names if name not in steady], start, end)
        before, after = self._raw_spans([*steady], start, first), self._raw_spans([*steady], last, end)
        for name, state in steady.items():
            found[name] = (*before.get(name, ()), Span(first, last, state), *after.get(name, ()))
        return found

    def _raw_spans(self, names: Sequence[str], start: datetime, end: datetime) -> dict[str, tuple[Span, ...]]:
        if start >= end or not names:
            return {}
        found = store.samples(self.connection, names, start, end)
        return {name: ledger.spans(found[name], start, end, self._masks(name, start, end)) for name in names}

    def _masks(self, name: str, start: datetime, end: datetime) -> list[ledger.Mask]:
        return self.masks.of(name, start, end, self.first.get(name), self.pauses.get(name, []))

    def _pause_masks(self, name: str, start: datetime, end: datetime) -> list[ledger.Mask]:
        return [
            ledger.Mask(begins, ends, State.PAUSED)
            for begins, ends in self._pauses_of(name, end)
            if begins < end and ends > start
        ]

    def _paused(self, name: str, start: datetime, end: datetime) -> timedelta:
        return overlap(self._pauses_of(name, end), start, end)

    def _pauses_of(self, name: str, end: datetime) -> list[tuple[datetime, datetime]]:
        """When it was switched off, and all the time before its first result."""
        found = [(begins, end if ends is None else ends) for begins, ends in self.pauses.get(name, [])]
        first = self.first.get(name)
        return found if first is None else [(first - timedelta(days=3660), first), *found]


def reading(engine: Engine, connection: sa.Connection, now: datetime) -> Reading:
    """Begin to read. ``connection`` is a snapshot's."""
    there = store.progress(connection)
    settings = engine.settings
    raw = now - timedelta(days=settings.health.retention_days)
    marks = Marks(
        minutes=there.minutes_until if there else raw,
        hours=there.hours_until if there else raw,
        raw=raw,
        fine=ceiled(now - timedelta(days=settings.slo.minutes_days), MINUTE),
        hourly=ceiled(now - timedelta(days=settings.slo.hours_days), HOUR),
    )
    return Reading(
        engine,
        connection,
        marks,
        store.known(connection) if there else store.earliest(connection),
        store.pauses(connection),
        Masks(engine),
    )


def with_youth(
    read: Reading, found: Mapping[str, Ledger], start: datetime, end: datetime
) -> dict[str, Ledger]:
    """The accounts of ``[start, end)``, with how much of it lies before the first result of each."""
    return {name: replace(one, young=read.young(name, start, end)) for name, one in found.items()}


def _chunks(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[n : n + _CHECKS_AT_ONCE] for n in range(0, len(names), _CHECKS_AT_ONCE)]
