"""What the metrics tell of redriven letters: how long each took from its dispatch to its outcome."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from regrow import counters
from regrow.database.tables import dead_letter_attempts as table
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.tallies import field_of

logger = structlog.get_logger(__name__)

BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, math.inf)
"""Upper ends of the histogram, in seconds."""


def count_ended(engine: Engine, tokens: Sequence[str]) -> None:
    """Count attempts that have just ended, by the tokens that their settlements carried.

    These are settled by now, so a store that is away costs a count and no more.
    """
    if not tokens:
        return
    began = sa.func.coalesce(table.c.dispatched_at, table.c.leased_at, type_=table.c.leased_at.type)
    query = sa.select(table.c.service, began.label("began"), table.c.ended_at).where(
        table.c.token.in_(tokens), table.c.ended_at.is_not(None), table.c.service.is_not(None)
    )
    try:
        with engine.database.snapshot() as connection:
            rows = connection.execute(query).all()
    except StoreUnavailableError as error:
        logger.warning("letters.uncounted", count=len(tokens), error=str(error))
        return
    counts: Counter[str] = Counter()
    for row in rows:
        took = max(0.0, (row.ended_at - row.began).total_seconds())
        end = BUCKETS[bisect_left(BUCKETS, took)]
        counts[
            field_of("dlq_processing_duration_seconds_bucket", {"service": row.service, "le": str(end)})
        ] += 1
        counts[field_of("dlq_processing_duration_milliseconds", {"service": row.service})] += round(
            took * 1000
        )
    counters.add_up(engine, counts)
