"""Breakers seen from outside: what the fleet's Redis holds, for operators, pages and the monitor."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import redis

from regrow.breakers import quorum, rules
from regrow.breakers.declared import Declared
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import Breaker, BreakerConfig, Host, Look, OrderKind, State
from regrow.breakers.service import LONGEST_NAME, make_order
from regrow.breakers.store import BreakerStore, Outcome, Step
from regrow.errors import StoreUnavailableError


@dataclass(frozen=True)
class ReporterStatus:
    """One host or container whose processes hold a breaker.

    ``state``: its own when it is open or half-open alone, else the fleet's. ``alive``: whether it spoke
    lately; ``silent``: seconds since it did. The calls are those in the window; ``run``: its own
    failures in a row.
    """

    name: str
    state: str
    alive: bool
    silent: float
    successes: int
    failures: int
    run: int


@dataclass(frozen=True)
class BreakerStatus:
    """One breaker of the fleet at one moment.

    ``state``: closed, open or half_open. ``since`` is None for one that never changed. ``retry_after``:
    seconds until a call may be tried, None when only a person can say. ``successes`` and ``failures``: calls
    in the window, ``slow`` of them slow; ``run``: failures in a row; ``probes``: leases given out.
    ``override``: forced_open, disabled, metrics_only or None; ``would_open``: how often it would have opened
    since it was told metrics_only. ``config``: the settings that a process used last; ``declared``: those
    that ``regrow.toml`` changes from the default, None where no worker told the fleet. ``reporters``: the
    hosts that hold it; ``reporter``: the host that this is the own breaker of, None for the fleet's.
    ``ramp``: the share of calls let through while they come back little by little, None when all are.
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
    ramp: float | None = None
    reporter: str | None = None
    reporters: tuple[ReporterStatus, ...] = ()

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
        values["reporters"] = [asdict(reporter) for reporter in self.reporters]
        return {**values, "failure_rate": self.failure_rate, "config": self.config.as_dict()}


def list_breakers(client: redis.Redis) -> list[BreakerStatus]:
    """Every breaker that the fleet used lately, by name, and after each its hosts that are open alone.

    StoreUnavailableError when Redis is away, or the node of a cluster that keeps some of them.
    """
    store = RedisStore(client)
    names = store.names()
    found: list[BreakerStatus] = []
    for name, outcome in zip(
        names, store.apply_all([Step(name, None, Look()) for name in names]), strict=True
    ):
        if isinstance(outcome, StoreUnavailableError):
            raise outcome
        if (status := status_of(name, outcome)) is not None:
            found += [status, *own_statuses(name, outcome)]
    return found


def show(client: redis.Redis, name: str) -> BreakerStatus | None:
    """One breaker, also ``NAME@HOST`` while that host is open alone; None when Redis does not know it."""
    store = RedisStore(client)
    status = _seen(store, name)
    if status is not None or "@" not in name:
        return status
    fleet = name.rpartition("@")[0]
    own = own_statuses(fleet, store.apply(fleet, None, Look()))
    return next((status for status in own if status.name == name), None)


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
    return None if outcome.breaker is None else _status(name, outcome.breaker, outcome)


def own_statuses(name: str, outcome: Outcome) -> list[BreakerStatus]:
    """The own breakers of the hosts that are open alone, called ``NAME@HOST``."""
    breaker, now = outcome.breaker, outcome.now
    return [
        replace(
            _status(own_name(name, host.name), quorum.seen_from(breaker, host.name), outcome),
            reporter=host.name,
        )
        for host in (breaker.hosts if breaker else ())
        if breaker and quorum.is_out(breaker, host, now) and host.own.state is not State.CLOSED
    ]


def own_name(name: str, reporter: str) -> str:
    """What a host's own breaker is called in lists and in the history; of the fleet's, ``name`` itself."""
    if not reporter:
        return name
    whole = f"{name}@{reporter}"
    if len(whole) <= LONGEST_NAME:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{name[: LONGEST_NAME - len(digest) - 1]}@{digest}"


def _status(name: str, breaker: Breaker, outcome: Outcome) -> BreakerStatus:
    now = outcome.now
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
        ramp=_share(outcome.config, breaker, now),
        reporters=tuple(_reporter(breaker, host, now) for host in breaker.hosts),
    )


def _share(config: BreakerConfig, breaker: Breaker, now: int) -> float | None:
    if not breaker.closed_at or breaker.override is not None:
        return None
    share = config.ramp.share((now - breaker.closed_at) / 1000)
    return share if share < 1 else None


def _reporter(breaker: Breaker, host: Host, now: int) -> ReporterStatus:
    part = quorum.part_of(breaker, host.name)
    assert part is not None  # noqa: S101 - it is one of its hosts
    return ReporterStatus(
        name=host.name,
        state=rules.shown_state(quorum.seen_from(breaker, host.name), now).value,
        alive=quorum.lives(host, now),
        silent=(now - host.seen) / 1000,
        successes=part.successes,
        failures=part.failures,
        run=host.own.run,
    )


def moment(ms: int) -> datetime:
    """A store's time as an aware datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def _seen(store: BreakerStore, name: str) -> BreakerStatus | None:
    return status_of(name, store.apply(name, None, Look()))
