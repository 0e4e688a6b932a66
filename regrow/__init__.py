"""Regrow: circuit breakers that a fleet shares, retries and dead letters, for Celery and its surroundings.

``import regrow`` needs ``redis`` and nothing else, and costs next to nothing: what a name stands for is
imported when the name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from regrow.version import __version__

if TYPE_CHECKING:
    from regrow import (
        asgi,
        breakers,
        celery,
        dead_letters,
        degradation,
        drain,
        errors,
        httpx,
        intake,
        later,
        retries,
        sqlalchemy,
        testing,
        wsgi,
    )
    from regrow.breakers.service import CircuitBreaker, get_circuit_breaker
    from regrow.configuration import configure
    from regrow.degradation import requires
    from regrow.errors import (
        CircuitOpenError,
        DegradedError,
        RegrowError,
        SettingsError,
        StoreUnavailableError,
    )
    from regrow.fallbacks import fallback_for
    from regrow.retries import RetryBudget, RetryPolicy, attempts, retry, retry_http_requests
    from regrow.startup import DependencyMissingError, wait_for, wait_for_async

_HOMES = {
    "DependencyMissingError": "regrow.startup",
    "wait_for": "regrow.startup",
    "wait_for_async": "regrow.startup",
    "CircuitBreaker": "regrow.breakers.service",
    "CircuitOpenError": "regrow.errors",
    "DegradedError": "regrow.errors",
    "RegrowError": "regrow.errors",
    "RetryBudget": "regrow.retries",
    "RetryPolicy": "regrow.retries",
    "SettingsError": "regrow.errors",
    "StoreUnavailableError": "regrow.errors",
    "attempts": "regrow.retries",
    "configure": "regrow.configuration",
    "fallback_for": "regrow.fallbacks",
    "get_circuit_breaker": "regrow.breakers.service",
    "requires": "regrow.degradation",
    "retry": "regrow.retries",
    "retry_http_requests": "regrow.retries",
}
_ROOMS = (
    "asgi",
    "breakers",
    "celery",
    "dead_letters",
    "degradation",
    "drain",
    "errors",
    "httpx",
    "intake",
    "later",
    "retries",
    "sqlalchemy",
    "testing",
    "wsgi",
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _ROOMS:
        value = import_module(f"regrow.{name}")
    else:
        raise AttributeError(f"module 'regrow' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "CircuitBreaker",
    "CircuitOpenError",
    "DegradedError",
    "DependencyMissingError",
    "RegrowError",
    "RetryBudget",
    "RetryPolicy",
    "SettingsError",
    "StoreUnavailableError",
    "__version__",
    "asgi",
    "attempts",
    "breakers",
    "celery",
    "configure",
    "dead_letters",
    "degradation",
    "drain",
    "errors",
    "fallback_for",
    "get_circuit_breaker",
    "httpx",
    "intake",
    "later",
    "requires",
    "retries",
    "retry",
    "retry_http_requests",
    "sqlalchemy",
    "testing",
    "wait_for",
    "wait_for_async",
    "wsgi",
]
