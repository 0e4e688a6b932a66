"""Redriving: what is due goes home, service by service, as far as each service's circuit breaker allows."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from regrow.dead_letters import fairness, leasing, ordering, routes, rules, store
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.policies import patience, redrive_policy
from regrow.dead_letters.route import Outbound, Route
from regrow.dead_letters.rules import AttemptOutcome, Next, Past, State
from regrow.dead_letters.settling import record_failure, settle
from regrow.dead_letters.store import Leased, Letter
from regrow.engine import Engine
from regrow.errors import (
    CircuitOpenError,
    DeliveryFailedError,
    DeliveryRefusedError,
    LetterNotFoundError,
    RouteError,
    StoreUnavailableError,
)
from regrow.failures import FailureClass

logger = structlog.get_logger(__name__)

_CHUNK = 200
_UNWRITTEN = 50
"""So many letters, or those of one second, may be published before it is written that they are."""
_HANDED_OVER = {"outcome", "publish"}
_random = Random()  # noqa: S311 - spreads load, hides nothing

# Which services may not be redriven now, and for how many seconds yet.
Held = Callable[[Engine, Sequence[str]], Mapping[str, float]]


def process_batch(
    engine: Engine, batch_size: int | None = None, *, only: str | None = None, held: Held | None = None
) -> dict[str, Any]:
    """Redrive due letters in batches until none is due or ``dead_letters.drain_budget`` seconds are used.

    Returns counts of letters: returned (from dead workers), leased, dispatched, resolved (published with
    confirm="publish", or run here), failed (run here), refused (by the service's breaker, at no cost),
    released (broker away), quarantined; and held: services whose breaker is open. Safe to run twice at once.
    ``only``: this letter alone.
    """
    chosen = engine.settings.dead_letters
    held = held or breakers_open
    counted = ("leased", "dispatched", "resolved", "failed", "refused", "held", "released", "quarantined")
    done = dict.fromkeys(counted, 0)
    done = {"returned": return_overdue(engine), **done}
    done["quarantined"] += _park_useless(engine)
    if only is not None:
        return _process_one(engine, only, held, done)
    with engine.database.snapshot() as connection:
        names = leasing.services(connection)
    _wake_forgotten(engine, names)
    _random.shuffle(names)  # who comes first in a run that ends early is left to chance
    size, owed = batch_size or chosen.batch_size, dict[str, float]()
    until = time.monotonic() + chosen.drain_budget
    while names:
        waiting = held(engine, names)
        done["held"] += len(waiting)
        names = [name for name in names if name not in waiting]
        if not names:
            break
        shares, owed = fairness.share_out(size, names, owed)
        for name, share in shares.items():
            batch = _lease(engine, name, share)
            done["leased"] += len(batch)
            outcomes = _redrive(engine, batch)
            for outcome in outcomes:
                done[outcome] += 1
            if "released" in outcomes or time.monotonic() > until:
                return done
            if len(batch) < share:  # it has no more that is due
                names.remove(name)
    return done


def _process_one(engine: Engine, letter_id: str, held: Held, done: dict[str, int]) -> dict[str, int]:
    with engine.database.snapshot() as connection:
        found = store.read(connection, letter_id)
    if found is None:
        raise LetterNotFoundError(f"no dead letter has the id {letter_id!r}")
    if held(engine, [found[0].service]):
        return {**done, "held": 1}
    batch = engine.database.run(
        lambda connection: leasing.lease_one(
            connection,
            letter_id,
            owner=_owner(),
            now=engine.clock(),
            seconds=engine.settings.dead_letters.lease,
        )
    )
    done["leased"] = len(batch)
    for outcome in _redrive(engine, batch):
        done[outcome] += 1
    return done


def _lease(engine: Engine, service: str, limit: int) -> list[Leased]:
    if limit < 1:
        return []
    try:
        return engine.database.run(
            lambda connection: leasing.lease(
                connection,
                service,
                owner=_owner(),
                now=engine.clock(),
                seconds=engine.settings.dead_letters.lease,
                limit=limit,
            )
        )
    except IntegrityError:  # two workers, one order key: the next run finds it in flight
        logger.info("redrive.overtaken", service=service)
        return []


def _redrive(engine: Engine, batch: Sequence[Leased]) -> list[str]:
    outcomes: list[str] = []
    with _written(engine, outcomes) as sent:
        for leased in batch:
            if "released" in outcomes:
                # The broker is away: what is left of the batch goes back untried, and at no cost.
                outcomes.append(_release(engine, leased, "the broker is away"))
            elif (ended := _send_home(engine, leased)) in _HANDED_OVER:
                sent(leased, ended)
            else:
                outcomes.append(ended)
    return outcomes


@contextmanager
def _written(engine: Engine, outcomes: list[str]) -> Iterator[Callable[[Leased, str], None]]:
    """Write down what was published, some at a time: a transaction for each would cost more than sending it.

    A worker that dies in between leaves letters that are leased; their leases run out and they are sent a
    second time, as if it had died while publishing.
    """
    unwritten: list[tuple[Leased, str]] = []
    since = time.monotonic()

    def write() -> None:
        nonlocal since
        if unwritten:
            outcomes.extend(_write_dispatched(engine, unwritten))
            unwritten.clear()
        since = time.monotonic()

    def sent(leased: Leased, settled: str) -> None:
        unwritten.append((leased, settled))
        if len(unwritten) >= _UNWRITTEN or time.monotonic() - since > 1.0:
            write()

    try:
        yield sent
    finally:
        write()


def _write_dispatched(engine: Engine, handed_over: Sequence[tuple[Leased, str]]) -> list[str]:
    sent = [(leased.letter.id, leased.token) for leased, _ in handed_over]
    published = [(leased.letter.id, leased.token) for leased, by in handed_over if by == "publish"]

    def work(connection: sa.Connection) -> list[str]:
        now = engine.clock()
        deadline = now + timedelta(seconds=engine.settings.dead_letters.outcome_deadline)
        leasing.dispatched(connection, sent, now=now, deadline=deadline)
        # Not what came back meanwhile: its dead-letter queue may be faster than we are.
        settled = leasing.in_flight(connection, published) if published else []
        won = store.resolve_many(connection, settled, now) if settled else []
        return [letter_id for (letter_id, _), first in zip(settled, won, strict=True) if first]

    resolved = engine.database.run(work)
    for letter_id in resolved:
        logger.info("letter.resolved", letter=letter_id, by="publish")
    return ["dispatched"] * (len(sent) - len(resolved)) + ["resolved"] * len(resolved)


def _send_home(engine: Engine, leased: Leased) -> str:
    """Publish one letter, or run it here. Says what settles it where it has gone (``_HANDED_OVER``), else how
    its lease ended."""
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
    logger.info("letter.dispatched", letter=letter.id, to=route.target)
    return route.settled


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
        mine = [(letter.id, leased.token)]
        return leasing.dispatched(connection, mine, now=now, deadline=deadline) == 1

    try:
        ran = engine.breaker(route.breaker, record=(DeliveryFailedError,)).call(run)
    except CircuitOpenError as error:
        record_failure(engine, outbound.reference, str(error), Cause.of(error))
        return "refused"
    except (DeliveryRefusedError, RouteError) as error:
        return _quarantine(engine, leased, str(error))
    except DeliveryFailedError as error:
        cause = Cause.read([error.error_class], retry_after=error.retry_after)
        record_failure(engine, outbound.reference, str(error), cause)
        return "failed"
    if not ran:
        return "released"  # the lease ran out, and another worker has it
    settle(engine, outbound.reference)
    return "resolved"


def _release(engine: Engine, leased: Leased, why: str) -> str:
    seconds = redrive_policy(engine.settings.dead_letters, 1).spread(1, _random)
    after = Next(State.PENDING, due_at=engine.clock() + timedelta(seconds=seconds))
    _back(engine, leased, after, AttemptOutcome.RELEASED, why)
    return "released"


def _quarantine(engine: Engine, leased: Leased, why: str) -> str:
    _back(engine, leased, Next(State.QUARANTINED, reason=why), AttemptOutcome.FAILED, why)
    logger.warning("letter.quarantined", letter=leased.letter.id, reason=why)
    return "quarantined"


def _back(engine: Engine, leased: Leased, after: Next, outcome: AttemptOutcome, why: str) -> None:
    """Give a leased letter back, if the lease is still ours."""

    def work(connection: sa.Connection) -> None:
        now = engine.clock()
        letter = store.current(connection, leased.letter.id, leased.token)
        if letter is not None:
            store.move(connection, letter, after, now=now)
        store.end_attempts(connection, [leased.token], now, outcome, why)

    engine.database.run(work)


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


def _park_useless(engine: Engine) -> int:
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


def _wake_forgotten(engine: Engine, names: Sequence[str]) -> None:
    def work(connection: sa.Connection) -> int:
        return sum(ordering.wake_forgotten(connection, name, _CHUNK) for name in names)

    if woken := engine.database.run(work):
        logger.info("redrive.woken", letters=woken)


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
