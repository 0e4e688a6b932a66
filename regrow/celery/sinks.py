"""Where captured failures go: to the store (our worker), to the broker (apps), or first to a spool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow.celery.capturing import Ended, Sink, Told
from regrow.celery.messages import Failure
from regrow.celery.queues import CAPTURE
from regrow.celery.sender import CelerySender
from regrow.clock import utc_now
from regrow.dead_letters import started_marks
from regrow.dead_letters.captured import Capture, to_wire
from regrow.dead_letters.second_copies import Mark
from regrow.dead_letters.settled_marks import SettledMarks
from regrow.dead_letters.spool_entries import Outcome
from regrow.dead_letters.spool_shipping import BrokerDestination, Destination, regrows_redis
from regrow.dead_letters.spooling import spooled

if TYPE_CHECKING:
    from regrow.engine import Engine


_FOR_A_PERSON = {"poison", "revoked"}


def capture_of(failure: Failure) -> Capture:
    """The dead letter of a failure.

    Poison waits for a person, and so does what a person revoked; a task that failed, or that came too late,
    may be run again.
    """
    message = failure.message
    kind = _short(message.task, 190) or "unreadable"
    task_id = _short(message.task_id, 255)
    return Capture(
        event_id=failure.event_id,
        body=message.body,
        message_type=kind,
        service=kind,
        idempotency_key=f"task:{task_id}" if task_id else f"event:{failure.event_id}",
        error_class=failure.error_type[:255],
        error_message=failure.error_message,
        failed_at=utc_now(),
        traceback=failure.traceback or None,
        task=_short(message.task, 255),
        task_id=task_id,
        queue=_short(message.queue, 255),
        content_type=(message.content_type or "application/octet-stream")[:255],
        content_encoding=(message.content_encoding or "binary")[:64],
        headers=json.loads(json.dumps(dict(message.headers), default=repr)),
        source="celery",
        exchange=_short(message.exchange, 255),
        routing_key=_short(message.routing_key, 255),
        broker=_short(message.broker, 190),
        correlation_id=_short(message.correlation_id, 255),
        traceparent=message.traceparent,
        code_version=_short(message.code_version, 190),
        deliveries=message.deliveries,
        cause=failure.cause,
        quarantine=f"{failure.kind}: {failure.error_message}"[:500]
        if failure.kind in _FOR_A_PERSON
        else None,
    )


def _short(text: str | None, limit: int) -> str | None:
    """A name that is too long to be one is none."""
    return text if text and len(text) <= limit else None


def entry_of(told: Told) -> Capture | Outcome:
    """What a spool keeps of it."""
    if isinstance(told, Ended):
        if told.failure is None:
            return Outcome(told.attempt)
        return Outcome(told.attempt, told.failure.text, told.failure.cause)
    return capture_of(told)


def _succeeded(told: Sequence[Told]) -> list[str]:
    return [each.attempt for each in told if isinstance(each, Ended) and each.failure is None]


def _failed(told: Sequence[Told]) -> list[tuple[str, Failure]]:
    return [(each.attempt, each.failure) for each in told if isinstance(each, Ended) and each.failure]


class StoreSink:
    """For the process that has the database: committed when it returns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._marks = SettledMarks()

    def keep(self, told: Sequence[Told]) -> None:
        from regrow.dead_letters import service

        service.settle_many(self._engine, _succeeded(told))
        for attempt, failure in _failed(told):
            service.record_failure(self._engine, attempt, failure.text, failure.cause)
        service.capture_many(self._engine, [capture_of(each) for each in told if isinstance(each, Failure)])

    def settled(self, letter_id: str) -> bool:
        return self._marks.has(self._engine.redis, letter_id)

    def mark(self, attempts: Mapping[str, Mark]) -> None:
        started_marks.write(self._engine.redis, attempts)

    def destination(self) -> Destination:
        from regrow.dead_letters.receiving import EngineDestination

        return EngineDestination(self._engine)

    def start(self) -> None: ...

    def close(self) -> None: ...


class BrokerSink:
    """For an app: tasks for Regrow's workers, as durable as the app's broker."""

    def __init__(self, sender: CelerySender) -> None:
        self._sender = sender
        self._marks = SettledMarks()

    def keep(self, told: Sequence[Told]) -> None:
        succeeded = _succeeded(told)
        if len(succeeded) == 1:
            self._send("settle", {"attempt": succeeded[0]})
        elif succeeded:
            self._send("settle_many", {"attempts": succeeded})
        for attempt, failure in _failed(told):
            why = {"error": failure.text, "cause": failure.cause.wire()}
            self._send("record_failure", {"attempt": attempt, **why})
        wires = [{"capture": to_wire(capture_of(each))} for each in told if isinstance(each, Failure)]
        if len(wires) == 1:
            self._send("capture", wires[0])
        elif wires:
            self._send("capture_many", {"messages": wires})

    def settled(self, letter_id: str) -> bool:
        return self._redis is not None and self._marks.has(self._redis, letter_id)

    def mark(self, attempts: Mapping[str, Mark]) -> None:
        if self._redis is not None:
            started_marks.write(self._redis, attempts)

    @cached_property
    def _redis(self) -> Any | None:
        return regrows_redis(timeout=0.5)  # asked in the event loop

    def destination(self) -> Destination:
        return BrokerDestination(self._sender, regrows_redis())

    def start(self) -> None: ...

    def close(self) -> None: ...

    def _send(self, task: str, kwargs: Mapping[str, Any]) -> None:
        self._sender.send(f"regrow.dead_letters.{task}", kwargs, queue=CAPTURE)


class SpoolSink:
    """In front of either: kept when it is on this machine's disk, and shipped from there."""

    def __init__(self, behind: Sink, folder: Path) -> None:
        """SettingsError: the folder cannot be used."""
        self._behind = behind
        self._spooled = spooled(folder, behind.destination)

    def keep(self, told: Sequence[Told]) -> None:
        self._spooled.keep([entry_of(each) for each in told])

    def settled(self, letter_id: str) -> bool:
        return self._behind.settled(letter_id)

    def mark(self, attempts: Mapping[str, Mark]) -> None:
        self._behind.mark(attempts)

    def destination(self) -> Destination:
        return self._behind.destination()

    def start(self) -> None:
        self._spooled.shipper.start()

    def close(self) -> None:
        self._spooled.close()
