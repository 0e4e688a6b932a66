"""Redriving: lease what is due, ask the service's circuit breaker, send it home, wait for its outcome."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import sqlalchemy as sa
import structlog

from regrow.dead_letters import routes, rules, store
from regrow.dead_letters.policies import redrive_policy
from regrow.dead_letters.route import Outbound, Route
from regrow.dead_letters.rules import AttemptOutcome, Next, State
from regrow.dead_letters.settling import record_failure, settle
from regrow.dead_letters.store import Leased, Letter
from regrow.engine import Engine
from regrow.errors import (
    CircuitOpenError,
    DeliveryFailedError,
    DeliveryRefusedError,
    RouteError,
    StoreUnavailableError,
)

logger = structlog.get_logger(__name__)

_CHUNK = 200
_random = Random()  # noqa: S311 - spreads load, hides nothing

# Which services may not be redriven now, and for how many seconds yet.
Held = Callable[[Engine, Sequence[str]], Mapping[str, float]]


def process_batch(
    engine: Engine, batch_size: int | None = None, *, only: str | None = None, held: Held | None = None
) -> dict[str, Any]:
    """Redrive due letters in batches until none is due or ``dead_letters.drain_budget`` seconds are used.

    Returns counts: returned (from dead workers), leased, dispatched, resolved (published with
    confirm="publish", or run here), failed (run here), held (breaker open), released (broker away),
    quarantined. Safe to run twice at once.
    """
    chosen = engine.settings.dead_letters
    size = batch_size or chosen.batch_size
    counted = ("leased", "dispatched", "resolved", "failed", "held", "released", "quarantined")
    done = dict.fromkeys(counted, 0)
    done = {"returned": return_overdue(engine), **done}
    until = time.monotonic() + chosen.drain_budget
    while True:
        batch = engine.database.run(
            lambda connection: store.lease(
                connection,
                owner=_owner(),
                now=engine.clock(),
                seconds=chosen.lease,
                limit=size,
                only=only,
            )
        )
        done["leased"] += len(batch)
        outcomes = _redrive(engine, batch, held or breakers_open)
        for outcome in outcomes:
            done[outcome] += 1
        if len(batch) < size or "released" in outcomes or time.monotonic() > until:
            return done


def _redrive(engine: Engine, batch: Sequence[Leased], held: Held) -> list[str]:
    waiting = held(engine, sorted({leased.letter.service for leased in batch})) if batch else {}
    outcomes: list[str] = []
    for leased in batch:
        if leased.letter.service in waiting:
            outcomes.append(_hold(engine, leased, waiting[leased.letter.service]))
        elif "released" in outcomes:
            # The broker is away: what is left of the batch goes back untried, and at no cost.
            outcomes.append(_release(engine, leased, "the broker is away"))
        else:
            outcomes.append(_send_home(engine, leased))
    return outcomes


def _send_home(engine: Engine, leased: Leased) -> str:
    letter = leased.letter
    if not rules.may_publish(engine.clock(), letter.lease_until, engine.settings.dead_letters.lease):
        again = Next(State.PENDING, due_at=engine.clock())
        _back(engine, leased, again, AttemptOutcome.RELEASED, "the lease ran short before its turn came")
        return "released"
    try:
        route = routes.find(engine, letter)
        if route.runs_here:
            return _run_here(engine, leased, route)
        engine.breaker(route.breaker, record=(StoreUnavailableError,)).call(route.send, Outbound.of(leased))
    except RouteError as error:
        return _quarantine(engine, leased, str(error))
    except (StoreUnavailableError, CircuitOpenError) as error:
        return _release(engine, leased, str(error))

    def confirm(connection: sa.Connection) -> str:
        now = engine.clock()
        deadline = now + timedelta(seconds=engine.settings.dead_letters.outcome_deadline)
        store.dispatched(connection, letter.id, leased.token, now=now, deadline=deadline)
        if route.settled == "publish":
            return "resolved" if store.resolve(connection, letter.id, leased.token, now) else "dispatched"
        return "dispatched"

    outcome = engine.database.run(confirm)
    logger.info("letter.dispatched", letter=letter.id, to=route.target)
    if outcome == "resolved":
        logger.info("letter.resolved", letter=letter.id, by="publish")
    return outcome


def _run_here(engine: Engine, leased: Leased, route: Route) -> str:
    """Run a letter in this process, guarded by its service's breaker, and settle it by what came of it.

    It is counted as dispatched before it runs: one that kills its worker each time is not run for ever.
    """
    letter, outbound = leased.letter, Outbound.of(leased)

    def run() -> bool:
        if not engine.database.run(begin):
            return False
        logger.info("letter.dispatched", letter=letter.id, to=route.target)
        route.send(outbound)
        return True

    def begin(connection: sa.Connection) -> bool:
        now = engine.clock()
        deadline = now + timedelta(seconds=route.longest)
        return store.dispatched(connection, letter.id, leased.token, now=now, deadline=deadline)

    try:
        ran = engine.breaker(route.breaker, record=(DeliveryFailedError,)).call(run)
    except CircuitOpenError as error:
        return _hold(engine, leased, error.retry_after)
    except (DeliveryRefusedError, RouteError) as error:
        return _quarantine(engine, leased, str(error))
    except DeliveryFailedError as error:
        record_failure(engine, outbound.reference, str(error), retry_after=error.retry_after)
        return "failed"
    if not ran:
        return "released"  # the lease ran out, and another worker has it
    settle(engine, outbound.reference)
    return "resolved"


def _hold(engine: Engine, leased: Leased, seconds: float) -> str:
    due = engine.clock() + timedelta(seconds=max(1.0, seconds) * _random.uniform(1.0, 1.2))
    free = leased.letter.attempts
    _back(engine, leased, Next(State.PENDING, due_at=due), AttemptOutcome.HELD, "circuit breaker open", free)
    return "held"


def _release(engine: Engine, leased: Leased, why: str) -> str:
    after = rules.after_failure(0, redrive_policy(engine.settings.dead_letters, 1), engine.clock(), _random)
    _back(engine, leased, after, AttemptOutcome.RELEASED, why)
    return "released"


def _quarantine(engine: Engine, leased: Leased, why: str) -> str:
    _back(engine, leased, Next(State.QUARANTINED, reason=why), AttemptOutcome.FAILED, why)
    logger.warning("letter.quarantined", letter=leased.letter.id, reason=why)
    return "quarantined"


def _back(
    engine: Engine,
    leased: Leased,
    after: Next,
    outcome: AttemptOutcome,
    why: str,
    attempts_made: int | None = None,
) -> None:
    """Give a leased letter back, if the lease is still ours."""

    def work(connection: sa.Connection) -> None:
        now = engine.clock()
        letter = store.current(connection, leased.letter.id, leased.token)
        if letter is not None:
            store.move(connection, letter, after, now=now, attempts_made=attempts_made)
        store.end_attempt(connection, leased.token, now, outcome, why)

    engine.database.run(work)


def return_overdue(engine: Engine) -> int:
    """Letters whose worker died, or whose outcome never came, wait for their next redrive or for a person."""
    chosen = engine.settings.dead_letters

    def work(connection: sa.Connection) -> list[tuple[Letter, Next]]:
        now = engine.clock()
        moved = []
        for letter in store.overdue(connection, now, _CHUNK):
            leased = letter.state == State.LEASED
            outcome = AttemptOutcome.LEASE_EXPIRED if leased else AttemptOutcome.NO_OUTCOME
            after = rules.after_failure(
                letter.attempts, redrive_policy(chosen, letter.max_retries), now, _random
            )
            if leased:  # our worker's fault, not the letter's: due again at once
                after = Next(State.PENDING, due_at=now)
            store.move(connection, letter, after, now=now)
            store.end_attempt(connection, letter.lease_token or "", now, outcome)
            moved.append((letter, after))
        return moved

    moved = engine.database.run(work)
    for letter, after in moved:
        if after.state == State.QUARANTINED:
            logger.warning("letter.quarantined", letter=letter.id, reason=after.reason)
    return len(moved)


def breakers_open(engine: Engine, services: Sequence[str]) -> Mapping[str, float]:
    """Services whose breaker is open, and the seconds until a try is worth it. Redis away: none is known.

    A letter that is sent into an open breaker is refused by the app's own breaker and comes back; a breaker
    that nobody can see must not stop every redrive.
    """
    from regrow import breakers

    waiting: dict[str, float] = {}
    try:
        for name in services:
            status = breakers.show(engine.redis, name)
            if status is not None and status.state == "open":
                forced = engine.settings.breaker(name).recovery_timeout  # only a person knows how long
                waiting[name] = forced if status.retry_after is None else status.retry_after
    except StoreUnavailableError as error:
        logger.warning("breakers.unknown", error=str(error))
    return waiting


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
