"""What comes back by itself: letters of dead workers, unanswered, no longer useful, or forgotten in line."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import sqlalchemy as sa
import structlog

from regrow.dead_letters import leasing, ordering, rules, store
from regrow.dead_letters.policies import patience
from regrow.dead_letters.rules import AttemptOutcome, Next, Past, State
from regrow.dead_letters.store import Letter
from regrow.engine import Engine
from regrow.failures import FailureClass

logger = structlog.get_logger(__name__)

_CHUNK = 200
_random = Random()  # noqa: S311 - spreads load, hides nothing


def return_overdue(engine: Engine) -> int:
    """Letters whose worker died, or whose outcome never came, wait for their next redrive or for a person."""
    total = 0
    while moved := engine.database.run(lambda connection: _return_some(engine, connection)):
        for letter, after in moved:
            if after.state == State.QUARANTINED:
                logger.warning("letter.quarantined", letter=letter.id, reason=after.reason)
        total += len(moved)
    return total


def _return_some(engine: Engine, connection: sa.Connection) -> list[tuple[Letter, Next]]:
    now = engine.clock()
    moved = []
    for letter in store.overdue(connection, now, _CHUNK):
        if letter.state == State.LEASED:  # our worker's fault, not the letter's: due again at once
            outcome, after = AttemptOutcome.LEASE_EXPIRED, Next(State.PENDING, due_at=now)
        else:
            outcome, after = AttemptOutcome.NO_OUTCOME, _after_silence(engine, letter)
        store.move(connection, letter, after, now=now)
        store.end_attempts(connection, [letter.lease_token or ""], now, outcome)
        moved.append((letter, after))
    return moved


def _after_silence(engine: Engine, letter: Letter) -> Next:
    now = engine.clock()
    past = Past(letter.attempts, letter.waits, of_class=1, age=letter.age(now))
    allowed = patience(engine.settings.dead_letters, letter.max_retries)
    return rules.after_failure(FailureClass.TRANSIENT, None, past, allowed, now, _random)


def park_useless(engine: Engine) -> int:
    """Letters that are no longer useful wait for a person; they are not sent, whatever their breaker says."""

    def work(connection: sa.Connection) -> list[str]:
        now = engine.clock()
        late = leasing.no_longer_useful(connection, now, _CHUNK)
        for letter in late:
            why = f"no longer useful: it was so until {letter.useful_until:%Y-%m-%d %H:%M:%S} UTC"
            store.move(connection, letter, Next(State.QUARANTINED, reason=why), now=now)
        return [letter.id for letter in late]

    total = 0
    while parked := engine.database.run(work):
        for letter_id in parked:
            logger.warning("letter.quarantined", letter=letter_id, reason="no longer useful")
        total += len(parked)
    return total


def wake_forgotten(engine: Engine, names: Sequence[str]) -> None:
    def work(connection: sa.Connection) -> int:
        return sum(ordering.wake_forgotten(connection, name, _CHUNK) for name in names)

    if woken := engine.database.run(work):
        logger.info("redrive.woken", letters=woken)
