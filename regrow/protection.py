"""What both middlewares decide: which breaker guards a path, what a refusal says, how a request went.

No protocol here: ``regrow.asgi`` and ``regrow.wsgi`` translate.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from regrow.breakers.admission import Permit
from regrow.breakers.service import CircuitBreaker, get_circuit_breaker
from regrow.degradation import Answer, Paths, Shedding
from regrow.errors import CircuitOpenError, DegradedError, SettingsError
from regrow.intake import Intake
from regrow.request_counts import RequestCounts
from regrow.requests.failing import Failing

Service = str | CircuitBreaker | Mapping[str, Any]
"""A breaker's name, a breaker, or its settings with its name as ``service``."""

App = TypeVar("App")

EXEMPT = ("/health/live",)
READINESS = ("/health/ready",)
STREAM_ANSWERS = 1.0  # seconds after which a body that still flows has shown that the service answers


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer instead of a call: status 503, when to come back, and a problem document (RFC 9457).

    It names no service: who is told to wait need not know what we are made of.
    """

    retry_after: int
    body: bytes

    status = 503
    reason = "Service Unavailable"

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("content-type", "application/problem+json"),
            ("content-length", str(len(self.body))),
            ("retry-after", str(self.retry_after)),
            ("cache-control", "no-store"),
        ]


def refusal(seconds: float) -> Refusal:
    """The refusal that asks to stay away for ``seconds``, told in whole ones, rounded up, at least 1."""
    wait = max(1, math.ceil(seconds))
    problem = {
        "type": "about:blank",
        "title": Refusal.reason,
        "status": Refusal.status,
        "detail": f"This is not available for now. Try again in {wait} s.",
        "retry_after": wait,
    }
    return Refusal(wait, json.dumps(problem).encode())


class Protection:
    """Paths and their breakers. Prefixes end at a slash: ``/api`` covers ``/api/x`` and not ``/apiary``."""

    def __init__(
        self,
        protected: Mapping[str, Service] | None = None,
        *,
        exempt: Iterable[str] = EXEMPT,
        intake: Intake | None = None,
        drain_retry_after: float = 5.0,
        readiness: Iterable[str] = READINESS,
        degradation: Paths | None = None,
        shedding: Shedding | None = None,
    ) -> None:
        breakers = {_prefix(path): _breaker(path, service) for path, service in (protected or {}).items()}
        # Longest first, so that the first that covers a path is the nearest.
        self._breakers = [
            (prefix, prefix + "/", breakers[prefix]) for prefix in sorted(breakers, key=len, reverse=True)
        ]
        self._exempt = [(prefix, prefix + "/") for prefix in map(_prefix, exempt)]
        self._readiness = [(prefix, prefix + "/") for prefix in map(_prefix, readiness)]
        self.intake = intake or Intake()
        self.draining = refusal(drain_retry_after)
        self._paths, self._shedding = degradation, shedding
        self._off = refusal(degradation.retry_after) if degradation else self.draining
        self._shed = refusal(shedding.retry_after) if shedding else self.draining

    def exempts(self, path: str) -> bool:
        """Whether requests for ``path`` are neither counted, guarded nor turned away."""
        return _covers(self._exempt, path)

    def withholds(self, path: str) -> bool:
        """Whether ``path`` asks if traffic may come, of a process that is about to stop."""
        return self.intake.leaving and _covers(self._readiness, path)

    @property
    def awaits_level(self) -> bool:
        """Whether the level matters here and nothing is known of it yet."""
        return self._paths is not None and not self._paths.watch.looked

    def wait_for_level(self) -> None:
        """Wait for the first look at it, a fraction of a second at most."""
        if self._paths is not None:
            self._paths.watch.wait_for_first_look()

    def replaces(
        self, method: str, path: str, loop: asyncio.AbstractEventLoop | None = None
    ) -> Refusal | Answer | None:
        """What is answered in place of the application, at this level or under this load; None: nothing."""
        if self._paths is not None:
            answer = self._paths.refuses(method, path)
            if answer is not None:
                return answer if isinstance(answer, Answer) else self._off
        if self._shedding is not None and not self._shedding.admits(path, self.intake.in_flight, loop):
            return self._shed
        return None

    def breaker_for(self, path: str) -> CircuitBreaker | None:
        """The breaker of the longest prefix that covers ``path``."""
        for prefix, below, breaker in self._breakers:
            if path == prefix or path.startswith(below):
                return breaker
        return None


class ProtectedApp(Generic[App]):
    """Guards paths by circuit breakers, counts what is in hand, turns requests away while draining.

    ``protected``: path prefix -> breaker (its name, itself, or ``{"service": name, **settings}``); the
    longest prefix wins. ``exempt``: prefixes that are never counted nor turned away. ``intake``: one to share
    with whoever drains, where the framework keeps this object to itself. ``drain_retry_after``: seconds.
    ``readiness``: prefixes that answer 503 from the moment a drain begins, before anything else is turned
    away. ``name``: what this application is called in the metrics. ``degradation``: which requests are
    served at which level. ``shedding``: turns away what is too much. ``failing``: which requests count as
    failed in the service's figures. SettingsError for a path or settings that cannot be used.
    """

    def __init__(
        self,
        app: App,
        protected: Mapping[str, Service] | None = None,
        *,
        exempt: Iterable[str] = EXEMPT,
        intake: Intake | None = None,
        drain_retry_after: float = 5.0,
        readiness: Iterable[str] = READINESS,
        name: str = "app",
        degradation: Paths | None = None,
        shedding: Shedding | None = None,
        failing: Failing | None = None,
    ) -> None:
        self.app = app
        self._protection = Protection(
            protected,
            exempt=exempt,
            intake=intake,
            drain_retry_after=drain_retry_after,
            readiness=readiness,
            degradation=degradation,
            shedding=shedding,
        )
        self.intake = self._protection.intake
        self._counts = RequestCounts(name)
        self._failing = failing or Failing()

    @property
    def in_flight(self) -> int:
        """Requests in hand."""
        return self.intake.in_flight

    def count(self, exchange: Exchange, seconds: float, breaker: CircuitBreaker | None) -> None:
        """A request that was let in has ended, after ``seconds``."""
        failed = exchange.failed(self._failing)
        self._counts.ended(exchange.status, seconds, failed=failed, route=breaker.name if breaker else "")

    def count_refusal(self, path: str, answer: Refusal | Answer) -> None:
        """A request was answered in place of the application, but not because of a drain."""
        breaker = self._protection.breaker_for(path)
        failed = self._failing.refusals and answer.status in self._failing.statuses
        self._counts.refused(failed=failed, route=breaker.name if breaker else "")


class Exchange:
    """One request that was let in, from its answer's head to its end; it settles the permit.

    - an error, or a status of 500 and above, is a failure; so is an answer whose head came after ``timeout``,
      and one that ends in the middle;
    - a whole answer is a success; so is a body that has flowed for a second: a stream may last for hours;
    - a client that went away says nothing about us.
    """

    __slots__ = (
        "_began",
        "_clock",
        "_gone",
        "_head_at",
        "_permit",
        "_raised",
        "_refused",
        "_status",
        "_streams",
        "_whole",
    )

    def __init__(self, permit: Permit | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._permit = permit
        self._clock = clock
        self._began = clock()
        self._head_at = 0.0
        self._status = 0
        self._whole = self._gone = self._raised = self._refused = self._streams = False

    @property
    def answered(self) -> bool:
        """Whether the answer has begun, so that no other can be given."""
        return self._status != 0

    @property
    def status(self) -> int:
        """The status of the answer, 0 while it has not begun."""
        return self._status

    @property
    def seconds(self) -> float:
        """How long the request has been in hand."""
        return self._clock() - self._began

    def failed(self, failing: Failing) -> bool:
        """Whether the request failed, told at its end, or when it turns out to be a stream."""
        if self._refused:
            return failing.refusals
        if self._status in failing.statuses:
            return True
        if self._gone or not failing.exceptions:
            return False
        return self._raised or not (self._whole or self._streams)

    def streams(self) -> None:
        """The answer has no end that one could wait for."""
        self._streams = True

    def head(self, status: int) -> None:
        """The answer begins; again when an error replaced it before it was sent."""
        self._status = status
        self._head_at = self._clock()

    def flow(self) -> None:
        """A part of the body went out, and there is more."""
        if self._permit is not None and self._clock() - self._head_at > STREAM_ANSWERS:
            self.complete()

    def complete(self) -> None:
        """The answer is whole. With a status of 500 and above :meth:`end` decides, or the error behind it."""
        self._whole = True
        if self._permit is not None and 0 < self._status < 500:
            self._permit.success(self._head_at - self._began)

    def lose(self) -> None:
        """The client went away. After a whole answer it may."""
        self._gone = self._gone or not self._whole

    def fail(self, error: BaseException) -> None:
        """The application raised, or was cancelled."""
        if not isinstance(error, Exception):
            self.lose()
        elif not self._gone:
            self._raised = True
        if self._permit is None:
            return
        if self._gone or not isinstance(error, Exception):
            self._permit.release()
        else:
            self._permit.failure(error)

    def end(self) -> None:
        """The application is done with the request; if its answer is not whole, it failed."""
        if self._permit is None:
            return
        if self._gone:
            self._permit.release()
        else:
            self._permit.failure()

    def refusal_for(self, error: CircuitOpenError | DegradedError) -> Refusal | None:
        """What to answer when the application itself refused, by an error that nobody caught."""
        if self.answered:
            return None
        self._refused = True
        return refusal(error.retry_after)


def _covers(prefixes: Iterable[tuple[str, str]], path: str) -> bool:
    return any(path == prefix or path.startswith(below) for prefix, below in prefixes)


def _prefix(path: str) -> str:
    if not path.startswith("/"):
        raise SettingsError(f"protected path {path!r}: begin it with a slash, as requests do")
    return path.rstrip("/")


def _breaker(path: str, service: Service) -> CircuitBreaker:
    if isinstance(service, CircuitBreaker):
        return service
    if isinstance(service, str):
        return get_circuit_breaker(service)
    settings = dict(service)
    name = settings.pop("service", None)
    if name is None:
        raise SettingsError(f"protected path {path!r}: its settings lack 'service', the breaker's name")
    try:
        return get_circuit_breaker(name, **settings)
    except TypeError as error:
        raise SettingsError(f"protected path {path!r}: {error}") from error
