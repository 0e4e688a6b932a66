"""What people do with single letters: retry and discard, audited."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
import structlog

from regrow import audit
from regrow.dead_letters import store
from regrow.dead_letters.rules import Next, State
from regrow.dead_letters.store import Letter
from regrow.engine import Engine
from regrow.errors import LetterNotFoundError, TransitionRefusedError

logger = structlog.get_logger(__name__)


def retry(engine: Engine, letter_or_event: str, *, actor: str, reason: str = "") -> Letter:
    """Make a waiting letter due now, out of quarantine too. One redrive, whatever it has had before.

    LetterNotFoundError; TransitionRefusedError when it is in flight or settled.
    """

    def work(connection: sa.Connection) -> Letter:
        now = engine.clock()
        letter = _wanted(connection, letter_or_event)
        if letter.state not in {State.PENDING, State.QUARANTINED}:
            raise TransitionRefusedError(
                f"dead letter {letter.id} is {letter.state}; only pending and quarantined ones can be retried"
            )
        if letter.state == State.PENDING and letter.rank is None:
            raise TransitionRefusedError(
                f"dead letter {letter.id} {letter.reason}; retry or discard that one first"
            )
        # Whoever retries it by hand wants it sent, useful or not.
        store.move(connection, letter, Next(State.PENDING, due_at=now), now=now, useful_until=None, crashes=0)
        _audit(connection, now, actor, "dead_letter.retry", letter, reason)
        return letter

    return engine.database.run(work)


def discard(engine: Engine, letter_or_event: str, *, actor: str, reason: str) -> Letter:
    """Settle a letter by hand: it will not be sent again. A reason is needed.

    LetterNotFoundError; TransitionRefusedError when it is settled, or in flight and may yet succeed.
    """
    if not reason.strip():
        raise TransitionRefusedError("to discard a dead letter needs a reason; say why it is not needed")

    def work(connection: sa.Connection) -> Letter:
        now = engine.clock()
        letter = _wanted(connection, letter_or_event)
        if letter.state not in {State.PENDING, State.QUARANTINED}:
            raise TransitionRefusedError(
                f"dead letter {letter.id} is {letter.state}; "
                "only pending and quarantined ones can be discarded"
            )
        store.move(connection, letter, Next(State.DISCARDED, reason=reason), now=now)
        _audit(connection, now, actor, "dead_letter.discard", letter, reason)
        return letter

    letter = engine.database.run(work)
    logger.info("letter.discarded", letter=letter.id, actor=actor, reason=reason)
    return letter


def _wanted(connection: sa.Connection, letter_or_event: str) -> Letter:
    letter_id = store.find_id(connection, letter_or_event)
    letter = store.locked(connection, letter_id) if letter_id else None
    if letter is None:
        raise LetterNotFoundError(f"no dead letter or event has the id {letter_or_event!r}")
    return letter


def _audit(
    connection: sa.Connection, at: datetime, actor: str, act: str, letter: Letter, reason: str
) -> None:
    audit.write(
        connection,
        at=at,
        actor=actor,
        act=act,
        subject=letter.id,
        reason=reason,
        details={"was": letter.state, "attempts": letter.attempts},
    )
