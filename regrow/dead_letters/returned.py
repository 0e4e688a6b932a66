"""Redriven messages that lie in a dead-letter queue again: the attempt that sent them has failed."""

from __future__ import annotations

from dataclasses import replace

import structlog

from regrow.dead_letters import home, store
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.capturing import capture
from regrow.dead_letters.settling import record_failure
from regrow.dead_letters.store import Letter
from regrow.engine import Engine

logger = structlog.get_logger(__name__)


def came_back(engine: Engine, attempt: str, captured: Capture) -> None:
    """``captured`` is what came back of this attempt (LETTER:TOKEN). Told twice, it counts once.

    The failure belongs to the attempt while that is the current one. A letter that was settled by the very
    publication of this attempt was settled too soon: the message becomes its next generation, with the
    redrives that are left. What comes back of any other attempt changes nothing: its letter lives, or was
    settled by a better one. RouteError: this names no attempt.
    """
    letter_id, token = home.parse_reference(attempt)
    told = f"{captured.error_class}: {captured.error_message}"
    if record_failure(engine, attempt, told, captured.cause) is not None:
        return
    with engine.database.snapshot() as connection:
        letter, attempts = store.settled_by(connection, letter_id, token)
    if letter is not None:
        logger.info("letter.came_back", letter=letter_id, after="publish")
        capture(engine, _next_generation(captured, letter))
    elif not attempts:  # purged, or of another Regrow: nobody else knows of this message
        capture(engine, captured)


def _next_generation(captured: Capture, letter: Letter) -> Capture:
    left = max(0, letter.max_retries - letter.attempts)
    used_up = f"came back from its dead-letter queue after the last of {letter.max_retries} redrives"
    return replace(
        captured,
        idempotency_key=letter.idempotency_key,
        message_type=letter.message_type,
        service=letter.service,
        max_retries=left,
        quarantine=None if left else used_up,
    )
