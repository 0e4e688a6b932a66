"""What recovery does to breakers: it looks at several at once, and closes one that nobody changed since."""

from __future__ import annotations

from collections.abc import Collection

import redis

from regrow.breakers.events import log_transitions
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import Look, Order, OrderKind, State
from regrow.breakers.service import make_order
from regrow.breakers.status import BreakerStatus, status_of
from regrow.breakers.store import Step
from regrow.errors import StoreUnavailableError

_TRIES = 3


def look_at(client: redis.Redis, names: Collection[str]) -> dict[str, BreakerStatus | None]:
    """The breakers of these names; None for one that nobody uses, absent where its node did not answer.

    StoreUnavailableError when nothing answers.
    """
    wanted = list(names)
    outcomes = RedisStore(client).apply_all([Step(name, None, Look()) for name in wanted])
    found: dict[str, BreakerStatus | None] = {}
    for name, outcome in zip(wanted, outcomes, strict=True):
        if not isinstance(outcome, StoreUnavailableError):
            found[name] = status_of(name, outcome)
    if wanted and not found:
        raise next(outcome for outcome in outcomes if isinstance(outcome, StoreUnavailableError))
    return found


def closed_by(client: redis.Redis, name: str) -> str:
    """Who closed a breaker last: an actor, or nobody, where probes did."""
    closings = [told for told in RedisStore(client).transitions(name) if told.to_state is State.CLOSED]
    return closings[-1].actor if closings else ""


def close(client: redis.Redis, name: str, *, actor: str, reason: str) -> bool:
    """Close a breaker for the fleet, unless a person holds it; whether it is closed now.

    A change between look and order is seen, and looked at anew: no newer word of anybody is undone.
    StoreUnavailableError when Redis is away.
    """
    store = RedisStore(client)
    for _ in range(_TRIES):
        breaker = store.apply(name, None, Look()).breaker
        if breaker is None or breaker.override is not None:
            return breaker is None
        if breaker.state is State.CLOSED:
            return True
        asked = make_order(OrderKind.RESET, actor, reason, None)
        command = Order(asked.kind, asked.actor, asked.reason, over=breaker.epoch)
        outcome = store.apply(name, None, command)
        log_transitions(name, outcome.transitions, shared=True)
        if outcome.accepted:
            return True
    return False
