"""A captured failure: what an app hands over, checked and put into the form in which it is kept.

Needs nothing but the standard library, because apps import it.
"""

from __future__ import annotations

import hashlib
import json
import traceback as tracebacks
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from regrow.dead_letters.classes import NOTHING_KNOWN, Cause, parse
from regrow.errors import LetterRefusedError

Confirm = Literal["outcome", "publish"]
Priority = Literal["high", "normal", "low"]

# What the columns hold; longer names are refused rather than cut, longer keys are hashed.
_LIMITS = {
    "message_type": 190,
    "service": 190,
    "error_class": 255,
    "task": 255,
    "task_id": 255,
    "queue": 255,
    "exchange": 255,
    "routing_key": 255,
    "broker": 190,
    "correlation_id": 255,
    "traceparent": 64,
    "code_version": 190,
    "order_key": 190,
    "subject": 190,
}
_KEY_LENGTH = 190
_TEXTS = (*_LIMITS, "event_id", "idempotency_key", "error_message", "traceback", "quarantine")


@dataclass(frozen=True)
class Capture:
    """One failure, as it is kept.

    ``body`` is the message itself, never cut. ``task``/``queue`` say where home is, if the capture knows;
    else ``[dead_letters.routes.MESSAGE_TYPE]`` says it. ``failed_at`` is aware UTC.

    The origin, as far as it is known: ``queue`` is the one it was taken from, ``exchange`` and
    ``routing_key`` are those it was published with, ``broker`` is the name its app gives to its broker.
    """

    event_id: str
    body: bytes
    message_type: str
    service: str
    idempotency_key: str
    error_class: str
    error_message: str
    failed_at: datetime
    traceback: str | None = None
    task: str | None = None
    task_id: str | None = None
    queue: str | None = None
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    headers: Mapping[str, Any] = field(default_factory=dict)
    max_retries: int | None = None
    confirm: Confirm | None = None
    source: str = "task"
    quarantine: str | None = None
    """Why it must wait for a person from the start: poison, or no way to read it."""
    exchange: str | None = None
    routing_key: str | None = None
    broker: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    subject: str | None = None
    """Whom the message is about, say a customer's id: what can be erased together. Kept as a digest."""
    """The W3C trace context that the message travelled with."""
    code_version: str | None = None
    """Of the app in which it failed."""
    deliveries: int | None = None
    """How often the broker had delivered it; at least so often, where the broker does not count."""
    cause: Cause = NOTHING_KNOWN
    priority: Priority = "normal"
    useful_until: datetime | None = None
    """Aware UTC; it is not sent any more after this."""
    order_key: str | None = None
    """Letters of one service and key are redriven one after the other, as they were captured."""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and len(value) > limit:
                raise LetterRefusedError(
                    f"{name} has {len(value)} characters; at most {limit} are kept. Use a shorter name."
                )
        if self.confirm not in {None, "outcome", "publish"}:
            raise LetterRefusedError(f"confirm = {self.confirm!r}: say 'outcome' or 'publish'.")
        if self.max_retries is not None and (isinstance(self.max_retries, bool) or self.max_retries < 0):
            raise LetterRefusedError(f"max_retries = {self.max_retries!r}: say 0 or more.")
        if self.priority not in get_args(Priority):
            raise LetterRefusedError(f"priority = {self.priority!r}: say {', '.join(get_args(Priority))}.")
        for name in ("event_id", "idempotency_key"):
            object.__setattr__(self, name, bounded_key(getattr(self, name)))
        for name in _TEXTS:
            object.__setattr__(self, name, storable(getattr(self, name)))

    @property
    def fingerprint(self) -> str:
        """Equal for failures of the same kind: error class, the place it was raised, message type."""
        site = _call_site(self.traceback)
        return hashlib.sha256(f"{self.error_class}\n{site}\n{self.message_type}".encode()).hexdigest()


def of_message(
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
    event_id: str | None = None,
    failed_at: datetime | str | None = None,
    source: str = "task",
    exchange: str | None = None,
    routing_key: str | None = None,
    broker: str | None = None,
    correlation_id: str | None = None,
    subject: str | None = None,
    traceparent: str | None = None,
    code_version: str | None = None,
    deliveries: int | None = None,
    failure_class: str | None = None,
    priority: Priority = "normal",
    useful_until: datetime | str | None = None,
    order_key: str | None = None,
    as_call: bool = True,
) -> Capture:
    """A capture from what an app knows.

    ``message`` is any JSON value. A mapping with the key ``task`` (and optionally ``args``, ``kwargs``,
    ``queue``, ``id``) is a Celery call and goes home as such; anything else goes home as the one argument
    of the task that ``task=`` or the route of its ``message_type`` names. Without ``as_call`` no message is
    taken for a call.

    ``error`` is an exception, a text, or a mapping with ``class``, ``message``, ``traceback``, ``bases`` (the
    dotted names of its class's bases, nearest first) and ``retry_after`` (seconds).
    LetterRefusedError says what cannot be kept as it is.
    """
    named = as_call and isinstance(message, Mapping) and isinstance(message.get("task"), str)
    call = message if named else {}
    _check_call(call)
    task = task or call.get("task")
    task_id = call.get("id")
    error_class, error_message, traceback = describe(error)
    event = event_id or str(uuid.uuid4())
    kind = message_type or task or "message"
    return Capture(
        event_id=event,
        body=_as_json(message),
        message_type=kind,
        service=service or kind,
        # Without a key of its own every capture is a message of its own; a task's id names its message.
        idempotency_key=idempotency_key or (f"task:{task_id}" if task_id else f"event:{event}"),
        error_class=error_class,
        error_message=error_message,
        traceback=traceback,
        failed_at=_time("failed_at", failed_at) or datetime.now(UTC),
        cause=_cause(error, failure_class),
        priority=priority,
        useful_until=_time("useful_until", useful_until),
        order_key=order_key,
        task=task,
        task_id=task_id,
        queue=queue or call.get("queue"),
        max_retries=max_retries,
        confirm=confirm,
        source=source,
        exchange=exchange,
        routing_key=routing_key,
        broker=broker,
        correlation_id=correlation_id,
        subject=subject,
        traceparent=traceparent,
        code_version=code_version,
        deliveries=deliveries,
    )


