"""What one can do with dead letters: capture them, redrive them, settle them, look at them.

A capture is accepted when its transaction is committed. A redrive leases due letters, asks the service's
circuit breaker, sends each home, and waits for its outcome; one settlement per letter, whoever tells it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from regrow import audit, counters
from regrow.dead_letters import home, rules, store
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.rules import AttemptOutcome, Next, State
from regrow.dead_letters.store import Attempt, Body, Leased, Letter
from regrow.engine import Engine
from regrow.errors import (
    CircuitOpenError,
    LetterNotFoundError,
    LetterRefusedError,
    RouteError,
    StoreUnavailableError,
    TransitionRefusedError,
)
from regrow.ids import uuid7
from regrow.retries import RetryPolicy
from regrow.settings import DeadLetterSettings

logger = structlog.get_logger(__name__)

BROKER = "regrow.broker"
"""The circuit breaker around publishing: a broker that is away is not asked again for every letter."""

_CHUNK = 200
_random = Random()  # noqa: S311 - spreads load, hides nothing

# Which services may not be redriven now, and for how many seconds yet.
Held = Callable[[Engine, Sequence[str]], Mapping[str, float]]


# Capture


def capture(engine: Engine, captured: Capture) -> str:
    """Keep one failure; returns its event id once it is committed. Told twice, it is kept once.

    LetterRefusedError: over the size cap. StoreUnavailableError: the database is away, nothing is kept.
    """
    return capture_many(engine, [captured])[0]


def capture_many(engine: Engine, captures: Sequence[Capture]) -> list[str]:
    """Keep many failures, in transactions of 200; returns their event ids in order.

    All are checked before the first is kept. After an error, captures of earlier transactions are kept,
    and telling all of them again is safe.
    """
    for captured in captures:
        checked(engine, captured)
    for start in range(0, len(captures), _CHUNK):
        chunk = captures[start : start + _CHUNK]
        fresh = _without_losing_races(engine, chunk)
        counters.add(engine, "dlq_messages_added_total", *({"service": new.service} for _, new in fresh))
        for letter_id, captured in fresh:
            logger.info(
                "letter.captured",
                letter=letter_id,
                message_type=captured.message_type,
                service=captured.service,
                error=captured.error_class,
            )
    return [captured.event_id for captured in captures]


def checked(engine: Engine, captured: Capture) -> Capture:
    """The capture itself, if it is within bounds; LetterRefusedError when it is not. It is never cut."""
    limit = engine.settings.dead_letters.max_body_bytes
    if len(captured.body) > limit:
        raise LetterRefusedError(
            f"the message of event {captured.event_id} has {len(captured.body)} bytes; "
            f"dead_letters.max_body_bytes allows {limit}. Keep large data elsewhere and send its address."
        )
    return captured


def _without_losing_races(engine: Engine, chunk: Sequence[Capture]) -> list[tuple[str, Capture]]:
    """Two capturers of one key may both find it new; the slower one looks again and finds it taken."""
    for last in (False, False, True):
        try:
            return engine.database.run(lambda connection: _keep(engine, connection, chunk))
        except IntegrityError:
            if last:
                raise
    raise AssertionError("unreachable")


def _keep(engine: Engine, connection: sa.Connection, chunk: Sequence[Capture]) -> list[tuple[str, Capture]]:
    now = engine.clock()
    chosen = engine.settings.dead_letters
    known = store.known_events(connection, [captured.event_id for captured in chunk])
    newest = store.newest_of_keys(connection, sorted({captured.idempotency_key for captured in chunk}))
    rows: dict[str, dict[str, Any]] = {}
    bodies, events = [], []
    fresh: list[tuple[str, Capture]] = []
    for captured in chunk:
        if captured.event_id in known:
            continue
        letter_id, state, generation = newest.get(captured.idempotency_key, (None, None, 0))
        following = rules.next_generation(state, generation, chosen.max_generations)
        if following is None and letter_id is not None:
            _join(connection, rows, letter_id, captured)
        elif following is not None:
            letter_id = uuid7(now)
            rows[letter_id] = _row(letter_id, captured, following, chosen, now)
            bodies.append(_body_row(letter_id, captured))
            newest[captured.idempotency_key] = (letter_id, State(rows[letter_id]["state"]), following[0])
            fresh.append((letter_id, captured))
        known[captured.event_id] = str(letter_id)
        events.append(
            {
                "event_id": captured.event_id,
                "letter_id": letter_id,
                "source": captured.source,
                "received_at": now,
            }
        )
    store.insert(connection, list(rows.values()), bodies, events)
    return fresh


def _join(
    connection: sa.Connection, rows: dict[str, dict[str, Any]], letter_id: str, captured: Capture
) -> None:
    """One more occurrence of a letter that is not settled yet."""
    if letter_id in rows:  # made a moment ago, in this very chunk
        rows[letter_id]["seen"] += 1
        rows[letter_id]["last_failed_at"] = max(rows[letter_id]["last_failed_at"], captured.failed_at)
    else:
        store.seen_again(connection, letter_id, 1, captured.failed_at)


def _row(
    letter_id: str,
    captured: Capture,
    following: tuple[int, str | None],
    chosen: DeadLetterSettings,
    now: datetime,
) -> dict[str, Any]:
    generation, quarantine = following
    max_retries = chosen.max_retries if captured.max_retries is None else captured.max_retries
    reason = captured.quarantine or quarantine
    first = rules.after_failure(0, policy(chosen, max_retries), now, _random)
    after = Next(State.QUARANTINED, reason=reason) if reason else first
    return {
        "id": letter_id,
        "idempotency_key": captured.idempotency_key,
        "generation": generation,
        "state": after.state,
        "service": captured.service,
        "message_type": captured.message_type,
        "task": captured.task,
        "task_id": captured.task_id,
        "queue": captured.queue,
        "confirm": captured.confirm or chosen.confirm,
        "error_class": captured.error_class,
        "error_message": captured.error_message,
        "traceback": captured.traceback,
        "fingerprint": captured.fingerprint,
        "reason": after.reason,
        "seen": 1,
        "attempts": 0,
        "max_retries": max_retries,
        "due_at": after.due_at or now,
        "first_failed_at": captured.failed_at,
        "last_failed_at": captured.failed_at,
        "created_at": now,
    }


def _body_row(letter_id: str, captured: Capture) -> dict[str, Any]:
    return {
        "letter_id": letter_id,
        "content_type": captured.content_type,
        "content_encoding": captured.content_encoding,
        "headers": dict(captured.headers),
        "body": captured.body,
    }


def policy(chosen: DeadLetterSettings, max_retries: int) -> RetryPolicy:
    """When a letter is due again: exponential, half of each delay random, so that a crowd spreads out."""
    return RetryPolicy(
        max_retries=max_retries,
        base_delay=chosen.base_delay,
        max_delay=chosen.max_delay,
        strategy="exponential",
        jitter="equal",
    )


# Redrive


def process_batch(
    engine: Engine, batch_size: int | None = None, *, only: str | None = None, held: Held | None = None
) -> dict[str, Any]:
    """Redrive due letters in batches until none is due or ``dead_letters.drain_budget`` seconds are used.

    Returns counts: returned (from dead workers), leased, dispatched, resolved (published with
    confirm="publish"), held (breaker open), released (broker away), quarantined. Safe to run twice at once.
    """
    chosen = engine.settings.dead_letters
    size = batch_size or chosen.batch_size
    done = dict.fromkeys(("leased", "dispatched", "resolved", "held", "released", "quarantined"), 0)
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
    letter, body = leased.letter, leased.body
    if not rules.may_publish(engine.clock(), letter.lease_until, engine.settings.dead_letters.lease):
        again = Next(State.PENDING, due_at=engine.clock())
        _back(engine, leased, again, AttemptOutcome.RELEASED, "the lease ran short before its turn came")
        return "released"
    try:
        where = home.find_home(letter.task, letter.queue, letter.message_type, _routes(engine))
        message = home.compose(
            where,
            reference=home.attempt_reference(letter.id, leased.token),
            letter_id=letter.id,
            task_id=letter.task_id,
            body=body.body,
            content_type=body.content_type,
            content_encoding=body.content_encoding,
            headers=body.headers,
        )
        engine.breaker(BROKER, record=(StoreUnavailableError,)).call(
            engine.sender.send_home, message, queue=where.queue
        )
    except RouteError as error:
        return _quarantine(engine, leased, str(error))
    except (StoreUnavailableError, CircuitOpenError) as error:
        return _release(engine, leased, str(error))

    def confirm(connection: sa.Connection) -> str:
        now = engine.clock()
        deadline = now + timedelta(seconds=engine.settings.dead_letters.outcome_deadline)
        store.dispatched(connection, letter.id, leased.token, now=now, deadline=deadline)
        if letter.confirm == "publish":
            return "resolved" if store.resolve(connection, letter.id, leased.token, now) else "dispatched"
        return "dispatched"

    outcome = engine.database.run(confirm)
    logger.info("letter.dispatched", letter=letter.id, queue=where.queue, task=where.task)
    if outcome == "resolved":
        logger.info("letter.resolved", letter=letter.id, by="publish")
    return outcome


def _hold(engine: Engine, leased: Leased, seconds: float) -> str:
    due = engine.clock() + timedelta(seconds=max(1.0, seconds) * _random.uniform(1.0, 1.2))
    _back(engine, leased, Next(State.PENDING, due_at=due), AttemptOutcome.HELD, "circuit breaker open")
    return "held"


def _release(engine: Engine, leased: Leased, why: str) -> str:
    after = rules.after_failure(0, policy(engine.settings.dead_letters, 1), engine.clock(), _random)
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
            after = rules.after_failure(letter.attempts, policy(chosen, letter.max_retries), now, _random)
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


def _routes(engine: Engine) -> Mapping[str, tuple[str, str]]:
    return {kind: (to.task, to.queue) for kind, to in engine.settings.dead_letters.routes.items()}


# Outcomes


def settle(engine: Engine, attempt: str) -> bool:
    """The redriven message succeeded (``attempt``: LETTER:TOKEN). False: settled before, or gone."""
    letter_id, token = home.parse_reference(attempt)
    won = engine.database.run(lambda connection: store.resolve(connection, letter_id, token, engine.clock()))
    if won:
        logger.info("letter.resolved", letter=letter_id, by="outcome")
    return won


def record_failure(engine: Engine, attempt: str, error: str | None = None) -> State | None:
    """The redriven message failed again. Counts for the current attempt alone; None: it was not that."""
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
            made, policy(engine.settings.dead_letters, letter.max_retries), now, _random
        )
        store.move(connection, letter, after, now=now, attempts_made=made)
        store.end_attempt(connection, token, now, AttemptOutcome.FAILED, error)
        return after

    after = engine.database.run(work)
    if after is not None and after.state == State.QUARANTINED:
        logger.warning("letter.quarantined", letter=letter_id, reason=after.reason)
    return None if after is None else after.state


# By hand


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
        store.move(connection, letter, Next(State.PENDING, due_at=now), now=now)
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


def cleanup(engine: Engine, max_age_days: int | None = None) -> dict[str, Any]:
    """Purge letters settled more than ``max_age_days`` ago. Unsettled ones are never deleted."""
    days = engine.settings.dead_letters.max_age_days if max_age_days is None else max_age_days
    if days < 0:
        raise TransitionRefusedError(f"max_age_days = {days}: say 0 or more.")
    before = engine.clock() - timedelta(days=days)
    purged = 0
    while went := engine.database.run(lambda connection: store.purge_settled(connection, before, 500)):
        purged += went
    return {"purged": purged, "older_than_days": days}


# Reading


@dataclass(frozen=True)
class LetterDetails:
    letter: Letter
    body: Body
    attempts: tuple[Attempt, ...]

    @property
    def text(self) -> str:
        """The body for people; bytes that are no text are shown as escapes."""
        return self.body.body.decode("utf-8", "backslashreplace")


def show(engine: Engine, letter_or_event: str) -> LetterDetails:
    """One letter with its body and every attempt; either id will do."""
    with engine.database.snapshot() as connection:
        letter_id = store.find_id(connection, letter_or_event)
        found = store.read(connection, letter_id) if letter_id else None
    if found is None:
        raise LetterNotFoundError(f"no dead letter or event has the id {letter_or_event!r}")
    letter, body, history = found
    return LetterDetails(letter, body, tuple(history))


def list_letters(
    engine: Engine,
    *,
    state: str | None = None,
    service: str | None = None,
    message_type: str | None = None,
    limit: int = 50,
    before: str | None = None,
) -> list[Letter]:
    """Newest first; ``before`` is the last id of the page before."""
    if state is not None and state not in {s.value for s in State}:
        raise LetterNotFoundError(f"no such state: {state!r}. There are {', '.join(State)}.")
    with engine.database.snapshot() as connection:
        return store.page(
            connection,
            state=State(state) if state else None,
            service=service,
            message_type=message_type,
            limit=max(1, min(limit, 1_000)),
            before=before,
        )


def counts(engine: Engine) -> dict[str, int]:
    """Letters by state; every state is named."""
    with engine.database.snapshot() as connection:
        return store.counts(connection)


def oldest_pending(engine: Engine) -> datetime | None:
    """When the oldest letter that is not settled failed first; None when all are settled."""
    with engine.database.snapshot() as connection:
        return store.oldest_unsettled(connection)


def flow(engine: Engine, since: datetime, until: datetime) -> dict[str, int]:
    """Events captured, letters resolved and discarded, in [since, until)."""
    with engine.database.snapshot() as connection:
        return store.flow(connection, since, until)


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
