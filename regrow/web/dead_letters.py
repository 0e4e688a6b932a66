"""``/health/dlq``: how many dead letters wait, in which state, and since when."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

from regrow.dead_letters.ledger import Ledger
from regrow.metrics import LetterCounts
from regrow.web import facts
from regrow.web.access import DetailOnly
from regrow.web.answers import TheReader
from regrow.web.reading import Fact, Unknown

LETTER_STATES = (
    ("pending", "waits to be sent home"),
    ("leased", "in a worker's hand"),
    ("dispatched", "sent home, outcome awaited"),
    ("quarantined", "waits for a person"),
    ("resolved", "settled: its task succeeded"),
    ("discarded", "settled: a person let it go"),
)
"""The states of a letter in the order of its life, and what each means."""

router = APIRouter(tags=["dead letters"])


@router.get(
    "/health/dlq", dependencies=[DetailOnly], responses={503: {"description": "the database is away"}}
)
async def dead_letter_queue(reader: TheReader) -> JSONResponse:
    """Dead letters by state, the age of the oldest that waits, and the ledger by service."""
    letters, ledger = await asyncio.gather(reader.read(facts.letters), reader.read(facts.ledger))
    body = letters_json(letters, reader.engine.clock()) | {"ledger": ledger_json(ledger)}
    return JSONResponse(jsonable_encoder(body), 503 if isinstance(letters, Unknown) else 200)


def letters_json(letters: Fact[LetterCounts], now: datetime) -> Any:
    if isinstance(letters, Unknown):
        return letters.as_json()
    oldest = letters.value.oldest
    return {
        "by_state": letters.value.by_state,
        "oldest_unsettled_at": oldest,
        "oldest_unsettled_age_seconds": (now - oldest).total_seconds() if oldest else None,
    }


def ledger_json(ledger: Fact[Ledger]) -> Any:
    return ledger.as_json() if isinstance(ledger, Unknown) else ledger.value.as_json()
