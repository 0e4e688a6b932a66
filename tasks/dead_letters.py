"""The task API of dead letters. Any Celery app reaches it by name, on the queue ``regrow.capture``::

    app.send_task("regrow.dead_letters.capture", [message], {"error": "..."}, queue="regrow.capture")

What brings letters in or settles them must not be lost: it waits out an absent database by going back to
the broker, and what cannot be kept as it is goes to a file of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from celery import Task, current_task, shared_task
from celery.exceptions import Reject
from redis.exceptions import RedisError

from regrow.celery import redeliveries
from regrow.dead_letters import service, unfiled
from regrow.dead_letters.captured import Capture, from_wire, of_message
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.spool_parcels import Parcel
from regrow.engine import Engine, get_engine
from regrow.errors import DiskUnavailableError, LetterRefusedError, StoreUnavailableError
from regrow.jobs import record

logger = structlog.get_logger(__name__)
T = TypeVar("T")

# Short, because a waiting task keeps a child from other work; the message goes back to the broker after it.
_PAUSE = 1.0


@shared_task(bind=True, name="regrow.dead_letters.capture", ignore_result=False)
def capture(self: Task[Any, Any], /, message: Any = None, **options: Any) -> str | None:
    """Keep one failed message; the event id is the result (None: it could not be kept as a letter).

    ``message`` and ``options`` are those of :func:`regrow.dead_letters.capture`; or ``capture=`` is what
    :func:`regrow.dead_letters.captured.to_wire` wrote.
    """
    call = Call(str(self.request.id), {"message": message, **options}, self.request.retries)
    return capture_together([call])[0]


@dataclass(frozen=True)
class Call:
    """One message of ``capture``: the id of its task, its arguments, and how often it was retried."""

    task_id: str
    payload: Mapping[str, Any]
    retries: int = 0


def capture_together(calls: Sequence[Call]) -> list[str | None]:
    """What ``capture`` does, for many of its messages in one transaction; their results in order.

    Reject: the database is away; all of them belong back in their queue. DiskUnavailableError: one of several
    needs a file that the disk does not take; none is kept, and each is to be run by itself.
    """
    engine = get_engine()
    kept = _or_back_to_the_broker(
        lambda: [_kept_or_unfiled(engine, call.payload, call.task_id) for call in calls], calls
    )
    good = [captured for captured in kept if captured is not None]
    _or_back_to_the_broker(lambda: service.capture_many(engine, good), calls)
    return [None if captured is None else captured.event_id for captured in kept]


@shared_task(bind=True, name="regrow.dead_letters.capture_many", ignore_result=False)
def capture_many(self: Task[Any, Any], /, messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keep many failed messages in few transactions; each is a mapping of ``capture``'s arguments.

    The event ids are the result, in order. One that cannot be kept holds up none of the others: when the disk
    does not take the file that it needs, the others are committed before the message goes back to the broker,
    and are known by their event ids when it comes again.
    """
    return _or_back_to_the_broker(lambda: _keep_many(get_engine(), self.request.id, messages))


