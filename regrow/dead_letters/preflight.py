"""Whether letters would arrive: declared routes and queues, and single letters, looked at without effects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from regrow.dead_letters import reading, routes
from regrow.dead_letters.route import Outbound
from regrow.dead_letters.routes.handler import load
from regrow.engine import Engine
from regrow.errors import DeliveryRefusedError, RegrowError
from regrow.outgoing import plain
from regrow.settings.routes import (
    AmqpRoute,
    CeleryRoute,
    DeadLetterQueue,
    HandlerRoute,
    RouteSettings,
    WebhookRoute,
)


@dataclass(frozen=True)
class Finding:
    """``ok`` None: it cannot be known without sending."""

    subject: str
    ok: bool | None
    told: str


Told = tuple[bool | None, str]


def check_routes(engine: Engine) -> list[Finding]:
    """Every declared route and dead-letter queue; nothing is sent, declared or called."""
    letters = engine.settings.dead_letters
    return [
        *(_finding(f"routes.{name}", _route, engine, route) for name, route in letters.routes.items()),
        *(_finding(f"queues.{name}", _dead_letter_queue, engine, to) for name, to in letters.queues.items()),
    ]


def check_letters(engine: Engine, ids: Iterable[str]) -> list[Finding]:
    """Where each letter (or event) would go, whether it would be taken as far as that can be known, and what
    a redrive cannot bring back."""
    return [_finding(letter_or_event, _letter, engine, letter_or_event) for letter_or_event in ids]


def _finding(subject: str, look: Callable[[Engine, Any], Told], engine: Engine, at: Any) -> Finding:
    """One subject that cannot be looked at must not hide the others."""
    try:
        return Finding(subject, *look(engine, at))
    except RegrowError as error:
        return Finding(subject, ok=False, told=str(error))


def _route(engine: Engine, route: RouteSettings) -> Told:
    match route:
        case CeleryRoute():
            return _exists(engine, route.broker, queue=route.queue)
        case AmqpRoute():
            return _address(engine, route)
        case HandlerRoute():
            for name in filter(None, (route.handler, route.validate_with)):
                load(name)
            return True, f"{route.handler} can be called"
        case WebhookRoute():
            return None, f"{plain(str(route.url))} is only called with a letter"


def _dead_letter_queue(engine: Engine, declared: DeadLetterQueue) -> Told:
    return _exists(engine, declared.broker, queue=declared.queue)


def _address(engine: Engine, route: AmqpRoute) -> Told:
    if route.exchange:
        return _exists(engine, route.broker, exchange=route.exchange)
    if route.exchange == "" and route.routing_key:
        return _exists(engine, route.broker, queue=route.routing_key)
    return None, "each letter says where it was published"


def _exists(engine: Engine, broker: str | None, *, queue: str = "", exchange: str = "") -> Told:
    what = f"queue {queue!r}" if queue else f"exchange {exchange!r}"
    where = what if broker is None else f"{what} of broker {broker}"
    there = engine.sender_on(broker).exists(queue=queue, exchange=exchange)
    if there is None:
        return None, f"{where}: on Redis every queue exists"
    if there:
        return True, f"{where} is there"
    return False, f"the broker has no {where}; start what declares it, or correct the settings"


def _letter(engine: Engine, letter_or_event: str) -> Told:
    found = reading.show(engine, letter_or_event)
    letter, body = found.letter, found.body
    route = routes.find(engine, letter)
    try:
        route.validate(Outbound(letter, body, "preflight"))
    except DeliveryRefusedError as error:
        # What a function says of a message may quote it.
        return False, reading.redactor_of(engine).text(f"{route.target} would not take it: {error}")
    return True, "; but ".join((f"would go to {route.target}", *found.hazards))