def describe(error: BaseException | str | Mapping[str, Any] | None) -> tuple[str, str, str | None]:
    """Class, message and traceback of an error, as strings. An exception is never kept as an object."""
    if isinstance(error, BaseException):
        trace = "".join(tracebacks.format_exception(error)) if error.__traceback__ else None
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        return f"{module}{kind.__qualname__}", _text_of(error), trace
    if isinstance(error, Mapping):
        unknown = set(error) - {"class", "message", "traceback", "bases", "retry_after"}
        if unknown:
            raise LetterRefusedError(
                f"error has the unknown keys {', '.join(sorted(map(str, unknown)))}; "
                "use class, message, traceback, bases and retry_after."
            )
        trace = error.get("traceback")
        return str(error.get("class") or "Error"), str(error.get("message") or ""), trace and str(trace)
    if error is None:
        return "Error", "", None
    return "Error", str(error), None


def _cause(error: BaseException | str | Mapping[str, Any] | None, told: str | None) -> Cause:
    if isinstance(error, BaseException):
        return Cause.of(error, told)
    failure_class = None if told is None else parse(told)
    if not isinstance(error, Mapping):
        return Cause(told=failure_class)
    names = [error.get("class"), *(error.get("bases") or ())]
    return Cause.read(names, failure_class, error.get("retry_after"))


def to_wire(capture: Capture) -> dict[str, Any]:
    """A capture as JSON values, to travel through the broker. :func:`from_wire` is its inverse."""
    wire = asdict(capture)
    wire["body"] = capture.body.decode("latin-1")
    wire["failed_at"] = capture.failed_at.isoformat()
    wire["headers"] = dict(capture.headers)
    wire["cause"] = capture.cause.wire()
    wire["useful_until"] = capture.useful_until.isoformat() if capture.useful_until else None
    return wire


def from_wire(wire: Mapping[str, Any]) -> Capture:
    """The capture that :func:`to_wire` wrote; LetterRefusedError when it is not one."""
    known = {f.name for f in fields(Capture)}
    try:
        values = {
            **wire,
            "body": wire["body"].encode("latin-1"),
            "failed_at": _time("failed_at", wire["failed_at"]) or datetime.now(UTC),
            "useful_until": _time("useful_until", wire.get("useful_until")),
            # An older library tells the class alone.
            "cause": Cause.of_wire(wire.get("cause", {"lineage": [wire.get("error_class")]})),
        }
        return Capture(**{name: value for name, value in values.items() if name in known})
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
        raise LetterRefusedError(f"not a capture that this version can read: {error}") from None


def bounded_key(key: str) -> str:
    """A key that fits its column: short ones as they are, longer ones by their hash."""
    if not key:
        raise LetterRefusedError("an idempotency key or event id must not be empty.")
    if len(key) <= _KEY_LENGTH:
        return key
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _check_call(call: Mapping[str, Any]) -> None:
    for name, kind, words in (
        ("args", list | tuple, "a list"),
        ("kwargs", Mapping, "a mapping"),
        ("queue", str, "a text"),
        ("id", str, "a text"),
    ):
        if call.get(name) is not None and not isinstance(call[name], kind):
            raise LetterRefusedError(f"message.{name} must be {words}, not {type(call[name]).__name__}.")


def _as_json(message: Any) -> bytes:
    try:
        return json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON can say it, UTF-8 cannot
        return json.dumps(message, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LetterRefusedError(
            f"the message is not JSON ({error}). Hand over JSON values: text, numbers, lists, mappings."
        ) from None


def storable(text: str | None) -> str | None:
    """Half a surrogate pair is text in Python and in no database; it is kept as its escape."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # an exception whose own __str__ fails still has to be kept
        return f"<unprintable {type(error).__name__}: {type(second).__name__}>"


def _time(name: str, value: datetime | str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment.tzinfo is None:
            raise LetterRefusedError(f"{name} = {value} has no time zone; write it as ...+00:00.")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise LetterRefusedError(f"{name} = {value!r} is not an ISO 8601 time.") from None


def _call_site(traceback: str | None) -> str:
    """The innermost ``File ..., in function`` of a traceback, without its line number, which edits move."""
    lines = [line.strip() for line in (traceback or "").splitlines() if line.strip().startswith('File "')]
    if not lines:
        return ""
    file, _, rest = lines[-1].partition('", line ')
    function = rest.partition(", in ")[2]
    return f"{file.rsplit('/', 1)[-1]}:{function}"
