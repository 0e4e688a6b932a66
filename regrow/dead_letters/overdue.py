"""What comes back by itself: letters of dead workers, unanswered, no longer useful, or forgotten in line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from weakref import WeakKeyDictionary

import sqlalchemy as sa
import structlog

from regrow.dead_letters import leasing, ordering, redrivers, rules, store
from regrow.dead_letters.policies import patience
from regrow.dead_letters.rules import AttemptOutcome, Next, Past, State
from regrow.dead_letters.second_copies import Hold
from regrow.dead_letters.store import Letter
from regrow.dead_letters.tracing import Tracing
from regrow.engine import Engine
from regrow.failures import FailureClass

logger = structlog.get_logger(__name__)

_CHUNK = 200
_LOOK_AGAIN = 60.0
"""Seconds until a letter that is waited for is looked at again."""
_looked_at: WeakKeyDictionary[Engine, dict[str, str]] = WeakKeyDictionary()
"""By service: the last letter in line that was looked at; empty: begin with the first."""
_random = Random()  # noqa: S311 - spreads load, hides nothing


@dataclass
class Late:
    """Letters whose lease or deadline has passed. ``awaited``: those that are waited for, by the reason."""

    returned: int = 0
    awaited: Counter[str] = field(default_factory=Counter)


def look_after_overdue(engine: Engine) -> Late:
    """Letters whose worker died, or whose outcome never came, wait for their next redrive or for a person.

    But no letter whose message still waits in its queue, or runs, is sent a second time meanwhile.
    """
    tracing, late = Tracing(engine), Late()
    while True:
        with engine.database.snapshot() as connection:
            unanswered = leasing.unanswered(connection, engine.clock(), _CHUNK)
            owners = leasing.lapsed_owners(connection, engine.clock())
        known = _Known(tracing.holds(unanswered) if unanswered else {}, redrivers.died(engine.redis, owners))
        moved, held = engine.database.run(
            lambda connection, known=known: _return_some(engine, connection, known)  # type: ignore[misc]
        )
        for letter, after in moved:
            if after.state == State.QUARANTINED:
                logger.warning("letter.quarantined", letter=letter.id, reason=after.reason)
        late.returned += len(moved)
        late.awaited.update(hold.why for hold in held)
        if not moved and not held:
            break
    for why, number in late.awaited.items():
        logger.info("letter.awaited", letters=number, reason=why)
    return late


@dataclass(frozen=True)
class _Known:
    """``holds``: what is known of dispatched letters, by token. ``died``: owners of leases."""

    holds: Mapping[str, Hold | None]
    died: frozenset[str]


def _return_some(
    engine: Engine, connection: sa.Connection, known: _Known
) -> tuple[list[tuple[Letter, Next]], list[Hold]]:
    """What was moved, and why others are waited for."""
    now, holds = engine.clock(), known.holds
    moved = []
    waiting: dict[Hold, list[Letter]] = {}
    for letter in store.overdue(connection, now, _CHUNK):
        token = letter.lease_token or ""
        crashes = letter.crashes
        if (
            letter.state == State.LEASED
        ):  # our worker's fault, as long as nothing says that it is the letter's
            crashes += letter.lease_owner in known.died
            died_again = crashes > letter.crashes
            outcome = AttemptOutcome.LEASE_EXPIRED
            after = rules.after_lease(crashes, now) if died_again else Next(State.PENDING, due_at=now)
        elif token not in holds:  # it came due after we had looked
            continue
        elif hold := holds[token]:
            waiting.setdefault(hold, []).append(letter)
            continue
        else:
            outcome, after = AttemptOutcome.NO_OUTCOME, _after_silence(engine, letter)
        store.move(connection, letter, after, now=now, crashes=crashes)
        store.end_attempts(connection, [token], now, outcome)
        moved.append((letter, after))
    for hold, late in waiting.items():
        leasing.hold(connection, late, hold.told, now + timedelta(seconds=_look_again(engine)))
    return moved, [hold for hold, late in waiting.items() for _ in late]


def _look_again(engine: Engine) -> float:
    return min(_LOOK_AGAIN, engine.settings.dead_letters.outcome_deadline)


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
    """Look at some of the letters that wait in line, the next ones in each run of this process."""
    seen = _looked_at.setdefault(engine, {})

    def work(connection: sa.Connection) -> int:
        woken = 0
        for name in names:
            more, seen[name] = ordering.wake_forgotten(connection, name, seen.get(name, ""), _CHUNK)
            woken += more
        return woken

    if woken := engine.database.run(work):
        logger.info("redrive.woken", letters=woken)
