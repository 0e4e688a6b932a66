"""The circuit breaker that an application holds: how it is made, found again, divided by key, switched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regrow.breakers.kinds import preset
from regrow.breakers.listeners import Listener
from regrow.breakers.process import process_reporter
from regrow.breakers.reporter import Reporter
from regrow.breakers.rules import Order, OrderKind, milliseconds
from regrow.breakers.shapes import Shapes
from regrow.errors import SettingsError
from regrow.matching import Matchers, matchers

if TYPE_CHECKING:
    from regrow.breakers.keyed import RecentlyUsed

LONGEST_NAME = 190
LONGEST_ACTOR = 255
LONGEST_REASON = 1000

_DEFAULT: Any = object()


class CircuitBreaker(Shapes):
    """A circuit breaker that a fleet shares by ``name``, in Redis when one is configured.

    Settings as in :class:`BreakerConfig` (seconds, calls, shares). One that is not given here is what it was
    made with before, else what ``[breakers.NAME]`` of the worker's ``regrow.toml`` says, else the default.
    ``kind``: a kind of service (``ai``, ``database``: see ``regrow.breakers.KINDS``) whose settings count as
    given. ``record``: the errors that count as failures; ``ignore``: those that do not (both: exception
    classes, or functions of the error). An error that does not count is no success either.
    ``probe_wait``: how long, in seconds, a caller may wait for leave to probe a half-open breaker; 0 by
    default, worth a fraction of a second for jobs that come by rarely. ``max_keys``, ``keys_count``: see
    :meth:`for_key`. ``on_transition`` is called with each :class:`regrow.breakers.Change` of it.
    ``reporter`` and ``of`` are for our own use.

    SettingsError for a name or settings that cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        kind: str | None = None,
        failure_threshold: int = _DEFAULT,
        recovery_timeout: float = _DEFAULT,
        success_threshold: int = _DEFAULT,
        timeout: float | None = _DEFAULT,
        window_size: int = _DEFAULT,
        minimum_requests: int = _DEFAULT,
        failure_rate: float = _DEFAULT,
        half_open_max_calls: int = _DEFAULT,
        window_seconds: float = _DEFAULT,
        slow_call_duration: float | None = _DEFAULT,
        slow_call_rate: float = _DEFAULT,
        ramp_seconds: float = _DEFAULT,
        record: Matchers = (Exception,),
        ignore: Matchers = (),
        probe_wait: float = 0.0,
        max_keys: int = 1000,
        keys_count: bool = False,
        on_transition: Listener | None = None,
        reporter: Reporter | None = None,
        of: CircuitBreaker | None = None,
    ) -> None:
        chosen = {
            "failure_threshold": failure_threshold,
            "recovery_timeout": recovery_timeout,
            "success_threshold": success_threshold,
            "timeout": timeout,
            "window_size": window_size,
            "minimum_requests": minimum_requests,
            "failure_rate": failure_rate,
            "half_open_max_calls": half_open_max_calls,
            "window_seconds": window_seconds,
            "slow_call_duration": slow_call_duration,
            "slow_call_rate": slow_call_rate,
            "ramp_seconds": ramp_seconds,
        }
        given: dict[str, Any] = dict(preset(kind)) if kind is not None else {}
        given |= {key: value for key, value in chosen.items() if value is not _DEFAULT}
        self.name = _checked(name)
        self._record = matchers(record)
        self._ignore = matchers(ignore)
        self._probe_wait = probe_wait
        self._max_keys = max_keys
        self.keys_count = keys_count
        self._keys: RecentlyUsed | None = None
        self._reporter = reporter or process_reporter()
        if of is not None:
            self._cell = self._reporter.hold(self.name, of._cell)  # noqa: SLF001 - the same class
            return
        self._cell = self._reporter.cell(self.name, given)
        if on_transition is not None:
            self._cell.listeners.append(on_transition)
        if reporter is None and (given or self.name not in _known):
            _known[self.name] = self

    def for_key(self, key: str) -> CircuitBreaker:
        """The breaker of one tenant, shard or host under this one, with its settings; ``name:key`` by name.

        While this one is open its keys are refused as well. What they come to does not count here, or one bad
        tenant would close the door for all, unless ``keys_count``. The process keeps the ``max_keys`` most
        recently used ones.
        """
        keys = self._keys
        if keys is None:
            from regrow.breakers.keyed import KeyedBreaker, RecentlyUsed, name_for

            keys = self._keys = RecentlyUsed(
                self._max_keys, lambda key: KeyedBreaker(self, name_for(self.name, key))
            )
        return keys.get(key)

    # A person's hand on the switch --------------------------------------------------------------------

    def reset(self, *, actor: str, reason: str = "") -> None:
        """Close it for the whole fleet and lift any override. StoreUnavailableError when Redis is away."""
        self._order(OrderKind.RESET, actor, reason, None)

    def force_open(self, *, actor: str, reason: str = "", expires_in: float | None = None) -> None:
        """Refuse every call until reset, or for ``expires_in`` seconds; then probes decide."""
        self._order(OrderKind.FORCE_OPEN, actor, reason, expires_in)

    def disable(self, *, actor: str, reason: str = "", expires_in: float | None = None) -> None:
        """Let every call through and count none, until reset or for ``expires_in`` seconds."""
        self._order(OrderKind.DISABLE, actor, reason, expires_in)

    def metrics_only(self, *, actor: str, reason: str = "", expires_in: float | None = None) -> None:
        """Let every call through, count all, and say when it would have opened (``breaker.would_open``)."""
        self._order(OrderKind.METRICS_ONLY, actor, reason, expires_in)

    def _order(self, kind: OrderKind, actor: str, reason: str, expires_in: float | None) -> None:
        self._reporter.order(self._cell, make_order(kind, actor, reason, expires_in))


def get_circuit_breaker(name: str, **settings: Any) -> CircuitBreaker:
    """The process's breaker of this name, made (with ``settings``) when there is none yet."""
    known = _known.get(name)
    return CircuitBreaker(name, **settings) if known is None or settings else known


def make_order(kind: OrderKind, actor: str, reason: str, expires_in: float | None) -> Order:
    """A checked command. SettingsError without an actor, or for a time that is not ahead."""
    if not actor.strip():
        raise SettingsError(f"{kind} of a circuit breaker needs actor=: who does it")
    if expires_in is not None and expires_in <= 0:
        raise SettingsError(f"expires_in is {expires_in!r}; give seconds above 0, or leave it out")
    expires = milliseconds(expires_in) if expires_in is not None else 0
    return Order(kind, actor[:LONGEST_ACTOR], reason[:LONGEST_REASON], expires)


def _checked(name: str) -> str:
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or any(char in "{} " for char in name):
        raise SettingsError(
            f"a circuit breaker cannot be called {name!r}: use 1 to {LONGEST_NAME} printable characters,"
            " no space and no braces"
        )
    return name


_known: dict[str, CircuitBreaker] = {}
