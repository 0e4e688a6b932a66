"""Redriven messages that failed again: told by whoever ran them, or found in a dead-letter queue."""

from __future__ import annotations

from dataclasses import replace

import structlog

from regrow.dead_letters import home, settling, store, tombstones, vault
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.capturing import capture
from regrow.dead_letters.classes import NOTHING_KNOWN, Cause
from regrow.dead_letters.rules import State
from regrow.dead_letters.store import Body, Letter
from regrow.engine import Engine
from regrow.errors import LetterRefusedError, RouteError

logger = structlog.get_logger(__name__)


def record_failure(
    engine: Engine, attempt: str, error: str | None = None, cause: Cause | None = None
) -> State | None:
    """As in ``settling``; and a letter that its publication settled, and whose message then failed, goes on
    as its next generation: nobody else has that message any more. Told twice, it counts once.
    """
    after = settling.record_failure(engine, attempt, error, cause)
    if after is not None:
        return after
    letter_id, token = home.parse_reference(attempt)
    with engine.database.snapshot() as connection:
        published = store.settled_by_publication(connection, letter_id, token)
        found = store.read(connection, letter_id) if published else None
    if found is not None and found[0].erased_at is None:
        try:
            letter, body, _ = vault.open_letter(engine, found[0], found[1], ())
            used_up = f"failed after the last of {letter.max_retries} redrives had been published"
            again = _captured_again(letter, body, token, error, cause or NOTHING_KNOWN)
            capture(engine, _next_generation(replace(again, failed_at=engine.clock()), letter, used_up))
        except (RouteError, LetterRefusedError) as refused:
            # Whoever tells of it can do nothing about it, and the letter has all that there is.
            logger.error("letter.not_made_anew", letter=letter_id, reason=str(refused))  # noqa: TRY400
        else:
            logger.info("letter.failed_after_publish", letter=letter_id)
    return None


def _captured_again(letter: Letter, body: Body, token: str, error: str | None, cause: Cause) -> Capture:
    """The message of a letter as if its failure had been captured where it happened."""
    return Capture(
        event_id=f"attempt:{token}",
        body=body.body,
        message_type=letter.message_type,
        service=letter.service,
        idempotency_key=letter.idempotency_key,
        error_class=cause.lineage[0] if cause.lineage else letter.error_class,
        error_message=error or "it failed after it had been published; nothing says why",
        failed_at=letter.last_failed_at,
        task=letter.task,
        task_id=letter.task_id,
        content_type=body.content_type,
        content_encoding=body.content_encoding,
        headers=body.headers,
        confirm="publish" if letter.confirm == "publish" else "outcome",
        source="outcome",
        cause=cause,
        priority=letter.priority,
        useful_until=letter.useful_until,
        order_key=letter.order_key,
        **{name: getattr(letter, name) for name in store.ORIGIN},
    )


def came_back(engine: Engine, attempt: str, captured: Capture) -> None:
    """``captured`` is what came back of this attempt (LETTER:TOKEN). Told twice, it counts once.

    The failure belongs to the attempt while that is the current one. A letter that was settled by the very
    publication of this attempt was settled too soon: the message becomes its next generation, with the
    redrives that are left. What comes back of any other attempt changes nothing: its letter lives, or was
    settled by a better one. RouteError: this names no attempt.
    """
    letter_id, token = home.parse_reference(attempt)
    told = f"{captured.error_class}: {captured.error_message}"
    if settling.record_failure(engine, attempt, told, captured.cause) is not None:
        return
    with engine.database.snapshot() as connection:
        letter, attempts = store.settled_by(connection, letter_id, token)
        purged = tombstones.key_of(connection, letter_id)
    if letter is not None:
        logger.info("letter.came_back", letter=letter_id, after="publish")
        used_up = f"came back from its dead-letter queue after the last of {letter.max_retries} redrives"
        capture(engine, _next_generation(captured, letter, used_up))
    elif not attempts:  # purged, or of another Regrow: nobody else knows of this message
        capture(engine, replace(captured, idempotency_key=purged) if purged else captured)


def _next_generation(captured: Capture, letter: Letter, used_up: str) -> Capture:
    left = max(0, letter.max_retries - letter.attempts)
    return replace(
        captured,
        idempotency_key=letter.idempotency_key,
        message_type=letter.message_type,
        service=letter.service,
        max_retries=left,
        quarantine=None if left else used_up,
    )
