"""A message for an exchange or a queue of a broker, and what of an AMQP message survives as JSON. Pure.

Letters keep AMQP headers as JSON, which knows fewer types than AMQP does: a time, bytes and decimals are kept
as objects with a single key that names the type, and become themselves again on the way home.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from regrow import headers
from regrow.dead_letters.home import HEADER, Raw

EFFECT_KEY = "regrow-effect-key"
"""The header by which a consumer can tell repeats."""
SENT_AT = "regrow-sent-at"
"""The header that says when a letter was sent home, in ISO 8601: how old what waits in a queue is."""
PROPERTIES = "regrow-properties"
"""Among a letter's headers: the AMQP properties that it had."""
KEPT_PROPERTIES = ("message_id", "correlation_id", "type", "reply_to", "app_id", "priority", "timestamp")

# What the broker itself wrote about deaths and deliveries. Sent along, it would count on, and RabbitMQ drops
# a message that seems to go round in circles.
_BOOKKEEPING = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")


@dataclass(frozen=True)
class Posting:
    """``exchange`` empty: straight to the queue that ``routing_key`` names."""

    exchange: str
    routing_key: str
    raw: Raw
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> str:
        if not self.exchange:
            return f"queue {self.routing_key!r}"
        return f"exchange {self.exchange!r} with key {self.routing_key!r}"


def kept_headers(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Headers and properties of an AMQP message in the form in which a letter keeps them."""
    kept = {name: properties[name] for name in KEPT_PROPERTIES if properties.get(name) is not None}
    return {**_to_json(dict(headers)), PROPERTIES: _to_json(kept)}


def posting_of(
    exchange: str,
    routing_key: str,
    raw: Raw,
    kept: Mapping[str, Any],
    *,
    reference: str,
    effect_key: str,
) -> Posting:
    """The message that goes home: its own headers and properties, the attempt's reference, the effect key."""
    own = {
        name: _from_json(value)
        for name, value in kept.items()
        if name != PROPERTIES and not name.startswith(_BOOKKEEPING)
    }
    properties = kept.get(PROPERTIES)
    return Posting(
        exchange,
        routing_key,
        raw,
        {**own, HEADER: reference, EFFECT_KEY: effect_key},
        _from_json(properties) if isinstance(properties, Mapping) else {},
    )


def sent_headers(at: datetime) -> dict[str, Any]:
    """What says that a letter is sent home now: its first message may have said so long ago.

    The two part ways later. An app with Regrow installed writes ``headers.SENT_AT`` anew each time it
    publishes, a retry of the redriven task included, and by its own clock: so old is the message that waits.
    SENT_AT stays that of the redrive through all retries, by which a copy still to come is known.
    """
    return {SENT_AT: at.isoformat(), headers.SENT_AT: round(at.timestamp(), 3)}


def _to_json(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": str(value)}
        case Mapping():
            return {str(key): _to_json(below) for key, below in value.items()}
        case list() | tuple():
            return [_to_json(below) for below in value]
        case bytes() | bytearray() | memoryview():
            return {"$base64": base64.b64encode(value).decode()}
        case datetime():
            return {"$time": value.isoformat()}
        case Decimal():
            return {"$decimal": str(value)}
    return repr(value)


_READ: Mapping[str, Any] = {
    "$float": float,
    "$base64": base64.b64decode,
    "$time": datetime.fromisoformat,
    "$decimal": Decimal,
}


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(below) for below in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        ((name, text),) = value.items()
        if name in _READ and isinstance(text, str):
            try:
                return _READ[name](text)
            except (ValueError, ArithmeticError, binascii.Error):
                return text  # somebody's own object that looks like ours
    return {key: _from_json(below) for key, below in value.items()}
