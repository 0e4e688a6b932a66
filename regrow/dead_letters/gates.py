"""What the circuit breakers of services say to a redrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from regrow.breakers import BreakerStatus
from regrow.dead_letters.pacing import Gate
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError

logger = structlog.get_logger(__name__)

Gates = Callable[[Engine, Sequence[str]], Mapping[str, Gate]]
"""Service -> what its breaker says; one that is not named is closed, or nobody knows it."""


def ask_breakers(engine: Engine, services: Sequence[str]) -> Mapping[str, Gate]:
    """What the services' circuit breakers say. Redis away: none is known.

    A letter that is sent into an open breaker is refused by the app's own breaker and comes back; a breaker
    that nobody can see must not stop every redrive.
    """
    from regrow import breakers

    gates: dict[str, Gate] = {}
    try:
        for name in services:
            status = breakers.show(engine.redis, name)
            if status is not None:
                forced = engine.settings.breaker(name).recovery_timeout  # only a person knows how long
                gates[name] = Gate(
                    state=status.state,  # type: ignore[arg-type]
                    seconds=forced if status.retry_after is None else status.retry_after,
                    since=status.since,
                    failing=_failing(engine, name, status),
                )
    except StoreUnavailableError as error:
        logger.warning("breakers.unknown", error=str(error))
    return gates


def _failing(engine: Engine, name: str, status: BreakerStatus) -> float:
    """The share of failed calls, live ones with ours, once there are enough to tell."""
    enough = status.successes + status.failures >= engine.settings.breaker(name).minimum_requests
    return (status.failure_rate or 0.0) if enough else 0.0
