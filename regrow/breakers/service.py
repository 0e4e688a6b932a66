"""The circuit breaker that an application holds: every shape of a guarded call, over one way in and out.

The closed path does no I/O and takes no lock: look at the gate, call, note the outcome.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

from regrow.breakers.cell import FAILED, SLOW, Cell, Gate, Probe
from regrow.breakers.kinds import preset
from regrow.breakers.listeners import Listener
from regrow.breakers.process import process_reporter
from regrow.breakers.reporter import Reporter
from regrow.breakers.rules import BreakerConfig, Order, OrderKind, ProbeResult, State, milliseconds
from regrow.errors import CircuitOpenError, SettingsError
from regrow.fallbacks import instead
from regrow.matching import Matcher, Matchers, matchers, matches

if TYPE_CHECKING:
    from regrow.breakers.keyed import RecentlyUsed

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_NAME = 190
LONGEST_ACTOR = 255
LONGEST_REASON = 1000

_clock = time.monotonic
_DEFAULT: Any = object()


class Permit:
    """Leave to make one call. Settle it once: what comes after the first word is ignored.

    Also a context manager: ``with breaker.admit(): ...``.
    """

    __slots__ = ("_breaker", "_gate", "_probe", "_settled", "_started")

    def __init__(self, breaker: CircuitBreaker, gate: Gate, probe: Probe | None) -> None:
        self._breaker = breaker
        self._gate = gate
        self._probe = probe
        self._settled = False
        self._started = _clock()

    def success(self, took: float | None = None) -> None:
        """The call did what it should; later than ``timeout`` it counts as failed all the same.

        ``took``: its seconds, when they are not those since it was admitted.
        """
        config = self._breaker.config
        if took is None:
            took = _clock() - self._started
        if config.is_late(took):
            self._settle(ProbeResult.FAILURE)
        else:
            self._settle(ProbeResult.SLOW if config.is_slow(took) else ProbeResult.SUCCESS)

    def failure(self, error: BaseException | None = None) -> None:
        """The call failed. With ``error``, only if the breaker counts such errors; else it is a release."""
        self._settle(ProbeResult.FAILURE if error is None else self._breaker.judge(error))

    @property
    def is_probe(self) -> bool:
        """Whether the breaker is not closed and this call finds out for all."""
        return self._probe is not None

    def release(self) -> None:
        """Give the permit back unscored: the call was not made, was cancelled, or says nothing."""
        self._settle(ProbeResult.RELEASE)

    def _settle(self, result: ProbeResult) -> None:
        if self._settled:
            return
        self._settled = True
        cell, reporter = self._breaker._cell, self._breaker._reporter  # noqa: SLF001 - two halves of one thing
        if self._probe is not None:
            cell.settle_probe(self._probe, result)
            reporter.report_now(cell)  # whatever the result: the fleet waits for it
        elif result is ProbeResult.SUCCESS:
            self._gate.record(0)
            if reporter.idle:
                reporter.wake()
        elif result is not ProbeResult.RELEASE:
            config = self._breaker.config
            slow = result is ProbeResult.SLOW or config.is_slow(_clock() - self._started)
            self._gate.record((FAILED if result is ProbeResult.FAILURE else 0) | (SLOW if slow else 0))
            reporter.report_now(cell)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.success()
        else:
            self.failure(error)


# The permits of the `with` blocks that the current thread or task is in, innermost first.
_Entered = tuple["CircuitBreaker", Permit, "asyncio.Timeout | None", Any]
_entered: ContextVar[_Entered | None] = ContextVar("regrow_entered_breakers", default=None)


class CircuitBreaker:
    """A circuit breaker that a fleet shares by ``name``, in Redis when one is configured.

    Settings as in :class:`BreakerConfig` (seconds, calls, shares); without any, those it was made with
    before, or the defaults. ``kind``: a kind of service (``ai``, ``database``: see ``regrow.breakers.KINDS``)
    whose settings hold where none is given here. ``record``: the errors that count as failures;
    ``ignore``: those that do not (both: exception classes, or functions of the error). An error that does not
    count is no success either.
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
        }
        given: dict[str, Any] = dict(preset(kind)) if kind is not None else {}
        given |= {key: value for key, value in chosen.items() if value is not _DEFAULT}
        self.name = _checked(name)
        self._record: tuple[Matcher, ...] = matchers(record)
        self._ignore: tuple[Matcher, ...] = matchers(ignore)
        self._probe_wait = probe_wait
        self._max_keys = max_keys
        self.keys_count = keys_count
        self._keys: RecentlyUsed | None = None
        self._reporter = reporter or process_reporter()
        if of is not None:
            self._cell: Cell = self._reporter.hold(self.name, of.config)
            return
        self._cell = self._reporter.cell(self.name, BreakerConfig(**given) if given else None)
        if on_transition is not None:
            self._cell.listeners.append(on_transition)
        if reporter is None and (given or self.name not in _known):
            _known[self.name] = self

    # The state ----------------------------------------------------------------------------------------

    @property
    def config(self) -> BreakerConfig:
        return self._cell.config

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``, as this process last heard it: no I/O.

        At most 2 s old while Redis answers, but for the first read, which only asks.
        """
        self._reporter.freshen(self._cell)
        return self._cell.gate.state_at(_clock()).value

    @property
    def epoch(self) -> int:
        """The number of the current state; grows with every transition."""
        return self._cell.gate.epoch

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self._cell.gate.state_at(_clock()).value}>"

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

    # In and out ---------------------------------------------------------------------------------------

    def judge(self, error: BaseException) -> ProbeResult:
        """What an error says about the remote side: a failure, or nothing."""
        counts = (
            not isinstance(error, CircuitOpenError)  # another breaker's refusal: nothing was called
            and matches(error, self._record)
            and not matches(error, self._ignore)
        )
        return ProbeResult.FAILURE if counts else ProbeResult.RELEASE

    def admit(self) -> Permit:
        """Leave for one call, or CircuitOpenError. The caller settles the permit."""
        cell = self._cell
        gate = cell.gate
        if gate.admits:
            return Permit(self, gate, None)
        permit = self._at_hand()
        if permit is None and self._may_wait():
            waiter = self._reporter.wait_for_probe(cell)
            with contextlib.suppress(concurrent.futures.TimeoutError):
                waiter.result(self._probe_wait)
            permit = self._granted(waiter)
        return permit or self._refuse()

    async def admit_async(self) -> Permit:
        """:meth:`admit` that waits, if at all (``probe_wait``), without holding up the event loop."""
        cell = self._cell
        gate = cell.gate
        if gate.admits:
            return Permit(self, gate, None)
        permit = self._at_hand()
        if permit is None and self._may_wait():
            waiter = self._reporter.wait_for_probe(cell)
            try:
                await asyncio.wait([asyncio.wrap_future(waiter)], timeout=self._probe_wait)
            except asyncio.CancelledError:
                if unused := self._granted(waiter):
                    unused.release()
                raise
            permit = self._granted(waiter)
        return permit or self._refuse()

    def _at_hand(self) -> Permit | None:
        if not self._cell.gate.heard:
            self._reporter.freshen(self._cell)
            gate = self._cell.gate
            if gate.state is State.CLOSED:
                return Permit(self, gate, None)
        probe = self._reporter.seek_probe(self._cell)
        if probe is not None:
            return Permit(self, self._cell.gate, probe)
        gate = self._cell.gate
        return Permit(self, gate, None) if gate.admits else None

    def _may_wait(self) -> bool:
        return (
            self._probe_wait > 0
            and _clock() >= self._cell.gate.reopens_at
            and not self._reporter.is_local(self._cell)
        )

    def _granted(self, waiter: concurrent.futures.Future[Probe | None]) -> Permit | None:
        """What came of waiting; a lease that arrives in this very moment is not lost."""
        if waiter.cancel():
            return None
        probe = waiter.result(1.0)
        gate = self._cell.gate
        return Permit(self, gate, probe) if probe is not None or gate.admits else None

    def _refuse(self) -> Permit:
        raise CircuitOpenError(self.name, self._cell.retry_after(_clock()))

    # The shapes ---------------------------------------------------------------------------------------

    @overload
    def call(self, fn: Callable[..., R], /, *args: Any, fallback: Any, **kwargs: Any) -> R: ...

    @overload
    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """``fn(*args, **kwargs)``, guarded. CircuitOpenError instead of the call when the breaker is open.

        A plain call cannot be interrupted: one that returns after ``timeout`` keeps its result for the caller
        and counts as a failure.

        ``fallback=`` answers for refusals and for errors that count: a value, or a function of the error.
        """
        if kwargs and "fallback" in kwargs:
            return self._or_else(kwargs.pop("fallback"), self.call, fn, args, kwargs)
        cell = self._cell
        gate = cell.gate
        if not gate.admits:
            with self.admit():
                return fn(*args, **kwargs)
        started = _clock()
        try:
            # Passing on no keywords is cheaper than passing on an empty dict of them.
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            self._failed(gate, error, _clock() - started)
            raise
        took = _clock() - started
        if took > cell.unremarkable:
            self._count(gate, took, failed=cell.config.is_late(took))
        else:
            gate.record(0)
            if self._reporter.idle:
                self._reporter.wake()
        return result

    def _or_else(self, fallback: Any, call: Callable[..., Any], fn: Any, args: Any, kwargs: Any) -> Any:
        try:
            return call(fn, *args, **kwargs)
        except Exception as error:
            if not self._falls_back_on(error):
                raise
            return instead(fallback, error)

    async def _or_else_async(
        self, fallback: Any, call: Callable[..., Any], fn: Any, args: Any, kwargs: Any
    ) -> Any:
        try:
            return await call(fn, *args, **kwargs)
        except Exception as error:
            if not self._falls_back_on(error):
                raise
            answer = instead(fallback, error)
        return await answer if inspect.isawaitable(answer) else answer

    def _falls_back_on(self, error: Exception) -> bool:
        return isinstance(error, CircuitOpenError) or self.judge(error) is ProbeResult.FAILURE

    def _failed(self, gate: Gate, error: BaseException, took: float) -> None:
        if self.judge(error) is ProbeResult.FAILURE:
            self._count(gate, took, failed=True)

    def _count(self, gate: Gate, took: float, *, failed: bool) -> None:
        """An outcome worth telling soon: a failed call, or a slow one."""
        slow = self._cell.config.is_slow(took)
        gate.record((FAILED if failed else 0) | (SLOW if slow else 0))
        self._reporter.report_now(self._cell)

    @overload
    async def call_async(
        self, fn: Callable[..., Awaitable[R]], /, *args: Any, fallback: Any, **kwargs: Any
    ) -> R: ...

    @overload
    async def call_async(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def call_async(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        """``await fn(*args, **kwargs)``, guarded; cancelled after ``timeout``, which raises TimeoutError.

        ``fallback=`` as in :meth:`call`; what it returns is awaited if need be.
        """
        if kwargs and "fallback" in kwargs:
            return await self._or_else_async(kwargs.pop("fallback"), self.call_async, fn, args, kwargs)
        gate = self._cell.gate
        permit = Permit(self, gate, None) if gate.admits else await self.admit_async()
        timeout = self._cell.config.timeout
        scope = asyncio.timeout(timeout) if timeout is not None else None  # a scope costs more than all else
        try:
            if scope is None:
                result = await fn(*args, **kwargs)
            else:
                async with scope:
                    result = await fn(*args, **kwargs)
        except BaseException as error:
            _fail(permit, error, scope)
            raise
        permit.success()
        return result

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def __call__(self, /, *, fallback: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def __call__(self, fn: Any = None, /, *, fallback: Any = _DEFAULT) -> Any:
        """Decorate a function or a coroutine function; ``fallback=`` as in :meth:`call`."""
        if fn is None:
            return lambda fn: self._decorate(fn) if fallback is _DEFAULT else self._with(fallback, fn)
        return self._decorate(fn)

    def _with(self, fallback: Any, fn: Callable[P, R]) -> Callable[P, R]:
        guarded = self._decorate(fn)
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def answered_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self._or_else_async(fallback, _call, guarded, args, kwargs)

            return cast("Callable[P, R]", answered_async)

        @functools.wraps(fn)
        def answered(*args: P.args, **kwargs: P.kwargs) -> R:
            return cast("R", self._or_else(fallback, _call, guarded, args, kwargs))

        return answered

    def _decorate(self, fn: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(
                f"{fn.__qualname__} is a generator: calling it does nothing yet that could be guarded."
                " Use `with breaker:` around the part that does the work."
            )
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self.call_async(fn, *args, **kwargs)

            return cast("Callable[P, R]", guarded_async)

        return self._guarded(fn)

    def _guarded(self, fn: Callable[P, R]) -> Callable[P, R]:
        """What :meth:`call` does, with everything that stays the same looked up once: half the cost."""
        cell, reporter, clock = self._cell, self._reporter, _clock

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            gate = cell.gate
            if not gate.admits:
                with self.admit():
                    return fn(*args, **kwargs)
            started = clock()
            try:
                result = fn(*args, **kwargs) if kwargs else fn(*args)  # type: ignore[call-arg]
            except BaseException as error:
                self._failed(gate, error, clock() - started)
                raise
            took = clock() - started
            if took > cell.unremarkable:
                self._count(gate, took, failed=cell.config.is_late(took))
            else:
                gate.record(0)
                if reporter.idle:
                    reporter.wake()
            return result

        return guarded

    def __enter__(self) -> Permit:
        permit = self.admit()
        _entered.set((self, permit, None, _entered.get()))
        return permit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, _scope = self._leave()
        permit.__exit__(kind, error, trace)

    async def __aenter__(self) -> Permit:
        permit = await self.admit_async()
        scope = asyncio.timeout(self.config.timeout)
        await scope.__aenter__()
        _entered.set((self, permit, scope, _entered.get()))
        return permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, scope = self._leave()
        try:
            if scope is not None:
                await scope.__aexit__(kind, error, trace)  # turns its own cancellation into TimeoutError
        except TimeoutError as late:
            _fail(permit, late, scope)
            raise
        if error is None:
            permit.success()
        else:
            _fail(permit, error, scope)

    def _leave(self) -> tuple[Permit, asyncio.Timeout | None]:
        entered = _entered.get()
        if entered is None or entered[0] is not self:
            raise RuntimeError(
                f"the `with` block of circuit breaker {self.name!r} ends in another context than it began in"
                " (a generator resumed elsewhere?); use `with breaker.admit():` there"
            )
        _breaker, permit, scope, outer = entered
        _entered.set(outer)
        return permit, scope


def _call(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


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


def _fail(permit: Permit, error: BaseException, scope: asyncio.Timeout | None) -> None:
    """An error went out; our own timeout always counts, whatever ``record`` says."""
    if isinstance(error, TimeoutError) and scope is not None and scope.expired():
        permit.failure()
    else:
        permit.failure(error)


def _checked(name: str) -> str:
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or any(char in "{} " for char in name):
        raise SettingsError(
            f"a circuit breaker cannot be called {name!r}: use 1 to {LONGEST_NAME} printable characters,"
            " no space and no braces"
        )
    return name


_known: dict[str, CircuitBreaker] = {}
