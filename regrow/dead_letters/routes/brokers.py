"""Which broker a route publishes on, and the circuit breaker that guards it."""

from __future__ import annotations

from regrow.engine import Engine
from regrow.errors import RouteError

BROKER = "regrow.broker"
"""The circuit breaker around publishing: a broker that is away is not asked again for every letter."""


def breaker_of(broker: str | None) -> str:
    return BROKER if broker is None else f"{BROKER}:{broker}"


def declared_broker(engine: Engine, broker: str | None) -> str | None:
    """The same name; RouteError when the settings do not know it."""
    if broker is not None and broker not in engine.settings.brokers:
        raise RouteError(
            f"the letter's home is on broker {broker!r}, which is not declared: "
            f"write [brokers.{broker}] with its url"
        )
    return broker
