"""Where spans and sums are kept, and results are read from.

Functions over a connection: the caller's transaction makes several of them one step. Rows are overwritten: a
range is deleted and written anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from regrow.database import Database
from regrow.database.inserting import insert_many
from regrow.database.tables import (
    SUMS,
    check_pauses,
    check_results,
    rolled_checks,
    rollup_progress,
    rollups_day,
    rollups_hour,
    rollups_minute,
    state_spans,
)
from regrow.latency_buckets import from_text, merged, to_text
from regrow.slo.ledger import Ledger, Sample, Span, State
from regrow.slo.rolled import DAY, HOUR, MINUTE, Rolled, floored

TABLES = {MINUTE: rollups_minute, HOUR: rollups_hour, DAY: rollups_day}
_MICROSECOND = timedelta(microseconds=1)
_COUNTS = ("probes", "failures")
_CHUNK = 1_000


@dataclass(frozen=True)
class Progress:
    """How far results are rolled up; see ``regrow.slo.rolling``."""

    seen_id: int
    next_id: int
    next_at: datetime
    minutes_until: datetime
    hours_until: datetime


def progress(connection: sa.Connection, *, lock: bool = False) -> Progress | None:
    """None before the first roll-up. ``lock``: nobody else rolls up until the transaction ends."""
    query = sa.select(rollup_progress).where(rollup_progress.c.id == 1)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else Progress(**{f.name: row[f.name] for f in fields(Progress)})


def begin(database: Database, first: Progress) -> None:
    """Write the first progress, unless another has."""
    ignore = "OR IGNORE" if database.is_sqlite else "IGNORE"
    row = {"id": 1, **{f.name: getattr(first, f.name) for f in fields(Progress)}}
    database.run(lambda c: c.execute(sa.insert(rollup_progress).prefix_with(ignore).values(row)))


def advance(connection: sa.Connection, **values: Any) -> None:
    connection.execute(sa.update(rollup_progress).where(rollup_progress.c.id == 1).values(**values))


def newest_id(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.max(check_results.c.id))).scalar() or 0


def earliest(connection: sa.Connection) -> dict[str, datetime]:
    """The earliest result of each check that has any."""
    query = sa.select(check_results.c.check_name, sa.func.min(check_results.c.at))
    rows = connection.execute(query.group_by(check_results.c.check_name))
    return {row[0]: row[1] for row in rows}


def known(connection: sa.Connection) -> dict[str, datetime]:
    """Every check that ever had a result, with the time of its first."""
    rows = connection.execute(sa.select(rolled_checks.c.check_name, rolled_checks.c.first_at))
    return {row[0]: row[1] for row in rows}


def meet(connection: sa.Connection, first: Mapping[str, datetime]) -> None:
    """Remember checks by the time of their first result."""
    connection.execute(sa.delete(rolled_checks).where(rolled_checks.c.check_name.in_(sorted(first))))
    rows = [{"check_name": name, "first_at": at} for name, at in sorted(first.items())]
    connection.execute(sa.insert(rolled_checks), rows)


Pauses = dict[str, list[tuple[datetime, datetime | None]]]


def pauses(connection: sa.Connection) -> Pauses:
    """Of each check the times in which it was switched off; the last may have no end yet."""
    found: Pauses = defaultdict(list)
    query = sa.select(check_pauses).order_by(check_pauses.c.check_name, check_pauses.c.starts_at)
    for row in connection.execute(query):
        found[row.check_name].append((row.starts_at, row.ends_at))
    return found


def pause(connection: sa.Connection, names: Iterable[str], at: datetime) -> None:
    if rows := [{"check_name": name, "starts_at": at} for name in sorted(names)]:
        connection.execute(sa.insert(check_pauses), rows)


def resume(connection: sa.Connection, names: Collection[str], at: datetime) -> None:
    if names:
        is_open = check_pauses.c.check_name.in_(sorted(names)) & check_pauses.c.ends_at.is_(None)
        connection.execute(sa.update(check_pauses).where(is_open).values(ends_at=at))


@dataclass(frozen=True)
class Late:
    """A result that came after its time was rolled up, with the time that it says something of.

    That is as long as it holds, or as the one before it would have held without it.
    """

    id: int
    check: str
    start: datetime
    end: datetime


def late(connection: sa.Connection, after: int, until: int, before: datetime, limit: int) -> list[Late]:
    """Results with ids above ``after`` up to ``until`` whose time lies before ``before``, by id."""
    table, others = check_results, check_results.alias("others")

    def of_the_one_before(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
        return (
            sa.select(column)
            .where(
                others.c.check_name == table.c.check_name,
                others.c.at <= table.c.at,
                others.c.id != table.c.id,
            )
            .order_by(others.c.at.desc(), others.c.id.desc())
            .limit(1)
            .scalar_subquery()
        )

    query = (
        sa.select(
            table.c.id,
            table.c.check_name,
            table.c.at,
            table.c.interval,
            of_the_one_before(others.c.at).label("at_before"),
            of_the_one_before(others.c.interval).label("interval_before"),
        )
        .where(table.c.id > after, table.c.id <= until, table.c.at < before)
        .order_by(table.c.id)
        .limit(limit)
    )
    found = []
    for row in connection.execute(query):
        end = Sample(row.at, "", row.interval).holds_until
        if row.at_before is not None:
            end = max(end, Sample(row.at_before, "", row.interval_before).holds_until)
        found.append(Late(row.id, row.check_name, row.at, end))
    return found


def samples(
    connection: sa.Connection, names: Sequence[str], start: datetime, end: datetime
) -> dict[str, list[Sample]]:
    """The results of ``[start, end)``, and of each check the last one before, in no order."""
    table = check_results
    columns = (table.c.check_name, table.c.at, table.c.status, table.c.interval, table.c.latency)
    newest = (
        sa.select(table.c.check_name, sa.func.max(table.c.at).label("at"))
        .where(table.c.check_name.in_(names), table.c.at < start)
        .group_by(table.c.check_name)
        .subquery()
    )
    earlier = sa.select(*columns).join(
        newest, sa.and_(table.c.check_name == newest.c.check_name, table.c.at == newest.c.at)
    )
    within = sa.select(*columns).where(table.c.check_name.in_(names), table.c.at >= start, table.c.at < end)
    found: dict[str, list[Sample]] = {name: [] for name in names}
    for query in (earlier, within):
        for name, *told in connection.execute(query):
            found[name].append(Sample(*told))
    return found


def spans(
    connection: sa.Connection, names: Sequence[str], start: datetime, end: datetime
) -> dict[str, list[Span]]:
    """The stored spans that begin in ``[start, end)``, in order. No span goes over midnight UTC."""
    query = (
        sa.select(state_spans)
        .where(
            state_spans.c.check_name.in_(names),
            state_spans.c.starts_at >= start,
            state_spans.c.starts_at < end,
        )
        .order_by(state_spans.c.check_name, state_spans.c.starts_at)
    )
    found: dict[str, list[Span]] = {name: [] for name in names}
    for row in connection.execute(query):
        beneath = None if row.beneath is None else State(row.beneath)
        found[row.check_name].append(Span(row.starts_at, row.ends_at, State(row.state), beneath))
    return found


def write_spans(connection: sa.Connection, days: Mapping[str, Sequence[Span]], day: datetime) -> None:
    """Overwrite the spans of a day."""
    _clear(connection, state_spans, state_spans.c.starts_at, days, day, day + DAY)
    rows = [
        {
            "check_name": name,
            "starts_at": span.start,
            "ends_at": span.end,
            "state": span.state.value,
            "beneath": None if span.beneath is None else span.beneath.value,
        }
        for name, spans_ in days.items()
        for span in spans_
    ]
    insert_many(connection, state_spans, rows)


def rows_of(
    connection: sa.Connection, step: timedelta, names: Sequence[str], start: datetime, end: datetime
) -> dict[str, list[Rolled]]:
    """The sums of the buckets that begin in ``[start, end)``, in order."""
    table = TABLES[step]
    columns = [table.c[name] for name in ("check_name", "at", "latency", *SUMS, *_COUNTS)]
    query = (
        sa.select(*columns)
        .where(table.c.check_name.in_(names), table.c.at >= start, table.c.at < end)
        .order_by(table.c.check_name, table.c.at)
    )
    found: dict[str, list[Rolled]] = {name: [] for name in names}
    for name, at, latency, *spent in connection.execute(query):
        found[name].append(Rolled(at, _account(spent), from_text(latency)))
    return found


def latencies(
    connection: sa.Connection, step: timedelta, names: Sequence[str], start: datetime, end: datetime
) -> dict[str, dict[int, int]]:
    """The latencies of the buckets that begin in ``[start, end)``, merged; who has none is left out.

    A text a check, because each row has its price. A server cuts off what is too long for it (in MySQL after
    1,024 bytes, unless ``group_concat_max_len`` says more): of those checks rows are read.
    """
    table = TABLES[step]
    within = (table.c.at >= start, table.c.at < end)
    texts = sa.func.aggregate_strings(table.c.latency, _BETWEEN)
    length = sa.func.sum(sa.func.length(table.c.latency) + len(_BETWEEN))
    query = sa.select(table.c.check_name, texts, length).where(table.c.check_name.in_(names), *within)
    told: dict[str, list[str]] = {}
    cut_off = []
    for name, text, long in connection.execute(query.group_by(table.c.check_name)):
        if len(text) + len(_BETWEEN) == long:
            told[name] = text.split(_BETWEEN)
        else:
            cut_off.append(name)
            told[name] = []
    rows = sa.select(table.c.check_name, table.c.latency).where(table.c.check_name.in_(cut_off), *within)
    for name, text in connection.execute(rows) if cut_off else ():
        told[name].append(text)
    return {name: merged(map(_latency, parts)) for name, parts in told.items()}


_BETWEEN = "|"


@lru_cache(maxsize=10_000)
def _latency(text: str) -> Mapping[int, int]:
    """Minutes have few probes, and so the same texts again and again."""
    return from_text(text)


def write_rows(
    connection: sa.Connection,
    step: timedelta,
    buckets: Mapping[str, Sequence[Rolled]],
    start: datetime,
    end: datetime,
    amended: Mapping[tuple[str, datetime], datetime] | None = None,
) -> None:
    """Overwrite the sums of the buckets that begin in ``[start, end)``."""
    table = TABLES[step]
    _clear(connection, table, table.c.at, buckets, start, end)
    when = amended or {}
    rows = [
        _row(name, bucket, when.get((name, bucket.at))) for name, found in buckets.items() for bucket in found
    ]
    for first in range(0, len(rows), _CHUNK):
        insert_many(connection, table, rows[first : first + _CHUNK])


def _row(name: str, bucket: Rolled, amended: datetime | None) -> dict[str, Any]:
    account = bucket.account
    row: dict[str, Any] = {state: getattr(account, state) // _MICROSECOND for state in SUMS}
    row["check_name"], row["at"] = name, bucket.at
    row["probes"], row["failures"] = account.probes, account.failures
    row["latency"], row["amended_at"] = to_text(bucket.latency), amended
    return row


def amendments(
    connection: sa.Connection, step: timedelta, names: Sequence[str], start: datetime, end: datetime
) -> dict[tuple[str, datetime], datetime]:
    """When the buckets of ``[start, end)`` were amended, those that were."""
    table = TABLES[step]
    query = sa.select(table.c.check_name, table.c.at, table.c.amended_at).where(
        table.c.check_name.in_(names),
        table.c.at >= start,
        table.c.at < end,
        table.c.amended_at.is_not(None),
    )
    return {(name, at): amended for name, at, amended in connection.execute(query)}


def sums(
    connection: sa.Connection, step: timedelta, names: Sequence[str], start: datetime, end: datetime
) -> dict[str, Ledger]:
    """The buckets that begin in ``[start, end)`` added up by the database; who has none is left out."""
    table = TABLES[step]
    columns = [sa.func.sum(table.c[name]).label(name) for name in (*SUMS, *_COUNTS)]
    query = (
        sa.select(table.c.check_name, *columns)
        .where(table.c.check_name.in_(names), table.c.at >= start, table.c.at < end)
        .group_by(table.c.check_name)
    )
    return {name: _account(spent) for name, *spent in connection.execute(query)}


def with_downtime(
    connection: sa.Connection, names: Sequence[str], start: datetime, hours: datetime, minutes: datetime
) -> set[str]:
    """The checks that were down at some time since ``start``, in maintenance or not.

    Out of stored spans until ``hours``, and out of minutes from there until ``minutes``.
    """
    down = State.DOWN.value
    stored = sa.select(state_spans.c.check_name).where(
        state_spans.c.check_name.in_(names),
        state_spans.c.starts_at >= floored(start, DAY),
        state_spans.c.ends_at > start,
        (state_spans.c.state == down) | (state_spans.c.beneath == down),
    )
    table = rollups_minute
    recent = sa.select(table.c.check_name).where(
        table.c.check_name.in_(names),
        table.c.at >= max(start, hours),
        table.c.at < minutes,
        (table.c.down > 0) | (table.c.masked_down > 0),
    )
    return set(connection.execute(sa.union(stored, recent)).scalars())


def prune(database: Database, step: timedelta | None, before: datetime) -> int:
    """Delete sums of this step (None: spans) of before, a chunk of one check's primary keys at a time."""
    table = state_spans if step is None else TABLES[step]
    column = table.c.starts_at if step is None else table.c.at
    with database.snapshot() as connection:
        names = list(connection.execute(sa.select(table.c.check_name).distinct()).scalars())

    def chunk(connection: sa.Connection, name: str) -> int:
        old = sa.select(column).where(table.c.check_name == name, column < before)
        times = connection.execute(old.order_by(column).limit(_CHUNK)).scalars().all()
        if times:
            gone = (table.c.check_name == name) & (column <= times[-1])
            connection.execute(sa.delete(table).where(gone))
        return len(times)

    total = 0
    for name in names:
        while went := database.run(lambda connection, name=name: chunk(connection, name)):  # type: ignore[misc]
            total += went
    return total


def _clear(
    connection: sa.Connection,
    table: sa.Table,
    column: sa.Column[Any],
    names: Iterable[str],
    start: datetime,
    end: datetime,
) -> None:
    gone = table.c.check_name.in_(sorted(names)) & (column >= start) & (column < end)
    connection.execute(sa.delete(table).where(gone))


def _account(spent: Sequence[Any]) -> Ledger:
    """Out of the columns ``SUMS``, ``probes`` and ``failures``, in this order."""
    told: dict[str, Any] = {
        name: timedelta(microseconds=int(one)) for name, one in zip(SUMS, spent, strict=False) if one
    }
    told["probes"], told["failures"] = map(int, spent[len(SUMS) :])
    return Ledger(**told)
