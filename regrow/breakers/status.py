"""Breakers seen from outside: what the fleet's Redis holds, for operators, pages and the monitor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from regrow.breakers import rules
from regrow.breakers.declared import Declared
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import BreakerConfig, Look, OrderKind
from regrow.breakers.service import make_order
from regrow.breakers.store import BreakerStore, Outcome


@dataclass(frozen=True)
class BreakerStatus:
    """One breaker of the fleet at one moment.

    ``state``: closed, open or half_open. ``since`` is None for one that never changed. ``retry_after``:
    seconds until a call may be tried, None when only a person can say. ``successes`` and ``failures``: calls
    in the window, ``slow`` of them slow; ``run``: failures in a row; ``probes``: leases given out.
    ``override``: forced_open, disabled, metrics_only or None; ``would_open``: how often it would have opened
    since it was told metrics_only. ``config``: the settings that a process used last; ``declared``: those
    that ``regrow.toml`` changes from the default, None where no worker told the fleet.
    """

    name: str
    state: str
    epoch: int
    since: datetime | None
    retry_after: float | None
    successes: int
    failures: int
    run: int
    probes: int
    override: str | None
    override_actor: str | None
    override_reason: str | None
    override_until: datetime | None
    config: BreakerConfig
    slow: int = 0
    would_open: int = 0
    declared: Declared | None = None

    @property
    def failure_rate(self) -> float | None:
        """The share of failed calls in the window; None without calls."""
        total = self.successes + self.failures
        return self.failures / total if total else None

    def as_dict(self) -> dict[str, Any]:
        """JSON values; times in ISO 8601."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("since", "override_until"):
            values[name] = values[name].isoformat() if values[name] else None
        values["declared"] = None if self.declared is None else dict(self.declared)
        return {**values, "failure_rate": self.failure_rate, "config": self.config.as_dict()}


def list_breakers(client: redis.Redis) -> list[BreakerStatus]:
    """Every breaker that the fleet used lately, by name. StoreUnavailableError when Redis is away."""
    store = RedisStore(client)
    found = (_seen(store, name) for name in store.names())
    return [status for status in found if status is not None]


def show(client: redis.Redis, name: str) -> BreakerStatus | None:
    """One breaker; None when Redis does not know it."""
    return _seen(RedisStore(client), name)


def order(
    client: redis.Redis,
    name: str,
    kind: OrderKind | str,
    *,
    actor: str,
    reason: str = "",
    expires_in: float | None = None,
) -> BreakerStatus | None:
    """``reset``, ``force_open``, ``disable`` or ``metrics_only``, fleet-wide; None when there is none.

    ``expires_in`` in seconds. SettingsError without an actor.
    """
    store = RedisStore(client)
    command = make_order(OrderKind(kind), actor, reason, expires_in)
    if _seen(store, name) is None:
        return None
    return status_of(name, store.apply(name, None, command))


def status_of(name: str, outcome: Outcome) -> BreakerStatus | None:
    """What a store said about a breaker, as people read it."""
    breaker, now = outcome.breaker, outcome.now
    if breaker is None:
        return None
    left = rules.retry_after_ms(breaker, now)
    override = breaker.override
    return BreakerStatus(
        name=name,
        state=rules.shown_state(breaker, now).value,
        epoch=breaker.epoch,
        since=moment(breaker.since) if breaker.since else None,
        retry_after=None if left is None else left / 1000,
        successes=breaker.successes,
        failures=breaker.failures,
        slow=breaker.slow,
        would_open=breaker.would_open,
        run=breaker.run,
        probes=len(breaker.leases),
        override=override.kind.value if override else None,
        override_actor=override.actor if override else None,
        override_reason=override.reason if override else None,
        override_until=moment(override.until) if override and override.until else None,
        config=outcome.config,
        declared=outcome.declared,
    )


def moment(ms: int) -> datetime:
    """A store's time as an aware datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def _seen(store: BreakerStore, name: str) -> BreakerStatus | None:
    return status_of(name, store.apply(name, None, Look()))
