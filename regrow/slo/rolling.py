"""Results turned into spans and sums: the job ``roll_up_results``.

A run makes the minutes that are over, then closes the hours whose end is ``slo.lateness`` seconds ago: their
sums, their spans, and with the last hour of a day the day. Results that came late are found by their ids, and
whatever they say something of is made anew. All of it is made from results at once and overwrites what was
there, so a run that died is simply done again, and an outage is caught up with.

Rows become visible out of the order of their ids, because a transaction that took its ids early may commit
late. So an id counts as looked at only when it was the newest ``LAG`` ago, and the last minutes are made anew
with each new one (``OVERLAP``, which is longer). Each step is a transaction that first locks the row of the
progress: of two workers one waits, and then sees what the other has done. Nothing is made anew whose results
may be deleted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog

from regrow.engine import Engine
from regrow.slo import ledger, store
from regrow.slo.ledger import Sample, Span
from regrow.slo.masks import Masks
from regrow.slo.rolled import DAY, HOUR, MINUTE, Rolled, ceiled, day_of, floored, rolled, spliced

logger = structlog.get_logger(__name__)

Told = Mapping[str, list[Sample]]
"""The samples of each check: those of some time, and the last one before it."""

LAG = timedelta(seconds=60)
OVERLAP = timedelta(minutes=3)
BUDGET = 45.0
"""Seconds after which a run begins no further step; the next one goes on."""
CHECKS_AT_ONCE = 200
LATE_AT_ONCE = 2_000
FORGOTTEN = timedelta(days=2)
"""A check that has been switched off for longer gets no more rows: that it is paused is known without."""


@dataclass
class Summary:
    """What a run did. ``behind``: seconds that the minutes lie behind; many when it did not finish."""

    minutes: int = 0
    hours: int = 0
    late: int = 0
    amended: int = 0
    too_late: int = 0
    behind: float = 0.0
    finished: bool = True

    def told(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "finished"}


def roll_up(engine: Engine, *, budget: float = BUDGET) -> Summary:
    """Roll up what there is. StoreUnavailableError when the database is away; nothing is lost by that."""
    run = _Run(engine, engine.clock(), time.monotonic() + budget)
    if not run.begin():
        return run.summary
    run.take_late()
    run.make_minutes()
    run.close_hours()
    run.summary.behind = max(0.0, (run.now - run.minutes_until).total_seconds())
    return run.summary


def prune(engine: Engine) -> dict[str, int]:
    """Delete spans and sums that are older than they are kept; how many of each table went."""
    kept, now = engine.settings.slo, engine.clock()
    return {
        "state_spans": store.prune(engine.database, None, now - timedelta(days=kept.spans_days)),
        "rollups_minute": store.prune(engine.database, MINUTE, now - timedelta(days=kept.minutes_days)),
        "rollups_hour": store.prune(engine.database, HOUR, now - timedelta(days=kept.hours_days)),
        "rollups_day": store.prune(engine.database, DAY, now - timedelta(days=kept.days_days)),
    }


@dataclass
class _Run:
    engine: Engine
    now: datetime
    stop_at: float
    summary: Summary = field(default_factory=Summary)
    minutes_until: datetime = field(init=False)
    newest: int = field(init=False)

    def begin(self) -> bool:
        """Meet new checks, note who is switched off; whether there is anything to roll up."""
        with self.engine.database.snapshot() as connection:
            there = store.progress(connection)
            self.newest = store.newest_id(connection)  # before the checks: none of its rows is of another
            earliest = store.earliest(connection)
        if there is None:
            if not earliest:
                return False
            first = min(earliest.values())
            store.begin(
                self.engine.database,
                store.Progress(
                    self.newest, self.newest, self.now, floored(first, MINUTE), floored(first, HOUR)
                ),
            )
        self.engine.database.run(lambda connection: self._meet(connection, earliest))
        self.masks = Masks(self.engine)
        return True

    def _meet(self, connection: sa.Connection, earliest: dict[str, datetime]) -> None:
        self._lock(connection)
        known = store.known(connection)
        new = {name: at for name, at in earliest.items() if name not in known or at < known[name]}
        if new:
            store.meet(connection, new)
        self.first = {**known, **new}
        running = {name for name, check in self.engine.settings.health.checks.items() if check.enabled}
        pauses = store.pauses(connection)
        off = {name for name, told in pauses.items() if told[-1][1] is None}
        store.pause(connection, {*self.first} - running - off, self.now)
        store.resume(connection, off & running, self.now)
        self.pauses = store.pauses(connection)

    def _lock(self, connection: sa.Connection) -> store.Progress:
        there = store.progress(connection, lock=True)
        if there is None:
            message = "the row of the roll-up's progress is gone"
            raise AssertionError(message)
        self.minutes_until = there.minutes_until
        return there

    def _in_time(self) -> bool:
        if time.monotonic() < self.stop_at:
            return True
        self.summary.finished = False
        return False

    @property
    def cutoff(self) -> datetime:
        """Results from here on are surely there."""
        return ceiled(self.now - timedelta(days=self.engine.settings.health.retention_days), HOUR)

    def _checks(self) -> list[str]:
        gone = {
            name
            for name, told in self.pauses.items()
            if told[-1][1] is None and self.now - told[-1][0] > FORGOTTEN
        }
        return sorted({*self.first} - gone)

    # Late results

    def take_late(self) -> None:
        after: int | None = 0
        while after is not None and self._in_time():
            after = self.engine.database.run(partial(self._some_late, after))

    def _some_late(self, after: int, connection: sa.Connection) -> int | None:
        """Take some in; the id to go on after, None: that was all."""
        there = self._lock(connection)
        after = max(there.seen_id, after)
        before = max(there.minutes_until - OVERLAP, there.hours_until)
        found = store.late(connection, after, self.newest, before, LATE_AT_ONCE)
        self.summary.late += len(found)
        for hour, names in sorted(self._hours_of(found, there).items()):
            if hour < self.cutoff:
                self.summary.too_late += len(names)
                continue
            end = min(hour + HOUR, there.minutes_until)
            for some in _chunks(sorted(names)):
                told = store.samples(connection, some, hour, end)
                self._minutes_of(connection, some, hour, end, told)
                if hour < there.hours_until:
                    self._hour_of(connection, some, hour, there, told, late=True)
        if len(found) == LATE_AT_ONCE:
            store.advance(connection, seen_id=max(there.seen_id, min(found[-1].id, there.next_id)))
            return found[-1].id
        if self.now - there.next_at >= LAG:
            store.advance(connection, seen_id=there.next_id, next_id=self.newest, next_at=self.now)
        return None

    def _hours_of(self, found: Sequence[store.Late], there: store.Progress) -> dict[datetime, set[str]]:
        hours: dict[datetime, set[str]] = defaultdict(set)
        for one in found:
            hour = floored(one.start, HOUR)
            while hour < min(one.end, there.minutes_until):
                hours[hour].add(one.check)
                hour += HOUR
        return hours

    # Minutes

    def make_minutes(self) -> None:
        """The minutes that are over, an hour at a time; it is closed with them if that is possible."""
        until = floored(self.now, MINUTE)
        while self._in_time():
            with self.engine.database.snapshot() as connection:
                there = store.progress(connection)
            if there is None or there.minutes_until >= until:
                return
            start = max(there.minutes_until - OVERLAP, self.cutoff)
            reached = max(start, there.minutes_until)
            end = min(until, floored(reached, HOUR) + HOUR)
            hour = self._closed_with(there, end)
            for some in _chunks(self._checks()):
                self.engine.database.run(partial(self._locked_minutes, some, start, end, hour))
            self.engine.database.run(partial(self._made, end, hour))
            self.summary.minutes += (end - reached) // MINUTE
            self.summary.hours += hour is not None

    def _closed_with(self, there: store.Progress, end: datetime) -> datetime | None:
        """The hour that ends here, if it is the next to close and nothing more is waited for."""
        hour = max(there.hours_until, self.cutoff)
        return hour if hour + HOUR == end <= self.now - self._lateness else None

    @property
    def _lateness(self) -> timedelta:
        return timedelta(seconds=self.engine.settings.slo.lateness)

    def _locked_minutes(
        self,
        names: Sequence[str],
        start: datetime,
        end: datetime,
        hour: datetime | None,
        connection: sa.Connection,
    ) -> None:
        there = self._lock(connection)
        told = store.samples(connection, names, min(start, hour or start), end)
        self._minutes_of(connection, names, start, end, told)
        if hour is not None:
            self._hour_of(connection, names, hour, there, told, late=hour < there.hours_until)

    def _made(self, end: datetime, hour: datetime | None, connection: sa.Connection) -> None:
        """Go on, unless another worker is further already."""
        there = self._lock(connection)
        if there.minutes_until < end:
            store.advance(connection, minutes_until=end)
            self.minutes_until = end
        if hour is not None and there.hours_until < hour + HOUR:
            store.advance(connection, hours_until=hour + HOUR)

    def _minutes_of(
        self, connection: sa.Connection, names: Sequence[str], start: datetime, end: datetime, told: Told
    ) -> None:
        kept = self.now - timedelta(days=self.engine.settings.slo.minutes_days)
        start = max(start, ceiled(kept, MINUTE))
        if start >= end:
            return
        made = {
            name: [
                row
                for row in rolled(cut, samples, start, end, MINUTE)
                if row.at >= floored(self.first[name], MINUTE)
            ]
            for name, cut, samples in self._cut(told, names, start, end)
        }
        store.write_rows(connection, MINUTE, made, start, end)

    # Hours and days

    def close_hours(self) -> None:
        while self._in_time():
            with self.engine.database.snapshot() as connection:
                there = store.progress(connection)
            if there is None:
                return
            hour = max(there.hours_until, self.cutoff)
            if hour + HOUR > min(self.now - self._lateness, there.minutes_until):
                return
            for some in _chunks(self._checks()):
                self.engine.database.run(partial(self._closed, some, hour))
            self.engine.database.run(partial(self._all_closed, hour))
            self.summary.hours += 1

    def _closed(self, names: Sequence[str], hour: datetime, connection: sa.Connection) -> None:
        there = self._lock(connection)
        told = store.samples(connection, names, hour, hour + HOUR)
        self._hour_of(connection, names, hour, there, told, late=hour < there.hours_until)

    def _all_closed(self, hour: datetime, connection: sa.Connection) -> None:
        if self._lock(connection).hours_until < hour + HOUR:
            store.advance(connection, hours_until=hour + HOUR)

    def _hour_of(
        self,
        connection: sa.Connection,
        names: Sequence[str],
        hour: datetime,
        there: store.Progress,
        told: Told,
        *,
        late: bool,
    ) -> None:
        """Sums and spans of an hour; its day, when that is over or is so with this hour."""
        names = [name for name in names if self.first[name] < hour + HOUR]
        day = floored(hour, DAY)
        cuts = self._cut(told, names, hour, hour + HOUR)
        made = {name: rolled(cut, samples, hour, hour + HOUR, HOUR) for name, cut, samples in cuts}
        amended = store.amendments(connection, HOUR, names, hour, hour + HOUR)
        if late:
            amended |= self._changed(connection, names, made, hour)
        store.write_rows(connection, HOUR, made, hour, hour + HOUR, amended)
        days = store.spans(connection, names, day, day + DAY)
        spans = {name: spliced(days[name], cut, hour, hour + HOUR) for name, cut, _ in cuts}
        store.write_spans(connection, spans, day)
        if day + DAY <= max(there.hours_until, hour + HOUR):
            self._day_of(connection, names, day, {name for name, _ in amended})

    def _changed(
        self, connection: sa.Connection, names: Sequence[str], made: dict[str, list[Rolled]], hour: datetime
    ) -> dict[tuple[str, datetime], datetime]:
        before = store.rows_of(connection, HOUR, names, hour, hour + HOUR)
        changed = {
            (name, hour): self.now for name in names if before[name] and before[name] != made.get(name, [])
        }
        self.summary.amended += len(changed)
        for name, _ in changed:
            logger.info("slo.amended", check=name, hour=hour.isoformat())
        return changed

    def _day_of(
        self, connection: sa.Connection, names: Sequence[str], day: datetime, amended: set[str]
    ) -> None:
        hours = store.rows_of(connection, HOUR, names, day, day + DAY)
        made = {name: [day_of(hours[name], day, self.first[name])] for name in names}
        when = store.amendments(connection, DAY, names, day, day + DAY)
        when |= {(name, day): self.now for name in amended}
        store.write_rows(connection, DAY, made, day, day + DAY, when)

    def _cut(
        self, told: Told, names: Sequence[str], start: datetime, end: datetime
    ) -> list[tuple[str, tuple[Span, ...], list[Sample]]]:
        """Of each check the spans of ``[start, end)`` and the samples they are made of."""
        return [
            (
                name,
                ledger.spans(
                    told[name],
                    start,
                    end,
                    self.masks.of(name, start, end, self.first[name], self.pauses.get(name, [])),
                ),
                told[name],
            )
            for name in names
            if self.first[name] < end
        ]


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), CHECKS_AT_ONCE):
        yield names[start : start + CHECKS_AT_ONCE]
