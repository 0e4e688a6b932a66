"""Settling: what a redriven message came to, told by whoever ran it. One settlement per letter."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from weakref import WeakKeyDictionary

import sqlalchemy as sa
import structlog

from regrow.dead_letters import home, rules, store, vault
from regrow.dead_letters.captured import storable
from regrow.dead_letters.classes import NOTHING_KNOWN, Cause
from regrow.dead_letters.counting import count_ended
from regrow.dead_letters.policies import class_of, patience
from regrow.dead_letters.rules import AttemptOutcome, Next, Past, State
from regrow.dead_letters.settled_marks import SettledMarks
from regrow.dead_letters.store import Letter, Resolved, SealedError
from regrow.engine import Engine
from regrow.failures import FailureClass
from regrow.log_events import Each

logger = structlog.get_logger(__name__)

_CHUNK = 200
_random = Random()  # noqa: S311 - spreads load, hides nothing
_marks: WeakKeyDictionary[Engine, SettledMarks] = WeakKeyDictionary()


def settle(engine: Engine, attempt: str) -> bool:
    """The redriven message succeeded (``attempt``: LETTER:TOKEN). False: settled before, or gone."""
    return settle_many(engine, [attempt])[0]


def settle_many(engine: Engine, attempts: Sequence[str]) -> list[bool]:
    """The same for many at once, in transactions of 200; one answer each, in order.

    After an error, those of earlier transactions are settled, and telling all of them again is safe.
    """
    parsed = [home.parse_reference(attempt) for attempt in attempts]
    answers: list[bool] = []
    for start in range(0, len(parsed), _CHUNK):
        chunk = parsed[start : start + _CHUNK]
        resolved = _resolve(engine, chunk)
        if resolved.ids:
            count_ended(engine, resolved.unmeasured, resolved.took)
            logger.info("letter.resolved", letter=Each(resolved.ids), by="outcome")
            _marks_of(engine).write(engine.redis, resolved.ids)
        answers += resolved.won
    return answers


def _marks_of(engine: Engine) -> SettledMarks:
    return _marks.setdefault(engine, SettledMarks())


def _resolve(engine: Engine, told: Sequence[tuple[str, str]]) -> Resolved:
    return engine.database.run(lambda connection: store.resolve_many(connection, told, engine.clock()))


def record_failure(
    engine: Engine, attempt: str, error: str | None = None, cause: Cause | None = None
) -> State | None:
    """The redriven message failed again. Counts for the current attempt alone; None: it was not that.

    ``error`` is a text for people, ``cause`` what the class of the failure is told by. What is told without
    either (Celery's own callback knows no error) may be told once more with them, and is then decided anew.
    """
    letter_id, token = home.parse_reference(attempt)
    error = storable(error)
    ended = False

    def work(connection: sa.Connection) -> Next | None:
        nonlocal ended
        now = engine.clock()
        letter = store.current(connection, letter_id, token)
        ended = letter is not None
        kept = vault.seal_error(engine, connection, letter_id, token, error)
        if letter is None and error is not None:
            letter = store.amendable(connection, letter_id, token)
        if letter is None:
            store.end_attempts(connection, [token], now, AttemptOutcome.STALE, kept)
            return None
        return _fail(engine, connection, letter, token, kept, cause or NOTHING_KNOWN)

    after = engine.database.run(work)
    if ended:
        count_ended(engine, [token])
    if after is not None and after.state == State.QUARANTINED:
        logger.warning("letter.quarantined", letter=letter_id, reason=after.reason)
    return None if after is None else after.state


def _fail(
    engine: Engine,
    connection: sa.Connection,
    letter: Letter,
    token: str,
    error: str | SealedError | None,
    cause: Cause,
) -> Next:
    now, chosen = engine.clock(), engine.settings.dead_letters
    # The failure may be told before the publisher has written that it sent the message.
    made = letter.attempts + (1 if letter.state == State.LEASED else 0)
    kind = class_of(chosen, cause)
    allowed, age = patience(chosen, letter.max_retries), letter.age(now)
    counts = rules.costs_attempt(kind, age, allowed)
    past = Past(
        redrives=made if counts else max(0, made - 1),
        waits=0 if counts else letter.waits + 1,
        of_class=letter.losses + 1 if kind is FailureClass.POISON else 1,
        age=age,
    )
    after = rules.after_failure(kind, cause.retry_after, past, allowed, now, _random)
    store.move(
        connection,
        letter,
        after,
        now=now,
        attempts=past.redrives,
        waits=past.waits,
        crashes=0,
        losses=past.of_class if kind is FailureClass.POISON else letter.losses,
        failure_class=kind if cause != NOTHING_KNOWN else letter.failure_class,
    )
    outcome = AttemptOutcome.FAILED if counts else AttemptOutcome.REFUSED
    store.end_attempts(connection, [token], now, outcome, error, kind)
    return after
