"""What RabbitMQ says of a dead message in its header ``x-death``, and the letter that becomes of it. Pure.

``x-death`` has one entry for each queue and reason that the message died of, the newest first. Home is where
it died *first*: what came after is the topology of dead-letter and delay queues. Why it is dead is told by
the newest ``rejected`` or ``delivery_limit``, if there is one: expiring in a queue that only delays is no
failure.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from regrow.celery.messages import RawMessage
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.posting import kept_headers
from regrow.settings import DeadLetterQueue

_NAMES = uuid.UUID("0f4a7d1e-9f54-5d0e-8a29-3c8d2a6f0b57")
_FAILURES = ("rejected", "delivery_limit")
_WORDS: Mapping[str, str] = {
    "rejected": "rejected by a consumer of",
    "expired": "expired in",
    "maxlen": "pushed out of the full",
    "delivery_limit": "delivered too often from",
}


@dataclass(frozen=True)
class Death:
    """One entry: ``reason`` as RabbitMQ writes it, ``count`` of deaths of that kind, ``at`` of the first."""

    queue: str
    exchange: str
    routing_key: str
    reason: str
    count: int
    at: datetime | None

    @property
    def words(self) -> str:
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"{_WORDS.get(self.reason, f'{self.reason} in')} queue {self.queue} ({times})"


def deaths_of(headers: Mapping[str, Any]) -> list[Death]:
    """The entries that can be read, the newest first."""
    told = headers.get("x-death")
    entries = told if isinstance(told, list) else []
    return [death for entry in entries if (death := _death(entry)) is not None]


def first_death(headers: Mapping[str, Any], deaths: list[Death]) -> Death | None:
    """Where it died first: what RabbitMQ names as such, else the oldest entry."""
    queue, reason = headers.get("x-first-death-queue"), headers.get("x-first-death-reason")
    named = (death for death in deaths if (death.queue, death.reason) == (queue, reason))
    return next(named, deaths[-1] if deaths else None)


def capture_of(
    message: RawMessage, declared: DeadLetterQueue, reference: str | None, now: datetime
) -> Capture:
    """The dead letter of what came out of a dead-letter queue. LetterRefusedError: not as it is.

    ``reference``: the attempt that a redriven message came back from. A message that carries no id of its
    own, no Celery id and no reference gets a new event each time it is delivered: kept twice in the worst
    case, lost in none.
    """
    deaths = deaths_of(message.headers)
    home = first_death(message.headers, deaths)
    cause = next((death for death in deaths if death.reason in _FAILURES), home)
    task_id = _short(message.task_id, 255)
    own = _short(message.task, 190) or _short(_text(message.properties.get("type")), 190)
    queue = home.queue if home else None
    identity = _identity(message, declared, queue)
    event = _event_id(identity, reference, declared, deaths)
    return Capture(
        event_id=event,
        body=message.body,
        message_type=declared.message_type or own or _short(queue, 190) or declared.queue[:190],
        service=declared.service or _short(message.task, 190) or _short(queue, 190) or declared.queue[:190],
        idempotency_key=f"task:{task_id}" if task_id else identity or f"event:{event}",
        error_class=(cause.reason if cause else "dead_lettered")[:255],
        error_message=", then ".join(death.words for death in reversed(deaths))
        or f"found in queue {declared.queue}; nothing says why",
        failed_at=max((death.at for death in deaths if death.at is not None), default=now),
        task=_short(message.task, 255),
        task_id=task_id,
        queue=queue,
        content_type=(message.content_type or "application/octet-stream")[:255],
        content_encoding=(message.content_encoding or "binary")[:64],
        headers=kept_headers(message.headers, message.properties),
        source="amqp",
        exchange=home.exchange if home else None,
        routing_key=home.routing_key if home else None,
        broker=declared.broker,
        correlation_id=_short(message.correlation_id, 255),
        traceparent=message.traceparent,
        deliveries=sum(death.count for death in deaths) or None,
    )


def _identity(message: RawMessage, declared: DeadLetterQueue, queue: str | None) -> str | None:
    """What names the message, in the queue it died in: a fanout's copies fail each for itself."""
    if message.task_id:
        return f"task:{message.task_id}"
    own = _text(message.properties.get("message_id"))
    return f"amqp:{declared.broker or ''}:{queue or declared.queue}:{own}" if own else None


def _event_id(
    identity: str | None, reference: str | None, declared: DeadLetterQueue, deaths: list[Death]
) -> str:
    """The same for a message that is delivered again, another one when it has died once more."""
    if identity is None and reference is None:
        return str(uuid.uuid4())
    # The times are whole seconds; the attempt tells a redrive from the death before it within one.
    died = [(death.queue, death.reason, death.count, str(death.at)) for death in deaths]
    return str(uuid.uuid5(_NAMES, f"{declared.broker}:{declared.queue}:{identity}:{reference}:{died}"))


def _death(entry: Any) -> Death | None:
    if not isinstance(entry, Mapping) or not _text(entry.get("queue")):
        return None
    keys = entry.get("routing-keys")
    count, at = entry.get("count"), entry.get("time")
    return Death(
        queue=str(entry["queue"]),
        exchange=_text(entry.get("exchange")) or "",
        routing_key=(_text(keys[0]) or "") if isinstance(keys, list) and keys else "",
        reason=_text(entry.get("reason")) or "dead_lettered",
        count=count if isinstance(count, int) and count > 0 else 1,
        at=_aware(at) if isinstance(at, datetime) else None,
    )


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _short(text: str | None, limit: int) -> str | None:
    return text if text and len(text) <= limit else None
