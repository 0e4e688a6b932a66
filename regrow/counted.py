"""By how much the counts in Redis grew, by minute and by hour: what reports tell of retries and fallbacks.

A count in Redis only ever grows, and knows nothing of time. So a job looks at it every half minute and keeps
the difference to its last look, in one transaction with what it saw: a run that is done twice, or by two at
once, counts once. A count that fell was lost by Redis and began anew. What grew while nobody looked for
longer than :data:`GAP` is put into no minute: that time is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
import sqlalchemy as sa

from regrow import counters
from regrow.database import Database, upserts
from regrow.database.retention import delete_older
from regrow.database.tables import counted as table
from regrow.database.tables import counter_marks as marks
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError

NAMES = {
    "retry_attempts_total": "function",
    "retry_exhausted_total": "function",
    "retry_budget_refused_total": "function",
    "fallback_usage_total": "service",
}
"""The counts that are kept, and the label that each is told apart by."""
GAP = timedelta(minutes=5)
MINUTE, HOUR = 60, 3600
_LOOKS = ""
"""In place of a name: the time of the looks themselves."""
_BY_MINUTE = timedelta(days=3)
"""Windows up to here, and no longer, may be read by the minute."""
_LABEL = 190

Seen = dict[tuple[str, str], int]


def fold(engine: Engine) -> int:
    """Keep what the counts grew by since the last look; by how much, all together.

    StoreUnavailableError when Redis or the database is away: the next look has it all.
    """
    try:
        return engine.database.run(lambda connection: _fold(connection, engine))
    except redis.RedisError as error:
        raise StoreUnavailableError(f"Redis did not answer: {error}") from error
    except sa.exc.DBAPIError as error:
        raise StoreUnavailableError(f"the database refused: {error.orig}") from error


def _fold(connection: sa.Connection, engine: Engine) -> int:
    """Whoever looks holds the mark of the last look, and looks only then: no older look comes after it."""
    upserts.add_new(connection, marks, [{"name": _LOOKS, "label": "", "value": 0}])
    last = sa.select(marks.c.value).where(marks.c.name == _LOOKS).with_for_update()
    then = _moment(connection.execute(last).scalar_one())
    now = _moment(_milliseconds(engine.clock()))
    if now <= then:
        return 0
    query = sa.select(marks.c.name, marks.c.label, marks.c.value).where(marks.c.name != _LOOKS)
    before: Seen = {(name, label): value for name, label, value in connection.execute(query)}
    after = _seen(counters.read(engine))
    _mark(connection, before, {**after, (_LOOKS, ""): _milliseconds(now)})
    if now - then > GAP:
        first = {key: 0 for key in after if key not in before}
        upserts.add_up(connection, table, _rows(now, first), "amount")
        return 0
    grown = {
        key: value - was if value >= (was := before.get(key, 0)) else value for key, value in after.items()
    }
    told = {key: by for key, by in grown.items() if by or key not in before}
    upserts.add_up(connection, table, _rows(then, told), "amount")
    for seconds in (MINUTE, HOUR):
        for starts_at, spent in _pieces(then, now, seconds):
            row = _row(seconds, starts_at, (_LOOKS, ""), spent // timedelta(milliseconds=1))
            upserts.add_up(connection, table, [row], "amount")
    return sum(grown.values())


def _seen(found: Mapping[str, Mapping[counters.Labels, int]]) -> Seen:
    seen: Counter[tuple[str, str]] = Counter()
    for name, label in NAMES.items():
        for labels, value in found.get(name, {}).items():
            seen[name, dict(labels).get(label, "")[:_LABEL]] += value
    return dict(seen)


def _mark(connection: sa.Connection, before: Seen, after: Seen) -> None:
    changed = [(key, value) for key, value in after.items() if before.get(key) != value]
    rows = [{"name": name, "label": label, "value": value} for (name, label), value in changed]
    upserts.put(connection, marks, rows)
    for name, label in before.keys() - after.keys():
        connection.execute(sa.delete(marks).where(marks.c.name == name, marks.c.label == label))


def _rows(at: datetime, amounts: Seen) -> list[dict[str, Any]]:
    return [
        _row(seconds, _floored(at, seconds), key, amount)
        for seconds in (MINUTE, HOUR)
        for key, amount in sorted(amounts.items())
    ]


def _row(seconds: int, starts_at: datetime, key: tuple[str, str], amount: int) -> dict[str, Any]:
    name, label = key
    return {"seconds": seconds, "starts_at": starts_at, "name": name, "label": label, "amount": amount}


def _pieces(since: datetime, until: datetime, seconds: int) -> Iterator[tuple[datetime, timedelta]]:
    at = since
    while at < until:
        begins = _floored(at, seconds)
        end = min(until, begins + timedelta(seconds=seconds))
        yield begins, end - at
        at = end


@dataclass(frozen=True)
class Counted:
    """What was counted in a window. ``amounts``: by name and label, those of :data:`NAMES` that anything was
    ever told of; a name that is missing is unknown. ``coverage``: the share of the time in which somebody
    looked, 0 to 1."""

    coverage: float = 0.0
    amounts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def window(database: Database, since: datetime, until: datetime) -> Counted:
    """Of ``[since, until)``, whole minutes, or whole hours where it is long. Half a minute goes to the one
    before: a look has what came since the last one."""
    hours = _floored(since, HOUR) == since and _floored(until, HOUR) == until
    seconds = HOUR if hours or until - since > _BY_MINUTE else MINUTE
    first, end = _floored(since, seconds), _floored(until, seconds)
    if first == end:
        return Counted()
    total = sa.cast(sa.func.sum(table.c.amount), sa.BigInteger)
    query = (
        sa.select(table.c.name, table.c.label, total)
        .where(
            table.c.seconds == seconds,
            table.c.name.in_([_LOOKS, *NAMES]),
            table.c.starts_at >= first,
            table.c.starts_at < end,
        )
        .group_by(table.c.name, table.c.label)
    )
    found: dict[str, dict[str, int]] = {}
    with database.snapshot() as connection:
        for name, label, amount in connection.execute(query):
            found.setdefault(name, {})[label] = int(amount)
        looked = sum(found.pop(_LOOKS, {}).values())
        for name in NAMES:
            if name not in found and _was_told(connection, name, end):
                found[name] = {}
    return Counted(min(1.0, timedelta(milliseconds=looked) / (end - first)), found)


def _was_told(connection: sa.Connection, name: str, before: datetime) -> bool:
    query = sa.select(table.c.id).where(
        table.c.seconds == HOUR, table.c.name == name, table.c.starts_at < before
    )
    return connection.execute(query.limit(1)).first() is not None


def prune(engine: Engine) -> int:
    """Delete minutes and hours that are older than those of requests are kept; how many rows went."""
    history, now = engine.settings.history, engine.clock()
    kept: Sequence[tuple[int, int]] = (
        (MINUTE, history.request_minutes_days),
        (HOUR, history.request_hours_days),
    )
    return sum(
        delete_older(
            engine.database, table, table.c.starts_at, now - timedelta(days=days), table.c.seconds == seconds
        )
        for seconds, days in kept
    )


def _floored(moment: datetime, seconds: int) -> datetime:
    whole = int(moment.timestamp()) // seconds * seconds
    return datetime.fromtimestamp(whole, UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
