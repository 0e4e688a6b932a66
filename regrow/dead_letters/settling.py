"""Settling: what a redriven message came to, told by whoever ran it. One settlement per letter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from random import Random

import sqlalchemy as sa
import structlog

from regrow.dead_letters import home, rules, store
from regrow.dead_letters.policies import redrive_policy
from regrow.dead_letters.rules import AttemptOutcome, Next, State
from regrow.engine import Engine

logger = structlog.get_logger(__name__)

_CHUNK = 200
_random = Random()  # noqa: S311 - spreads load, hides nothing


def settle(engine: Engine, attempt: str) -> bool:
    """The redriven message succeeded (``attempt``: LETTER:TOKEN). False: settled before, or gone."""
    letter_id, token = home.parse_reference(attempt)
    won = engine.database.run(lambda connection: store.resolve(connection, letter_id, token, engine.clock()))
    if won:
        logger.info("letter.resolved", letter=letter_id, by="outcome")
    return won


def settle_many(engine: Engine, attempts: Sequence[str]) -> list[bool]:
    """:func:`settle` for many, in transactions of 200; the answers in order."""
    told = [home.parse_reference(attempt) for attempt in attempts]
    won: list[bool] = []
    for start in range(0, len(told), _CHUNK):
        won += _resolve(engine, told[start : start + _CHUNK])
    for (letter_id, _), first in zip(told, won, strict=True):
        if first:
            logger.info("letter.resolved", letter=letter_id, by="outcome")
    return won


def _resolve(engine: Engine, told: Sequence[tuple[str, str]]) -> list[bool]:
    return engine.database.run(lambda connection: store.resolve_many(connection, told, engine.clock()))


def record_failure(
    engine: Engine, attempt: str, error: str | None = None, *, retry_after: float | None = None
) -> State | None:
    """The redriven message failed again. Counts for the current attempt alone; None: it was not that.

    ``retry_after``: seconds for which the receiver asks not to be tried; heeded up to
    ``dead_letters.max_delay``.
    """
    letter_id, token = home.parse_reference(attempt)

    def work(connection: sa.Connection) -> Next | None:
        now = engine.clock()
        letter = store.current(connection, letter_id, token)
        if letter is None:
            store.end_attempt(connection, token, now, AttemptOutcome.STALE, error)
            return None
        # The failure may be told before the publisher has written that it sent the message.
        made = letter.attempts + (1 if letter.state == State.LEASED else 0)
        after = rules.after_failure(
            made, redrive_policy(engine.settings.dead_letters, letter.max_retries), now, _random
        )
        if retry_after is not None:
            asked = min(retry_after, engine.settings.dead_letters.max_delay)
            after = rules.not_before(after, now + timedelta(seconds=asked))
        store.move(connection, letter, after, now=now, attempts_made=made)
        store.end_attempt(connection, token, now, AttemptOutcome.FAILED, error)
        return after

    after = engine.database.run(work)
    if after is not None and after.state == State.QUARANTINED:
        logger.warning("letter.quarantined", letter=letter_id, reason=after.reason)
    return None if after is None else after.state
