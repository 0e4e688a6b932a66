"""Keeping failures: checked, numbered, and committed before anybody is told that they are accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from regrow import counters
from regrow.dead_letters import ledger, ordering, rules, store, tombstones, vault
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.classes import STRATEGIES
from regrow.dead_letters.policies import class_of, patience, redrives_of
from regrow.dead_letters.rules import Next, Past, State
from regrow.dead_letters.store import Newest
from regrow.engine import Engine
from regrow.errors import LetterRefusedError
from regrow.failures import FailureClass
from regrow.ids import uuid7
from regrow.log_events import Each
from regrow.settings import DeadLetterSettings
from regrow.tallies import field_of

logger = structlog.get_logger(__name__)

CHUNK = 500
_random = Random()  # noqa: S311 - spreads load, hides nothing


def capture(engine: Engine, captured: Capture) -> str:
    """Keep one failure; returns its event id once it is committed. Told twice, it is kept once.

    LetterRefusedError: over the size cap. StoreUnavailableError: the database is away, nothing is kept.
    """
    return capture_many(engine, [captured])[0]


def capture_many(
    engine: Engine, captures: Sequence[Capture], *, also: Callable[[sa.Connection], None] | None = None
) -> list[str]:
    """Keep many failures, in transactions of 500; returns their event ids in order.

    ``also`` is done in the last of these transactions, and in one of its own when there is nothing to keep.

    All are checked before the first is kept. After an error, captures of earlier transactions are kept,
    and telling all of them again is safe.
    """
    for captured in captures:
        checked(engine, captured)
    for start in range(0, max(len(captures), 1 if also else 0), CHUNK):
        chunk = captures[start : start + CHUNK]
        fresh = _without_losing_races(engine, chunk, also if start + CHUNK >= len(captures) else None)
        _tell(engine, fresh)
    return [captured.event_id for captured in captures]


def _tell(engine: Engine, fresh: Sequence[tuple[str, Capture]]) -> None:
    added = Counter(captured.service for _, captured in fresh)
    counters.add_up(
        engine,
        {field_of("dlq_messages_added_total", {"service": name}): by for name, by in added.items()},
    )
    alike: dict[tuple[str, str, str], list[str]] = {}
    for letter_id, captured in fresh:
        kind = (captured.message_type, captured.service, captured.error_class)
        alike.setdefault(kind, []).append(letter_id)
    for (message_type, service, error), ids in alike.items():
        logger.info(
            "letter.captured", letter=Each(ids), message_type=message_type, service=service, error=error
        )


def checked(engine: Engine, captured: Capture) -> Capture:
    """The capture itself, if it is within bounds; LetterRefusedError when it is not. It is never cut."""
    limit = engine.settings.dead_letters.max_body_bytes
    if len(captured.body) > limit:
        raise LetterRefusedError(
            f"the message of event {captured.event_id} has {len(captured.body)} bytes; "
            f"dead_letters.max_body_bytes allows {limit}. Keep large data elsewhere and send its address."
        )
    return captured


def _without_losing_races(
    engine: Engine, chunk: Sequence[Capture], also: Callable[[sa.Connection], None] | None
) -> list[tuple[str, Capture]]:
    """Two capturers of one key may both find it new; the slower one looks again and finds it taken."""

    def work(connection: sa.Connection) -> list[tuple[str, Capture]]:
        fresh = _keep(engine, connection, chunk) if chunk else []
        if also is not None:
            also(connection)
        return fresh

    for last in (False, False, True):
        try:
            return engine.database.run(work)
        except IntegrityError:
            if last:
                raise
    raise AssertionError("unreachable")


def _keep(engine: Engine, connection: sa.Connection, chunk: Sequence[Capture]) -> list[tuple[str, Capture]]:
    now = engine.clock()
    chosen = engine.settings.dead_letters
    known = store.known_events(connection, [captured.event_id for captured in chunk])
    newest = _newest(connection, sorted({captured.idempotency_key for captured in chunk}))
    rows: dict[str, dict[str, Any]] = {}
    bodies, events = [], []
    heirs: dict[str, str] = {}  # new generations that are about whom the one before was
    fresh: list[tuple[str, Capture]] = []
    for captured in chunk:
        if captured.event_id in known:
            continue
        before = newest.get(captured.idempotency_key)
        state, generation = (before.state, before.generation) if before else (None, 0)
        following = rules.next_generation(state, generation, chosen.max_generations)
        if following is None and before is not None:
            letter_id = before.letter_id
            _join(connection, rows, letter_id, captured)
        elif following is not None:
            letter_id = uuid7(now)
            subject = before.subject if before and captured.subject is None else ""
            if subject:
                heirs[letter_id] = subject
            rows[letter_id] = _row(letter_id, captured, following, chosen, now)
            bodies.append(_body_row(letter_id, captured))
            state = State(rows[letter_id]["state"])
            newest[captured.idempotency_key] = Newest(letter_id, state, following[0], subject)
            fresh.append((letter_id, captured))
        known[captured.event_id] = letter_id
        events.append(
            {
                "event_id": captured.event_id,
                "letter_id": letter_id,
                "source": captured.source,
                "received_at": now,
            }
        )
    vault.seal_new(engine, connection, rows, bodies, heirs)
    store.insert(connection, list(rows.values()), bodies, events)
    ledger.accepted(connection, (row["service"] for row in rows.values()))
    for service, key in sorted({(new.service, new.order_key) for _, new in fresh if new.order_key}):
        ordering.park(connection, service, key)
    return fresh


def _newest(connection: sa.Connection, keys: list[str]) -> dict[str, Newest]:
    newest = store.newest_of_keys(connection, keys)
    for key, purged in tombstones.newest_of_keys(connection, keys).items():
        # An earlier generation may still be there: what is archived again is purged later.
        if key not in newest or newest[key].generation < purged.generation:
            newest[key] = purged
    return newest


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
    kind = class_of(chosen, captured.cause)
    max_retries = redrives_of(chosen, captured.max_retries, kind)
    reason = captured.quarantine or quarantine
    free = not STRATEGIES[kind].costs_attempt
    past = Past(redrives=0, waits=1 if free else 0, of_class=1, age=0.0)
    allowed = patience(chosen, max_retries)
    first = rules.after_failure(kind, captured.cause.retry_after, past, allowed, now, _random)
    after = Next(State.QUARANTINED, reason=reason) if reason else first
    due_at = after.due_at or now
    return {
        "id": letter_id,
        "idempotency_key": captured.idempotency_key,
        "generation": generation,
        "state": after.state,
        "service": captured.service,
        "message_type": captured.message_type,
        "task": captured.task,
        "task_id": captured.task_id,
        **{name: getattr(captured, name) for name in store.ORIGIN},
        "confirm": captured.confirm or chosen.confirm,
        "error_class": captured.error_class,
        "error_message": captured.error_message,
        "traceback": captured.traceback,
        "fingerprint": captured.fingerprint,
        "reason": after.reason,
        "seen": 1,
        "attempts": 0,
        "max_retries": max_retries,
        "due_at": due_at,
        "failure_class": kind,
        "priority": captured.priority,
        "rank": rules.rank_of(due_at, captured.priority, 0.0),
        "waits": past.waits,
        # What could not be run has killed nobody.
        "losses": 1 if kind is FailureClass.POISON and not captured.quarantine else 0,
        "useful_until": captured.useful_until,
        "order_key": captured.order_key,
        "first_failed_at": captured.failed_at,
        "last_failed_at": captured.failed_at,
        "created_at": now,
        "subject": captured.subject,
    }


def _body_row(letter_id: str, captured: Capture) -> dict[str, Any]:
    return {
        "letter_id": letter_id,
        "content_type": captured.content_type,
        "content_encoding": captured.content_encoding,
        "headers": dict(captured.headers),
        "body": captured.body,
    }
