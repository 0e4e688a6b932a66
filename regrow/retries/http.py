"""Retries for HTTP calls, whichever client makes them; none of them is imported here."""

from __future__ import annotations

import sys
import urllib.error
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from regrow.clock import seconds, wait, wait_async
from regrow.errors import CircuitOpenError
from regrow.retries.budget import RetryBudget
from regrow.retries.course import UnwelcomeResult
from regrow.retries.policy import Jitter, Randomness, RetryPolicy, Strategy
from regrow.retries.service import retrying

P = ParamSpec("P")
R = TypeVar("R")

PASSING_STATUSES = frozenset({429, 502, 503, 504})

# Errors of the way there and back, by client. Errors that another try cannot mend stay out: a bad URL, a
# certificate that does not hold, an answer that was understood.
_PASSING = {
    "httpx": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "requests": ("ConnectionError", "Timeout"),
    "requests.exceptions": ("ChunkedEncodingError",),
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "urllib3.exceptions": ("TimeoutError", "ProtocolError", "NewConnectionError"),
    "http.client": ("RemoteDisconnected", "IncompleteRead"),
}
_LASTING = {"requests.exceptions": ("SSLError",), "aiohttp": ("ClientSSLError",), "ssl": ("SSLError",)}


def retry_http_requests(
    *,
    max_retries: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 30.0,
    deadline: float | None = None,
    strategy: Strategy = "exponential",
    jitter: Jitter = "full",
    statuses: frozenset[int] = PASSING_STATUSES,
    max_retry_after: float = 300.0,
    budget: RetryBudget | None = None,
    sleep: Callable[[float], None] = wait,
    sleep_async: Callable[[float], Awaitable[None]] = wait_async,
    clock: Callable[[], float] = seconds,
    rng: Randomness | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that makes an HTTP request and may make it twice.

    Tries again after connection errors, timeouts and the ``statuses`` (429, 502, 503, 504), whether they come
    as an error (``raise_for_status``) or as the response that the function returns; in the end the last error
    is raised or the last response returned. Waits as long as ``Retry-After`` asks, or a circuit breaker
    around the request. Knows httpx, requests, aiohttp and urllib.
    """

    def passing_error(error: BaseException) -> bool:
        if isinstance(error, UnwelcomeResult | CircuitOpenError):
            return True
        status = status_of(error)
        return status in statuses if status is not None else is_passing(error)

    def passing_response(result: Any) -> str | None:
        status = _answered(result)
        return f"HTTP status {status}" if status in statuses else None

    policy = RetryPolicy(
        max_retries=max_retries,
        base_delay=base_delay,
        max_delay=max_delay,
        deadline=deadline,
        strategy=strategy,
        jitter=jitter,
        on=passing_error,
        max_retry_after=max_retry_after,
    )
    return retrying(
        policy,
        budget=budget,
        unwelcome=passing_response,
        sleep=sleep,
        sleep_async=sleep_async,
        clock=clock,
        rng=rng,
    )


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error stands for; None when there was no answer."""
    response = getattr(error, "response", None)
    for source, name in ((response, "status_code"), (error, "status"), (error, "code")):
        status = getattr(source, name, None)
        if isinstance(status, int) and not isinstance(status, bool):
            return status
    return None


def _answered(result: object) -> int | None:
    """The HTTP status of a response; None of anything else that a function may return."""
    status = getattr(result, "status_code", None)
    if status is None and hasattr(result, "headers"):  # aiohttp; other things have a status too
        status = getattr(result, "status", None)
    return status if isinstance(status, int) else None


def is_passing(error: BaseException) -> bool:
    """Whether the way there or back failed, so that another try may do better."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return is_passing(error.reason)
    if isinstance(error, _loaded(_LASTING)):
        return False
    return isinstance(error, (ConnectionError, TimeoutError, *_loaded(_PASSING)))


def _loaded(names: Mapping[str, tuple[str, ...]]) -> tuple[type[BaseException], ...]:
    """The classes of those clients that this process has imported."""
    found = (
        getattr(sys.modules[module], name, None)
        for module, classes in names.items()
        if module in sys.modules
        for name in classes
    )
    return tuple(kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseException))
