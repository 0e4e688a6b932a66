"""Redriving: what is due goes home, service by service, as far as each service's circuit breaker allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from regrow.dead_letters import fairness, leasing, overdue, paces, redrivers, routes, rules, store, vault
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.gates import Gates, ask_breakers
from regrow.dead_letters.pacing import Gate
from regrow.dead_letters.policies import redrive_policy
from regrow.dead_letters.route import Outbound, Route
from regrow.dead_letters.routes import BROKER
from regrow.dead_letters.rules import AttemptOutcome, Next, State
from regrow.dead_letters.settling import record_failure, settle
from regrow.dead_letters.store import Leased
from regrow.engine import Engine
from regrow.errors import (
    CircuitOpenError,
    DeliveryFailedError,
    DeliveryRefusedError,
    LetterNotFoundError,
    RouteError,
    StoreUnavailableError,
)
from regrow.log_events import Each

logger = structlog.get_logger(__name__)

_ASK_EVERY = 0.5
"""Seconds between two looks at the circuit breakers."""
_CLOSED = Gate()
_BEHIND_ITS_KEY = 1.0
"""Seconds until a service is asked again whose due letters all wait for another one of their order key."""
_UNWRITTEN = 50
"""So many letters, or those of one second, may be published before it is written that they are."""
_HANDED_OVER = {"outcome", "publish"}
_COUNTED = (
    *("leased", "dispatched", "resolved", "failed", "refused", "released", "quarantined"),  # letters
    *("held", "unfinished"),  # services
)
_random = Random()  # noqa: S311 - spreads load, hides nothing


def process_batch(
    engine: Engine,
    batch_size: int | None = None,
    *,
    only: str | None = None,
    held: Gates | None = None,
    pause: Callable[[float], None] = time.sleep,
    elapsed: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Redrive due letters in batches until none is due or ``dead_letters.drain_budget`` seconds are used.

    Returns counts of letters: returned (from dead workers), awaited (late, and not sent again because their
    message may still be there), leased, dispatched, resolved (published with
    confirm="publish", or run here), failed (run here), refused (by the service's breaker, at no cost),
    released (broker away), quarantined; of services: held (breaker open), unfinished (more is due, and it is
    worth another run at once). Safe to run twice at once.
    ``only``: this letter alone, whatever the rate of its service is.
    """
    chosen = engine.settings.dead_letters
    done = dict.fromkeys(_COUNTED, 0)
    late = overdue.look_after_overdue(engine)
    done = {"returned": late.returned, "awaited": late.awaited.total(), **done}
    done["quarantined"] += overdue.park_useless(engine)
    ask = held or ask_breakers
    with redrivers.at_work(engine.redis) as owner:
        if only is not None:
            return _process_one(engine, only, ask, owner, done)
        with engine.database.snapshot() as connection:
            names = leasing.services(connection)
        overdue.wake_forgotten(engine, names)
        _random.shuffle(names)  # who comes first in a run that ends early is left to chance
        _drain(engine, names, batch_size or chosen.batch_size, ask, _Run(owner, elapsed, pause), done)
    return done


@dataclass(frozen=True)
class _Run:
    """Whose leases they are, what the budget is measured by, in seconds, and how to wait."""

    owner: str
    elapsed: Callable[[], float]
    pause: Callable[[float], None]


def _drain(
    engine: Engine, names: Sequence[str], size: int, ask: Gates, run: _Run, done: dict[str, int]
) -> None:
    """Serve the services in turns until none has a due letter that may go within the budget."""
    budget = engine.settings.dead_letters.drain_budget
    began = run.elapsed()
    until = began + budget
    ready_at = dict.fromkeys(names, began)
    owed, gates, asked_at = dict[str, float](), dict[str, Gate](), -math.inf
    while max(run.elapsed(), min(ready_at.values(), default=math.inf)) <= until:
        now = run.elapsed()
        if now - asked_at >= _ASK_EVERY:
            gates, asked_at = dict(ask(engine, list(ready_at))), now
            done["held"] += _hold(engine, ready_at, gates)
        ready = [name for name, at in ready_at.items() if at <= now]
        if not ready:
            if ready_at:
                run.pause(max(0.01, min(1.0, min(ready_at.values()) - now)))
            continue
        shares, owed = fairness.share_out(size, ready, owed)
        for name, share in shares.items():
            turn = _turn(engine, name, gates.get(name, _CLOSED), share, run.owner)
            _note(turn, name, run.elapsed(), ready_at, done)
            if BROKER in turn.away:
                return
            if run.elapsed() > until:
                break
    if run.elapsed() - began >= budget / 2:  # else what is left is so slow that the schedule will do
        done["unfinished"] = len(ready_at)


def _note(turn: _Turn, name: str, now: float, ready_at: dict[str, float], done: dict[str, int]) -> None:
    done["leased"] += turn.leased
    for outcome in turn.outcomes:
        done[outcome] += 1
    # Another broker's outage is that of the services that go there alone.
    if turn.away or turn.wait is None:
        del ready_at[name]
    else:
        ready_at[name] = now + turn.wait


def _hold(engine: Engine, ready_at: dict[str, float], gates: Mapping[str, Gate]) -> int:
    """Leave out the services whose breaker is open; no letter of theirs is touched."""
    held = [name for name in ready_at if gates.get(name, _CLOSED).state == "open"]
    for name in held:
        paces.take(engine, name, gates[name], 0)  # so that the next run knows that it comes from an outage
        del ready_at[name]
    return len(held)