def _keep_many(engine: Engine, task_id: str | None, messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """DiskUnavailableError: all are committed but those that need a file, of which some have none."""
    good: list[Capture] = []
    full: DiskUnavailableError | None = None
    for number, payload in enumerate(messages):
        try:
            captured = _kept_or_unfiled(engine, payload, f"{task_id}:{number}")
        except DiskUnavailableError as error:
            full = error
        else:
            good += [captured] if captured is not None else []
    kept = service.capture_many(engine, good)
    if full is not None:
        raise full
    return kept


@shared_task(name="regrow.dead_letters.receive")
def receive(parcel: Mapping[str, Any]) -> None:
    """Keep what an app's spool sent; the receipt is published when it is committed."""
    engine = get_engine()
    try:
        known = Parcel.from_wire(parcel)
    except LetterRefusedError as error:
        # Without a receipt the app sends it again; to a worker that can read it, some day. But where the
        # broker's word is the receipt, this is all that is left of it.
        text = json.dumps(parcel, sort_keys=True, default=repr)
        event = f"parcel:{hashlib.sha256(text.encode()).hexdigest()}"
        refused = error
        _or_back_to_the_broker(lambda: unfiled.write(engine.settings.home, event, parcel, refused))
        return
    _or_back_to_the_broker(lambda: service.receive(engine, known))


@shared_task(name="regrow.dead_letters.settle")
def settle(attempt: str) -> None:
    """A redriven message succeeded; sent by its own app's worker."""
    _or_back_to_the_broker(lambda: service.settle(get_engine(), attempt))


@shared_task(name="regrow.dead_letters.settle_many")
def settle_many(attempts: Sequence[str]) -> None:
    """Many redriven messages succeeded; sent by whoever collects their outcomes."""
    _or_back_to_the_broker(lambda: service.settle_many(get_engine(), attempts))


@shared_task(name="regrow.dead_letters.record_failure")
def record_failure(
    attempt: str, error: str | None = None, cause: Mapping[str, Any] | None = None, **_: Any
) -> None:
    """A redriven message failed again; sent by its own app's worker.

    ``cause``: ``lineage`` (dotted names of the error's class and bases), ``told`` and ``retry_after``, as far
    as that worker knows them.
    """
    why = Cause.of_wire(cause)
    _or_back_to_the_broker(lambda: service.record_failure(get_engine(), attempt, error, why))


@shared_task(name="regrow.dead_letters.process_dead_letter_queue_batch")
def process_dead_letter_queue_batch(batch_size: int | None = None, line: str | None = None) -> dict[str, Any]:
    """The scheduled redrive: everything that is due, in batches. A backlog goes on in a run right after this
    one, of the same ``line``."""
    engine = get_engine()
    with record(engine, "process_dead_letter_queue_batch") as run:
        run.summary = service.process_batch(engine, batch_size)
        run.outcome = "partial" if run.summary["released"] else "succeeded"
    if run.summary["unfinished"]:
        service.go_on(engine, batch_size, line)
    return run.summary


@shared_task(name="regrow.dead_letters.process_dead_letter_queue_task", ignore_result=False)
def process_dead_letter_queue_task(batch_size: int = 10) -> dict[str, Any]:
    """The same at once, for whoever asks; the counts are the result."""
    return process_dead_letter_queue_batch(batch_size)


@shared_task(name="regrow.dead_letters.retry_message", ignore_result=False)
def retry_message(letter_id: str, actor: str = "task API", reason: str = "") -> bool:
    """Redrive one letter now (its id or an event's). The result says whether it was sent."""
    engine = get_engine()
    letter = service.retry(engine, letter_id, actor=actor, reason=reason)
    done = service.process_batch(engine, 1, only=letter.id)
    return bool(done["dispatched"] or done["resolved"])


@shared_task(name="regrow.dead_letters.get_dlq_messages", ignore_result=False)
def get_dlq_messages(limit: int = 100, state: str | None = None) -> list[dict[str, Any]]:
    """Dead letters, newest first, without their bodies; times are ISO 8601 in UTC."""
    found = service.list_letters(get_engine(), state=state, limit=limit)
    return [
        {
            name: value.isoformat() if hasattr(value, "isoformat") else value
            for name, value in dataclasses.asdict(letter).items()
            if name != "lease_token"
        }
        for letter in found
    ]


@shared_task(name="regrow.dead_letters.cleanup_old_dlq_messages")
def cleanup_old_dlq_messages(max_age_days: int | None = None) -> dict[str, Any]:
    """Archive and purge letters settled long ago; unsettled ones never. Failed: nothing unproven went."""
    engine = get_engine()
    with record(engine, "cleanup_old_dlq_messages") as run:
        run.summary = service.cleanup(engine, max_age_days)
        return run.summary


@shared_task(name="regrow.dead_letters.fold_dead_letter_ledger")
def fold_dead_letter_ledger() -> dict[str, Any]:
    """Fold the ledger's deltas and compare the books with the letters; failed when they differ."""
    engine = get_engine()
    with record(engine, "fold_dead_letter_ledger") as run:
        run.summary = service.fold_ledger(engine)
        run.outcome = "failed" if run.summary["unbalanced"] else "succeeded"
        return run.summary


def _kept_or_unfiled(engine: Engine, payload: Mapping[str, Any], event_id: str) -> Capture | None:
    """The capture that a task's arguments describe; None: it cannot be kept, and is a file now."""
    try:
        return service.checked(engine, _captured(payload, event_id))
    except LetterRefusedError as error:
        unfiled.write(engine.settings.home, event_id, payload, error)
        return None


def _captured(payload: Mapping[str, Any], event_id: str) -> Capture:
    """The capture a task's arguments describe. The task's own id makes a redelivery the same event."""
    if payload.get("capture") is not None:
        return from_wire(payload["capture"])
    try:
        return of_message(**{"event_id": event_id, "source": "task", **payload})
    except TypeError as error:
        raise LetterRefusedError(f"not arguments of capture: {error}") from None


def _or_back_to_the_broker(work: Callable[[], T], calls: Sequence[Call] = ()) -> T:
    """While the database is away, or the disk full, the broker keeps the message: no ETA, no count."""
    try:
        return work()
    except StoreUnavailableError as error:
        if isinstance(error, DiskUnavailableError) and len(calls) > 1:
            raise
        logger.warning("letter.waiting", error=str(error), pause=_PAUSE)
        _forgive_deliveries(calls or _this_call())
        time.sleep(_PAUSE)
        raise Reject(str(error), requeue=True) from error


def _this_call() -> list[Call]:
    request = getattr(current_task, "request", None)
    return [] if request is None or request.id is None else [Call(request.id, {}, request.retries)]


def _forgive_deliveries(calls: Sequence[Call]) -> None:
    """A message that is delivered often is taken for one that kills workers; an outage is no such thing."""
    try:
        for call in calls:
            redeliveries.forgive(get_engine().redis, redeliveries.message_name(call.task_id, call.retries))
    except RedisError as error:
        logger.warning("deliveries.not_forgiven", error=str(error))
