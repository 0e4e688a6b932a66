"""What the metrics tell of redriven letters: how long each took from its dispatch to its outcome."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from regrow import counters
from regrow.database.durations import microseconds_between
from regrow.database.tables import dead_letter_attempts as table
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.tallies import field_of

logger = structlog.get_logger(__name__)

BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, math.inf)
"""Upper ends of the histogram, in seconds."""
_ENDS = [round(end * 1_000_000) for end in BUCKETS[:-1]]


def count_ended(engine: Engine, tokens: Sequence[str], took: Iterable[tuple[str, int]] = ()) -> None:
    """Count attempts that have just ended: by the tokens that their settlements carried, or by service and
    microseconds where these are known.

    All are settled by now, so a store that is away costs a count and no more.
    """
    counts: Counter[str] = Counter()
    for service, apart in took:
        microseconds = max(0, apart)
        _count(counts, service, bisect_left(_ENDS, microseconds), 1, (microseconds + 500) // 1_000)
    try:
        for service, bucket, ended, milliseconds in _read(engine, tokens):
            _count(counts, service, bucket, ended, int(milliseconds))
    except StoreUnavailableError as error:
        logger.warning("letters.uncounted", count=len(tokens), error=str(error))
    counters.add_up(engine, counts)


def _read(engine: Engine, tokens: Sequence[str]) -> Sequence[Any]:
    if not tokens:
        return ()
    with engine.database.snapshot() as connection:
        return connection.execute(_ENDED, {"tokens": list(tokens)}).all()


def _count(counts: Counter[str], service: str, bucket: int, ended: int, milliseconds: int) -> None:
    labels = {"service": service, "le": str(BUCKETS[bucket])}
    counts[field_of("dlq_processing_duration_seconds_bucket", labels)] += ended
    counts[field_of("dlq_processing_duration_milliseconds", {"service": service})] += milliseconds


def _ended() -> sa.Select[Any]:
    """Service, bucket, attempts and their milliseconds, of attempts that ended: a few rows for hundreds."""
    began = sa.func.coalesce(table.c.dispatched_at, table.c.leased_at)
    apart = microseconds_between(began, table.c.ended_at)
    took = sa.case((apart < 0, 0), else_=apart)
    ends = [(took <= end, number) for number, end in enumerate(_ENDS)]
    bucket = sa.case(*ends, else_=len(BUCKETS) - 1).label("bucket")
    return (
        sa.select(table.c.service, bucket, sa.func.count(), sa.func.sum(sa.func.round(took / 1000.0)))
        .where(
            table.c.token.in_(sa.bindparam("tokens", expanding=True)),
            table.c.ended_at.is_not(None),
            table.c.service.is_not(None),
        )
        .group_by(table.c.service, bucket)
    )


_ENDED = _ended()
