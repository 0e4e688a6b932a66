"""Circuit breakers side by side: ours and the libraries people use, each made as its own guide shows.

All get the same :class:`Policy`, as far as their settings know it. A library that is not installed, or that
fails while it is made or first used, raises :class:`Missing` with the reason, which is then shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

NAME = "payments"


class Missing(Exception):
    """A contender that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Policy:
    """Times in seconds, counts in calls."""

    failures_in_a_row: int = 5
    failure_rate: float = 0.5
    minimum_calls: int = 10
    window_calls: int = 100
    open_seconds: float = 60.0
    successes_to_close: int = 3
    probes_at_once: int = 1


@dataclass(frozen=True)
class Guard:
    """One breaker. ``refusals``: what it raises instead of making the call.

    ``successes_to_close``: how many probes it really wants; not every library lets one choose.
    """

    decorate: Callable[[Callable[..., Any]], Callable[..., Any]]
    refusals: tuple[type[BaseException], ...] = ()
    successes_to_close: int = 1
    close: Callable[[], None] = field(default=lambda: None)
    handle: Any = None


Make = Callable[[str, Policy], Guard]


def contender(name: str) -> Make:
    """How to make the contender of this name; Missing instead of the errors of an import or a constructor."""
    make = CONTENDERS[name]

    def made(url: str, policy: Policy) -> Guard:
        try:
            return make(url, policy)
        except Exception as error:
            raise Missing(f"{type(error).__name__}: {error}") from error

    return made


def _client(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url)


def ours(url: str, policy: Policy) -> Guard:
    import regrow
    from regrow.breakers.redis_store import RedisStore
    from regrow.breakers.reporter import Reporter

    reporter = Reporter(RedisStore.from_url(url))
    breaker = regrow.CircuitBreaker(
        NAME,
        failure_threshold=policy.failures_in_a_row,
        failure_rate=policy.failure_rate,
        minimum_requests=policy.minimum_calls,
        window_size=policy.window_calls,
        recovery_timeout=policy.open_seconds,
        success_threshold=policy.successes_to_close,
        half_open_max_calls=policy.probes_at_once,
        reporter=reporter,
    )
    return Guard(breaker, (regrow.CircuitOpenError,), policy.successes_to_close, reporter.close, breaker)


def pybreaker_memory(_url: str, policy: Policy) -> Guard:
    return _pybreaker(None, policy)


def pybreaker_redis(url: str, policy: Policy) -> Guard:
    import pybreaker

    return _pybreaker(pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, _client(url), NAME), policy)


def _pybreaker(storage: Any, policy: Policy) -> Guard:
    import pybreaker

    breaker = pybreaker.CircuitBreaker(
        fail_max=policy.failures_in_a_row,
        reset_timeout=policy.open_seconds,
        success_threshold=policy.successes_to_close,
        state_storage=storage,
        throw_new_error_on_trip=False,  # the call that trips it shows its own error, as everywhere else
    )
    return Guard(breaker, (pybreaker.CircuitBreakerError,), policy.successes_to_close)


def circuitbreaker(_url: str, policy: Policy) -> Guard:
    from circuitbreaker import CircuitBreaker, CircuitBreakerError

    breaker = CircuitBreaker(policy.failures_in_a_row, policy.open_seconds, name=NAME)
    return Guard(breaker, (CircuitBreakerError,))


def purgatory(_url: str, policy: Policy) -> Guard:
    from purgatory import SyncCircuitBreakerFactory
    from purgatory.domain.model import OpenedState

    factory = SyncCircuitBreakerFactory(policy.failures_in_a_row, policy.open_seconds)
    return Guard(factory(NAME), (OpenedState,))


def purgatory_async(_url: str, policy: Policy) -> Guard:
    from purgatory import AsyncCircuitBreakerFactory
    from purgatory.domain.model import OpenedState

    factory = AsyncCircuitBreakerFactory(policy.failures_in_a_row, policy.open_seconds)
    return Guard(factory(NAME), (OpenedState,))


def aiobreaker(_url: str, policy: Policy) -> Guard:
    import aiobreaker

    breaker = aiobreaker.CircuitBreaker(policy.failures_in_a_row, timedelta(seconds=policy.open_seconds))
    return Guard(breaker, (aiobreaker.CircuitBreakerError,))


def interlock_memory(_url: str, policy: Policy) -> Guard:
    return _interlock(None, policy)


def interlock_redis(url: str, policy: Policy) -> Guard:
    from interlock.integrations.redis import RedisStorage

    return _interlock(RedisStorage(_client(url)), policy)


def _interlock(storage: Any, policy: Policy) -> Guard:
    import interlock

    config = interlock.Config(
        failure_rate_threshold=policy.failure_rate,
        minimum_number_of_calls=policy.minimum_calls,
        window_size=policy.window_calls,
        wait_duration_in_open=policy.open_seconds,
        permitted_calls_in_half_open=policy.successes_to_close,
        max_concurrent_probes=policy.probes_at_once,
    )
    breaker = interlock.CircuitBreaker(name=NAME, config=config, storage=storage)
    close = breaker.close if storage is not None else (lambda: None)
    return Guard(breaker, (interlock.CircuitOpenError,), policy.successes_to_close, close)


def nopanic_redis(url: str, policy: Policy) -> Guard:
    from nopanic import CircuitOpen
    from nopanic_redis import redis_circuit_breaker

    breaker = redis_circuit_breaker(
        _client(url),
        name=NAME,
        failure_threshold=policy.failure_rate,
        min_calls=policy.minimum_calls,
        reset_timeout=policy.open_seconds,
        half_open_max_calls=policy.probes_at_once,  # the successes that close it as well
    )
    return Guard(breaker, (CircuitOpen,), policy.probes_at_once)


CONTENDERS: dict[str, Make] = {
    "ours": ours,
    "pybreaker_memory": pybreaker_memory,
    "pybreaker_redis": pybreaker_redis,
    "circuitbreaker": circuitbreaker,
    "purgatory": purgatory,
    "purgatory_async": purgatory_async,
    "aiobreaker": aiobreaker,
    "interlock_memory": interlock_memory,
    "interlock_redis": interlock_redis,
    "nopanic_redis": nopanic_redis,
}


@contextlib.contextmanager
def guarding(name: str, url: str, policy: Policy | None = None):
    """A contender's guard, closed at the end."""
    guard = contender(name)(url, policy or Policy())
    try:
        yield guard
    finally:
        guard.close()
