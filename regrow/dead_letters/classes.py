"""What kind of failure it was, and what follows from that. Pure, and light enough for apps.

An error is known by the dotted names of its class and of its bases, nearest first (its *lineage*), and never
by words in its message. The first name that a registry knows decides; what no registry knows is ``unknown``.
An error that carries an HTTP answer has ``HTTP 429`` and ``HTTP 4xx`` at the head of its lineage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

from regrow.errors import DeliveryFailedError, LetterRefusedError
from regrow.failures import FailureClass
from regrow.retries.hints import retry_after as hinted

_MOST_NAMES, _LONGEST_NAME = 20, 255


@dataclass(frozen=True)
class Strategy:
    """What a class of failure leads to.

    ``costs_attempt``: the failure uses up one of the letter's redrives. ``most``: so many failures of this
    class are the last (None: the letter's own number of redrives and its age decide); 1 is at once.
    """

    costs_attempt: bool = True
    most: int | None = None


STRATEGIES: Mapping[FailureClass, Strategy] = {
    FailureClass.TRANSIENT: Strategy(),
    FailureClass.RATE_LIMITED: Strategy(),
    FailureClass.UNKNOWN: Strategy(),
    # Nothing was tried, or nobody was there to try it: the letter is not the worse for it.
    FailureClass.DEPENDENCY_DOWN: Strategy(costs_attempt=False),
    FailureClass.BREAKER_REFUSED: Strategy(costs_attempt=False),
    FailureClass.PERMANENT: Strategy(most=1),
    # One dead worker is an accident (the OOM killer takes the biggest, not the guilty); two are a pattern.
    FailureClass.POISON: Strategy(most=2),
}

STRAINED = frozenset(
    {
        FailureClass.TRANSIENT,
        FailureClass.RATE_LIMITED,
        FailureClass.DEPENDENCY_DOWN,
        FailureClass.BREAKER_REFUSED,
    }
)
"""Failures that tell of the service's state, not of the message."""

BUILT_IN: Mapping[str, FailureClass] = {
    # The connection broke, or an answer did not come: another time it may.
    "ConnectionError": FailureClass.TRANSIENT,
    "TimeoutError": FailureClass.TRANSIENT,
    "InterruptedError": FailureClass.TRANSIENT,
    "BlockingIOError": FailureClass.TRANSIENT,
    "asyncio.exceptions.CancelledError": FailureClass.TRANSIENT,
    "http.client.HTTPException": FailureClass.TRANSIENT,
    "smtplib.SMTPServerDisconnected": FailureClass.TRANSIENT,
    "socket.gaierror": FailureClass.TRANSIENT,
    "ssl.SSLError": FailureClass.TRANSIENT,  # before its other base, ValueError
    "urllib.error.URLError": FailureClass.TRANSIENT,
    "celery.exceptions.MaxRetriesExceededError": FailureClass.TRANSIENT,
    "httpx.TransportError": FailureClass.TRANSIENT,
    "requests.exceptions.ConnectionError": FailureClass.TRANSIENT,
    "requests.exceptions.Timeout": FailureClass.TRANSIENT,
    "redis.exceptions.TimeoutError": FailureClass.TRANSIENT,
    "sqlalchemy.exc.OperationalError": FailureClass.TRANSIENT,  # deadlocks are among them
    "pymysql.err.OperationalError": FailureClass.TRANSIENT,
    # Nobody answers there.
    "ConnectionRefusedError": FailureClass.DEPENDENCY_DOWN,
    "httpx.ConnectError": FailureClass.DEPENDENCY_DOWN,
    "httpx.ConnectTimeout": FailureClass.DEPENDENCY_DOWN,
    "requests.exceptions.ConnectTimeout": FailureClass.DEPENDENCY_DOWN,
    "redis.exceptions.ConnectionError": FailureClass.DEPENDENCY_DOWN,
    "kombu.exceptions.OperationalError": FailureClass.DEPENDENCY_DOWN,
    "smtplib.SMTPConnectError": FailureClass.DEPENDENCY_DOWN,
    "regrow.errors.StoreUnavailableError": FailureClass.DEPENDENCY_DOWN,
    # A circuit breaker did not let the call through.
    "regrow.errors.CircuitOpenError": FailureClass.BREAKER_REFUSED,
    "regrow.errors.DegradedError": FailureClass.DEPENDENCY_DOWN,
    "pybreaker.CircuitBreakerError": FailureClass.BREAKER_REFUSED,
    "circuitbreaker.CircuitBreakerError": FailureClass.BREAKER_REFUSED,
    "aiobreaker.state.CircuitBreakerError": FailureClass.BREAKER_REFUSED,
    # What an HTTP answer says of itself. Other 4xx stay unknown: a token expires, a path is deployed late.
    "HTTP 429": FailureClass.RATE_LIMITED,
    "HTTP 408": FailureClass.TRANSIENT,
    "HTTP 425": FailureClass.TRANSIENT,
    "HTTP 5xx": FailureClass.TRANSIENT,
    "urllib.error.HTTPError": FailureClass.UNKNOWN,  # an answer, though its base says that there was none
    "openai.RateLimitError": FailureClass.RATE_LIMITED,
    "anthropic.RateLimitError": FailureClass.RATE_LIMITED,
    # Whoever ran it was killed.
    "billiard.exceptions.WorkerLostError": FailureClass.POISON,
    # A person took it back.
    "celery.exceptions.TaskRevokedError": FailureClass.PERMANENT,
    "regrow.celery.messages.TaskRevokedError": FailureClass.PERMANENT,
    "regrow.celery.messages.TaskTerminatedError": FailureClass.PERMANENT,
    # ValueError, TypeError, KeyError and their like are *not* permanent: they are what a bug in the last
    # deploy raises, or an error page where JSON was expected. They are unknown: few tries, then a person.
}


@dataclass(frozen=True)
class Cause:
    """What is known of why a message failed.

    ``lineage``: dotted names of the error's class and bases, nearest first. ``told``: the class that the app
    itself says it is. ``retry_after``: seconds that the other side asked for.
    """

    lineage: tuple[str, ...] = ()
    told: FailureClass | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: BaseException, told: str | None = None) -> Self:
        return cls(lineage_of(error), None if told is None else parse(told), hinted(error))

    @classmethod
    def read(
        cls, lineage: Iterable[object] = (), told: str | None = None, retry_after: float | None = None
    ) -> Self:
        """From what came over the wire; what makes no sense is as if it had not been said."""
        names = tuple(name[:_LONGEST_NAME] for name in lineage or () if isinstance(name, str) and name)
        known = FailureClass(told) if told in set(FailureClass) else None
        usable = isinstance(retry_after, int | float) and 0 <= retry_after < float("inf")
        return cls(names[:_MOST_NAMES], known, float(retry_after or 0) if usable else None)

    @classmethod
    def of_delivery(cls, failed: DeliveryFailedError) -> Self:
        """Of a letter that failed in our own process: by the error behind it, else by the status it names."""
        behind = failed.__cause__ or failed.__context__
        if isinstance(behind, Exception):
            return cls(lineage_of(behind), retry_after=failed.retry_after)
        status = failed.error_class.removeprefix("http.")
        names = _status_names(int(status)) if status.isdecimal() else (failed.error_class,)
        return cls.read(names, retry_after=failed.retry_after)

    def wire(self) -> dict[str, Any]:
        """JSON values; :meth:`of_wire` reads them."""
        return {"lineage": list(self.lineage), "told": self.told, "retry_after": self.retry_after}

    @classmethod
    def of_wire(cls, wire: object) -> Self:
        told = wire if isinstance(wire, Mapping) else {}
        return cls.read(told.get("lineage") or (), told.get("told"), told.get("retry_after"))


