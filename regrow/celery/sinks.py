"""Where captured failures go: straight into the store (our worker), or to it through the broker (apps)."""

from __future__ import annotations

import json

from regrow.celery.messages import Failure
from regrow.celery.queues import CAPTURE
from regrow.celery.sender import CelerySender
from regrow.clock import utc_now
from regrow.dead_letters.captured import Capture, to_wire
from regrow.engine import Engine


def capture_of(failure: Failure) -> Capture:
    """The dead letter of a failure. Poison waits for a person; a task that failed may be run again."""
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
        quarantine=f"poison: {failure.error_message}"[:500] if failure.kind == "poison" else None,
    )


def _short(text: str | None, limit: int) -> str | None:
    """A name that is too long to be one is none."""
    return text if text and len(text) <= limit else None


class StoreSink:
    """For the process that has the database: one transaction, done when it returns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def capture(self, failure: Failure) -> None:
        from regrow.dead_letters import service

        service.capture(self._engine, capture_of(failure))

    def settle(self, attempt: str, failure: Failure | None) -> None:
        from regrow.dead_letters import service

        if failure is None:
            service.settle(self._engine, attempt)
        else:
            service.record_failure(self._engine, attempt, failure.text)


class BrokerSink:
    """For an app: a task for Regrow's workers, as durable as the app's broker."""

    def __init__(self, sender: CelerySender) -> None:
        self._sender = sender

    def capture(self, failure: Failure) -> None:
        capture = {"capture": to_wire(capture_of(failure))}
        self._sender.send("regrow.dead_letters.capture", capture, queue=CAPTURE)

    def settle(self, attempt: str, failure: Failure | None) -> None:
        if failure is None:
            self._sender.send("regrow.dead_letters.settle", {"attempt": attempt}, queue=CAPTURE)
        else:
            told = {"attempt": attempt, "error": failure.text}
            self._sender.send("regrow.dead_letters.record_failure", told, queue=CAPTURE)
