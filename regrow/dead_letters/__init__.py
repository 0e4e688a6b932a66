"""Dead letters: messages that failed for good, kept whole, sent home again, settled once.

For apps, the face is two functions::

    event_id = regrow.dead_letters.capture(message, error=exc, message_type="invoice", service="billing")
    event_ids = regrow.dead_letters.capture_many([{"message": ..., "error": ...}, ...])

They publish to Regrow's workers and return when the broker has the message. Inside Regrow, see ``service``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from regrow.dead_letters.message import Message
from regrow.errors import SettingsError

if TYPE_CHECKING:
    from regrow.dead_letters.captured import Confirm
    from regrow.engine import Sender

__all__ = ["Message", "capture", "capture_many", "send_through"]

_QUEUE = "regrow.capture"
_MANY = 500
_sender: Sender | None = None


def capture(
    message: Any,
    *,
    error: BaseException | str | Mapping[str, Any] | None = None,
    message_type: str | None = None,
    service: str | None = None,
    idempotency_key: str | None = None,
    max_retries: int | None = None,
    task: str | None = None,
    queue: str | None = None,
    confirm: Confirm | None = None,
    failed_at: datetime | str | None = None,
    correlation_id: str | None = None,
    traceparent: str | None = None,
) -> str:
    """Hand over one message that failed for good; returns its event id once the broker has it.

    ``message``: any JSON value, whole. ``{"task": ..., "args": [...], "kwargs": {...}, "queue": ...}`` is
    a Celery call and is redriven as such; anything else is redriven as the one argument of ``task`` on
    ``queue``, or of the task that ``[dead_letters.routes.MESSAGE_TYPE]`` names.
    ``service``: whose circuit breaker rules the redrive (default: the message type).
    ``idempotency_key``: stable per message; told twice, it is one letter.
    ``max_retries``: redrives before it waits for a person (default: ``dead_letters.max_retries``).
    ``correlation_id``, ``traceparent`` (W3C): what ties it to a request. ``REGROW_CODE_VERSION`` is kept too.

    LetterRefusedError: not JSON, or a name that is too long. StoreUnavailableError: the broker did not
    take it, nothing is kept. SettingsError: no broker is configured.
    """
    from regrow.dead_letters.captured import of_message, to_wire

    captured = of_message(
        message,
        error=error,
        message_type=message_type,
        service=service,
        idempotency_key=idempotency_key,
        max_retries=max_retries,
        task=task,
        queue=queue,
        confirm=confirm,
        failed_at=failed_at,
        source="library",
        correlation_id=correlation_id,
        traceparent=traceparent,
        code_version=_code_version(),
    )
    _current_sender().send("regrow.dead_letters.capture", {"capture": to_wire(captured)}, queue=_QUEUE)
    return captured.event_id


def capture_many(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Hand over many; each is a mapping of :func:`capture`'s arguments. Returns their event ids in order.

    All are checked before the first is sent; then they travel 500 to a message. Errors as above.
    """
    from regrow.dead_letters.captured import of_message, to_wire

    captured = [
        of_message(**{"source": "library", "code_version": _code_version(), **message})
        for message in messages
    ]
    sender = _current_sender()
    for start in range(0, len(captured), _MANY):
        wires = [{"capture": to_wire(one)} for one in captured[start : start + _MANY]]
        sender.send("regrow.dead_letters.capture_many", {"messages": wires}, queue=_QUEUE)
    return [one.event_id for one in captured]


def send_through(sender: Sender | None) -> None:
    """Use this sender in this process from now on; ``regrow.configure(broker_url=...)`` sets one."""
    global _sender  # noqa: PLW0603 - the face is per process, as its configuration is
    _sender = sender


def _code_version() -> str | None:
    return os.environ.get("REGROW_CODE_VERSION") or None


def _current_sender() -> Sender:
    global _sender  # noqa: PLW0603
    if _sender is None:
        _sender = _sender_as_configured()
    return _sender


def _sender_as_configured() -> Sender:
    from regrow.configuration import configured

    told = configured()
    url = told.broker_url or told.redis_url
    if not url:
        raise SettingsError(
            "no broker is configured for dead letters: call regrow.configure(broker_url=...), "
            "or set CELERY_BROKER_URL"
        )
    return sender_for(url)


def sender_for(broker_url: str) -> Sender:
    """A sender on this broker; needs Celery, which every app that has dead letters of Celery has."""
    try:
        from regrow.celery import CelerySender
    except ImportError as error:
        raise SettingsError(
            f"dead letters travel through Celery, which is not installed here ({error}); pip install celery"
        ) from error
    return CelerySender.from_url(broker_url)