NOTHING_KNOWN = Cause()


def parse(name: str) -> FailureClass:
    """The class of that name; LetterRefusedError lists the names there are."""
    try:
        return FailureClass(name)
    except ValueError:
        raise LetterRefusedError(f"failure_class = {name!r}: say {', '.join(FailureClass)}.") from None


def classify(cause: Cause, own: Mapping[str, FailureClass]) -> FailureClass:
    """The class of a failure: what the app said, else the nearest name that a registry knows.

    ``own`` is the operator's registry. It comes before the built-in one for each name, not for all names:
    what is said of a class is stronger than what anybody says of its bases.
    """
    if cause.told is not None:
        return cause.told
    for name in cause.lineage:
        if name in own:
            return own[name]
        if name in BUILT_IN:
            # An answer that says when to come back limits the rate, whatever its status or class is.
            found = BUILT_IN[name]
            asked = cause.retry_after is not None and found is FailureClass.TRANSIENT
            return FailureClass.RATE_LIMITED if asked else found
    return FailureClass.UNKNOWN if cause.retry_after is None else FailureClass.RATE_LIMITED


def lineage_of(error: BaseException) -> tuple[str, ...]:
    """Dotted names of an error's class and bases, nearest first, builtins without their module."""
    bases = (kind for kind in type(error).__mro__ if kind not in {object, BaseException, Exception})
    return tuple(name for name in chain(_answered(error), _carried(error), map(_dotted, bases)))[:_MOST_NAMES]


def _dotted(kind: type) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return name[:_LONGEST_NAME]


def _answered(error: BaseException) -> Iterable[str]:
    """The status of the HTTP answer that an error of httpx, requests or their like carries."""
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    return _status_names(status) if isinstance(status, int) else ()


def _status_names(status: int) -> tuple[str, ...]:
    return (f"HTTP {status}", f"HTTP {status // 100}xx") if 400 <= status <= 599 else ()


def _carried(error: BaseException) -> Iterable[str]:
    """The class that Celery put into a wrapper because it could not be sent between processes."""
    module, name = getattr(error, "exc_module", None), getattr(error, "exc_cls_name", None)
    if isinstance(module, str) and isinstance(name, str):
        return (f"{module}.{name}".removeprefix("builtins."),)
    return ()
