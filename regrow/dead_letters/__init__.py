"""Dead letters: messages that failed for good, kept whole, sent home again, settled once.

For apps, the face is two functions::

    event_id = regrow.dead_letters.capture(message, error=exc, message_type="invoice", service="billing")
    event_ids = regrow.dead_letters.capture_many([{"message": ..., "error": ...}, ...])

They publish to Regrow's workers and return when the broker has the message; with a spool
(``regrow.configure(spool=...)``, ``REGROW_SPOOL``) they return when it is on this machine's disk, and it is
shipped from there. Inside Regrow, see ``service``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow.dead_letters.message import Message
from regrow.errors import SettingsError

if TYPE_CHECKING:
    from regrow.dead_letters.captured import Confirm, Priority
    from regrow.dead_letters.spooling import Spooled
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
    failure_class: str | None = None,
    priority: Priority = "normal",
    useful_until: datetime | str | None = None,
    order_key: str | None = None,
    subject: str | None = None,
) -> str:
    """Hand over one message that failed for good; returns its event id once spool or broker has it.

    ``message``: any JSON value, whole. ``{"task": ..., "args": [...], "kwargs": {...}, "queue": ...}`` is
    a Celery call and is redriven as such; anything else is redriven as the one argument of ``task`` on
    ``queue``, or of the task that ``[dead_letters.routes.MESSAGE_TYPE]`` names.
    ``service``: whose circuit breaker rules the redrive (default: the message type).
    ``idempotency_key``: stable per message; told twice, it is one letter.
    ``max_retries``: redrives before it waits for a person (default: ``dead_letters.max_retries``).
    ``subject``: whom it is about (a customer's id), so that what it says can be erased on request.
    ``correlation_id``, ``traceparent`` (W3C): what ties it to a request. ``REGROW_CODE_VERSION`` is kept too.
    ``failure_class``: what kind of failure it was (transient, rate_limited, dependency_down, breaker_refused,
    permanent, poison, unknown), when the error's class does not tell.
    ``priority``: high, normal or low among the letters of its service.
    ``useful_until``: an aware time after which it is not sent any more but waits for a person.
    ``order_key``: letters of one service and key are redriven one at a time, in the order of their capture.

    LetterRefusedError: not JSON, or a name that is too long. StoreUnavailableError: the broker (with a
    spool: the disk) did not take it, nothing is kept. SettingsError: no broker is configured, or the spool's
    folder cannot be used.
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
        failure_class=failure_class,
        priority=priority,
        useful_until=useful_until,
        order_key=order_key,
        source="library",
        correlation_id=correlation_id,
        subject=subject,
        traceparent=traceparent,
        code_version=_code_version(),
    )
    if spool := _current_spool():
        spool.keep([captured])
    else:
        wire = {"capture": to_wire(captured)}
        _current_sender().send("regrow.dead_letters.capture", wire, queue=_QUEUE)
    return captured.event_id


def capture_many(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Hand over many; each is a mapping of :func:`capture`'s arguments. Returns their event ids in order.

    All are checked before the first is kept; then a spool keeps 500 with one fsync, and without one they
    travel 500 to a message. Errors as above: what came before the 500 that failed is kept.
    """
    from regrow.dead_letters.captured import of_message, to_wire

    captured = [
        of_message(**{"source": "library", "code_version": _code_version(), **message})
        for message in messages
    ]
    spool = _current_spool()
    for start in range(0, len(captured), _MANY):
        together = captured[start : start + _MANY]
        if spool:
            spool.keep(together)
        else:
            wires = [{"capture": to_wire(one)} for one in together]
            _current_sender().send("regrow.dead_letters.capture_many", {"messages": wires}, queue=_QUEUE)
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


def _current_spool() -> Spooled | None:
    """This process's spool, if one is configured; it ships through the sender of this process."""
    from regrow.configuration import configured

    folder = configured().spool
    if not folder:
        return None
    from regrow.dead_letters.spool_shipping import BrokerDestination, regrows_redis
    from regrow.dead_letters.spooling import spooled

    return spooled(Path(folder), lambda: BrokerDestination(_current_sender(), regrows_redis()))


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
