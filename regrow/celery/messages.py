"""What a broken message is, and what of it is kept. Pure: a message in, a judgement or a value out."""

from __future__ import annotations

import re
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regrow.dead_letters.classes import NOTHING_KNOWN, Cause
from regrow.errors import RegrowError
from regrow.failures import FailureClass

Kind = str
"""``poison`` (nobody could run it), ``failed`` (for good), ``expired`` or ``revoked`` (it did not run)."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_NAMES = uuid.UUID("5b1de28c-6a8d-5f0e-9a55-1f3a6f1c7e11")


class BrokenMessageError(RegrowError):
    """The message does not follow Celery's protocol."""


class UnknownTaskError(RegrowError):
    """No task of this name is registered in this worker."""


class TaskExpiredError(RegrowError):
    """The message had expired before anybody ran it."""


class TaskRevokedError(RegrowError):
    """The task was revoked; nobody ran it."""


class TaskTerminatedError(RegrowError):
    """The task was terminated while it ran."""


class DeliveredTooOftenError(RegrowError):
    """The message was delivered again and again without ever coming to an end."""


class TaskOutOfMemoryError(RegrowError):
    """The task ran out of memory."""


@dataclass(frozen=True)
class RawMessage:
    """A failed message as the broker gave it, byte for byte, and where it came from."""

    body: bytes
    headers: Mapping[str, Any]
    content_type: str | None
    content_encoding: str | None
    queue: str
    exchange: str = ""
    routing_key: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    broker: str | None = None
    code_version: str | None = None
    deliveries: int = 1

    @property
    def task_id(self) -> str | None:
        found = self.headers.get("id")
        return found if isinstance(found, str) and found else None

    @property
    def task(self) -> str | None:
        found = self.headers.get("task")
        return found if isinstance(found, str) and found else None

    @property
    def retries(self) -> int:
        found = self.headers.get("retries")
        return found if isinstance(found, int) else 0

    @property
    def correlation_id(self) -> str | None:
        found = self.properties.get("correlation_id")
        return found if isinstance(found, str) and found else None

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context; anything else under that name is none."""
        found = self.headers.get("traceparent")
        return found if isinstance(found, str) and _TRACEPARENT.fullmatch(found) else None


@dataclass(frozen=True)
class Failure:
    """One failure for good. ``event_id`` is the same however often the same failure is told."""

    event_id: str
    kind: Kind
    message: RawMessage
    error_type: str
    error_message: str
    traceback: str
    cause: Cause = NOTHING_KNOWN

    @property
    def text(self) -> str:
        return f"{self.error_type}: {self.error_message}"


def failure_of(
    kind: Kind, message: RawMessage, error: BaseException, trace: str = "", told: FailureClass | None = None
) -> Failure:
    """The failure of ``message``; ``trace`` is the child's traceback, where there was a child.

    ``told``: the class of failure that the app says it is.
    """
    return Failure(
        event_id=event_id(kind, message),
        kind=kind,
        message=message,
        error_type=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        error_message=str(error),
        traceback=trace or "".join(traceback.format_exception(error)),
        cause=Cause.of(error, told),
    )


def event_id(kind: Kind, message: RawMessage) -> str:
    """One id per failure: two hooks that tell of the same one, or a redelivery, make one event.

    From the task's id and its number of retries; else from the delivery tag, which on Redis belongs to the
    message and survives redelivery; else from the message id. A message with no identity at all (foreign
    garbage on RabbitMQ) gets a new id each time: kept twice in the worst case, lost in none.
    """
    if message.task_id is not None:
        name = f"{kind}:{message.task_id}:{message.retries}"
    elif tag := message.properties.get("delivery_tag"):
        name = f"tag:{tag}"
    elif own := message.properties.get("message_id"):
        name = f"message:{own}"
    else:
        return str(uuid.uuid4())
    return str(uuid.uuid5(_NAMES, name))


def raw_message(
    message: Any,
    *,
    queue: str | None = None,
    broker: str | None = None,
    code_version: str | None = None,
    deliveries: int = 1,
) -> RawMessage:
    """What is kept of a kombu message; ``queue`` is the one it was taken from, if the caller knows."""
    delivery = message.delivery_info or {}
    routing_key = str(delivery.get("routing_key") or "")
    return RawMessage(
        body=_bytes(message.body),
        headers=dict(message.headers) if isinstance(message.headers, Mapping) else {},
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        queue=queue or routing_key,
        exchange=str(delivery.get("exchange") or ""),
        routing_key=routing_key,
        properties=dict(message.properties or {}),
        redelivered=bool(delivery.get("redelivered")),
        broker=broker,
        code_version=code_version,
        deliveries=deliveries,
    )


def _bytes(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogateescape")
    return bytes(body or b"")


def defect_of(headers: Any, payload: Any) -> BrokenMessageError | None:
    """What is wrong with a decoded message, or None. Celery itself would crash or loop on each of these."""
    if not isinstance(headers, Mapping):
        return BrokenMessageError("the message has no headers")
    if "task" in headers:
        return _protocol_2(headers, payload)
    return _protocol_1(payload)


def _protocol_2(headers: Mapping[str, Any], payload: Any) -> BrokenMessageError | None:
    if not isinstance(headers["task"], str):
        return BrokenMessageError(f"header task is {_shape(headers['task'])}, not text")
    if not isinstance(headers.get("id"), str) or not headers["id"]:
        return BrokenMessageError(f"header id is {_shape(headers.get('id'))}, not text")
    if isinstance(payload, Mapping) and "args" in payload:
        return _arguments(payload.get("args"), payload.get("kwargs"))
    if not isinstance(payload, list | tuple) or len(payload) != 3:
        return BrokenMessageError(f"the body is {_shape(payload)}, not a list of args, kwargs and options")
    if not isinstance(payload[2], Mapping | None):
        return BrokenMessageError(f"the body's options are {_shape(payload[2])}, not an object")
    return _arguments(payload[0], payload[1])


def _protocol_1(payload: Any) -> BrokenMessageError | None:
    if not isinstance(payload, Mapping) or not isinstance(payload.get("task"), str):
        return BrokenMessageError(f"not a task: no task header, and the body is {_shape(payload)}")
    if not isinstance(payload.get("id"), str) or not payload["id"]:
        return BrokenMessageError(f"id is {_shape(payload.get('id'))}, not text")
    return _arguments(payload.get("args", ()), payload.get("kwargs", {}))


def _arguments(args: Any, kwargs: Any) -> BrokenMessageError | None:
    if not isinstance(args, list | tuple):
        return BrokenMessageError(f"args is {_shape(args)}, not a list")
    if not isinstance(kwargs, Mapping):
        return BrokenMessageError(f"kwargs is {_shape(kwargs)}, not an object")
    return None


def _shape(value: Any) -> str:
    """What a value is, without showing it: bodies may hold secrets."""
    if value is None:
        return "missing"
    size = f" of {len(value)}" if isinstance(value, list | tuple | Mapping | str | bytes) else ""
    return f"{type(value).__name__}{size}"