@dataclass(frozen=True)
class _Turn:
    """What one service's turn came to. ``wait``: seconds until its next one; None: nothing more is due.
    ``away``: the brokers that did not answer, by their breakers."""

    leased: int
    outcomes: Sequence[str]
    wait: float | None
    away: frozenset[str] = frozenset()


def _turn(engine: Engine, service: str, gate: Gate, share: int, owner: str) -> _Turn:
    if share < 1:
        return _Turn(0, (), 0.0)
    with engine.database.snapshot() as connection:
        if not leasing.any_due(connection, service, engine.clock()):
            return _Turn(0, (), None)
    given = paces.take(engine, service, gate, share)
    if not given.granted:
        return _Turn(0, (), given.wait)
    batch, left = _lease(engine, service, given.granted, owner)
    if len(batch) < given.granted:
        paces.give_back(engine, service, given.granted - len(batch))
    away: set[str] = set()
    outcomes = _redrive(engine, batch, away)
    if len(batch) == given.granted:
        wait: float | None = given.wait
    else:
        # When nothing could be taken, what was left waits for one of its key that is on its way.
        wait = (0.0 if batch else _BEHIND_ITS_KEY) if left else None
    return _Turn(len(batch), outcomes, wait, frozenset(away))


def _process_one(
    engine: Engine, letter_id: str, ask: Gates, owner: str, done: dict[str, int]
) -> dict[str, int]:
    with engine.database.snapshot() as connection:
        found = store.read(connection, letter_id)
    if found is None:
        raise LetterNotFoundError(f"no dead letter has the id {letter_id!r}")
    service = found[0].service
    if ask(engine, [service]).get(service, _CLOSED).state == "open":
        return {**done, "held": 1}
    batch = engine.database.run(
        lambda connection: leasing.lease_one(
            connection,
            letter_id,
            owner=owner,
            now=engine.clock(),
            seconds=engine.settings.dead_letters.lease,
        )
    )
    done["leased"] = len(batch)
    for outcome in _redrive(engine, batch, set()):
        done[outcome] += 1
    return done


def _lease(engine: Engine, service: str, limit: int, owner: str) -> tuple[list[Leased], bool]:
    """The batch, and whether others were left that may go now."""
    try:
        return engine.database.run(
            lambda connection: leasing.lease_some(
                connection,
                service,
                owner=owner,
                now=engine.clock(),
                seconds=engine.settings.dead_letters.lease,
                limit=limit,
            )
        )
    except IntegrityError:  # two workers, one order key: the next run finds it in flight
        logger.info("redrive.overtaken", service=service)
        return [], False


def _redrive(engine: Engine, batch: Sequence[Leased], away: set[str]) -> list[str]:
    """How each ended. ``away`` learns the breakers of the brokers that did not answer."""
    outcomes: list[str] = []
    with _written(engine, outcomes) as sent:
        for place, leased in enumerate(batch):
            try:
                ended = _send_home(engine, leased, away)
            except SystemExit:  # we are told to end; whoever goes on need not wait for our leases
                for unsent in batch[place + 1 :]:
                    _release_at_once(engine, unsent, "its worker was told to end")
                raise
            if ended in _HANDED_OVER:
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
        return store.resolve_many(connection, settled, now).ids if settled else []

    resolved = engine.database.run(work)
    if resolved:
        logger.info("letter.resolved", letter=Each(resolved), by="publish")
    return ["dispatched"] * (len(sent) - len(resolved)) + ["resolved"] * len(resolved)


def _send_home(engine: Engine, leased: Leased, away: set[str]) -> str:
    """Publish one letter, or run it here. Says what settles it where it has gone (``_HANDED_OVER``), else how
    its lease ended."""
    letter = leased.letter
    if not rules.may_publish(engine.clock(), letter.lease_until, engine.settings.dead_letters.lease):
        _release_at_once(engine, leased, "the lease ran short before its turn came")
        return "released"
    try:
        leased = vault.opened(engine, leased)
        route = routes.find(engine, letter)
        if route.runs_here:
            return _run_here(engine, leased, route)
        _publish(engine, leased, route, away)
    except RouteError as error:
        return _quarantine(engine, leased, str(error))
    except (StoreUnavailableError, CircuitOpenError) as error:
        return _release(engine, leased, str(error))
    except Exception as error:
        # Else it would end this run, and be the first to go in the next one, for ever.
        logger.exception("letter.not_sent", letter=letter.id)
        why = f"{type(error).__name__}: {error}"
        record_failure(engine, Outbound.of(leased).reference, why, Cause.of(error))
        return "failed"
    logger.info("letter.dispatched", letter=letter.id, to=route.target)
    return route.settled


def _publish(engine: Engine, leased: Leased, route: Route, away: set[str]) -> None:
    """Hand it to its broker, which is not asked again in this turn once it was away."""
    if route.breaker in away:
        raise StoreUnavailableError("the broker is away")
    try:
        engine.breaker(route.breaker, record=(StoreUnavailableError,)).call(route.send, Outbound.of(leased))
    except (StoreUnavailableError, CircuitOpenError):
        away.add(route.breaker)
        raise


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
        record_failure(engine, outbound.reference, str(error), Cause.of_delivery(error))
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


def _release_at_once(engine: Engine, leased: Leased, why: str) -> None:
    _back(engine, leased, Next(State.PENDING, due_at=engine.clock()), AttemptOutcome.RELEASED, why)


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
