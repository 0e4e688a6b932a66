"""``/metrics``: for Prometheus, out of Redis and the database."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from regrow import metrics
from regrow.web import facts
from regrow.web.access import DetailOnly
from regrow.web.answers import TheReader, TheStart
from regrow.web.reading import known

router = APIRouter(tags=["metrics"])


@router.get("/metrics", dependencies=[DetailOnly], response_class=Response)
async def scrape(reader: TheReader, since: TheStart) -> Response:
    """Always 200 with what is known; a store that is away leaves its series out (regrow_scrape_errors)."""
    (checks, breakers, counts, letters, ledger, runs), level, recovery, others = await asyncio.gather(
        asyncio.gather(
            reader.read(facts.overview),
            reader.read(facts.breakers),
            reader.read(facts.counts),
            reader.read(facts.letters),
            reader.read(facts.ledger),
            reader.read(facts.latest_runs),
        ),
        reader.read(facts.level),
        reader.read(facts.recovery),
        asyncio.gather(reader.read(facts.standings), reader.read(facts.alert_counts)),
    )
    readings = metrics.Readings(
        checks=known(checks, None),
        breakers=known(breakers, None),
        level=known(level, None),
        recovery=known(recovery, None),
        objectives=known(others[0], None),
        alerts=known(others[1], None),
        counters=known(counts, None),
        dead_letters=known(letters, None),
        ledger=known(ledger, None),
        jobs=known(runs, None),
    )
    text = metrics.exposition(readings, reader.engine.clock(), since)
    return Response(text, media_type=metrics.CONTENT_TYPE)
