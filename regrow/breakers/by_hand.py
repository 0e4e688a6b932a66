"""A person's hand on a breaker's switch, from command line or web: done in Redis, then written down."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from regrow import audit
from regrow.breakers.overrides import LastOrder, keep, standing
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import Look, OrderKind
from regrow.breakers.service import make_order
from regrow.breakers.status import BreakerStatus, status_of
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError


@dataclass(frozen=True)
class Switched:
    """The breaker after an order. ``unwritten``: why neither audit nor table have it, None when they do.

    The order holds all the same, and the monitor writes it down when the database is back; the audit row
    stays missing.
    """

    status: BreakerStatus
    unwritten: StoreUnavailableError | None = None


def switch(
    engine: Engine,
    name: str,
    kind: OrderKind | str,
    *,
    actor: str,
    reason: str,
    expires_in: float | None = None,
) -> Switched | None:
    """``reset``, ``force_open``, ``disable`` or ``metrics_only``, fleet-wide; None when there is none.

    ``expires_in`` in seconds. It needs Redis alone (StoreUnavailableError), so that an outage of the database
    can be ended too. SettingsError without an actor.
    """
    kind = OrderKind(kind)
    command = make_order(kind, actor, reason, expires_in)
    store = RedisStore(engine.redis)
    if store.apply(name, None, Look()).breaker is None:
        return None
    outcome = store.apply(name, None, command)
    breaker, status = outcome.breaker, status_of(name, outcome)
    assert breaker is not None and status is not None  # noqa: S101, PT018 - an order makes what it orders
    order = (
        standing(breaker, breaker.override)
        if breaker.override is not None
        else LastOrder(breaker.epoch, None, command.actor, command.reason, breaker.since)
    )

    def work(connection: sa.Connection) -> None:
        keep(connection, name, order)
        audit.write(
            connection,
            at=engine.clock(),
            actor=actor,
            act=f"breaker.{kind.value}",
            subject=name,
            reason=reason,
            details={} if expires_in is None else {"seconds": expires_in},
        )

    try:
        engine.database.run(work)
    except StoreUnavailableError as error:
        return Switched(status, unwritten=error)
    return Switched(status)
