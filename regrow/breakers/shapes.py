"""Every shape of a guarded call: function, coroutine, decorator, block; each over one way in and out.

The closed path does no I/O and takes no lock: look at the gate, call, note the outcome.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from regrow.breakers import deadlines
from regrow.breakers.admission import Admission, Permit
from regrow.breakers.cell import FAILED, SLOW, Gate
from regrow.breakers.deadlines import Deadline
from regrow.breakers.rules import ProbeResult
from regrow.clock import timer
from regrow.errors import CircuitOpenError, DegradedError
from regrow.fallbacks import instead

P = ParamSpec("P")
R = TypeVar("R")

_NONE: Any = object()

# The permits of the `with` blocks that the current thread or task is in, innermost first.
_Entered = tuple["Shapes", Permit, Deadline | None, Any]
_entered: ContextVar[_Entered | None] = ContextVar("regrow_entered_breakers", default=None)


class Shapes(Admission):
    """The shapes of a guarded call."""

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
        started = timer.monotonic()
        try:
            # Passing on no keywords is cheaper than passing on an empty dict of them.
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            self._failed(gate, error, timer.monotonic() - started)
            raise
        took = timer.monotonic() - started
        if took > cell.unremarkable:
            self._count(gate, took, failed=cell.config.is_late(took))
        else:
            gate.record(took)
            if self._reporter.idle:
                self._reporter.wake()
        return result

    def _or_else(self, fallback: Any, call: Callable[..., Any], fn: Any, args: Any, kwargs: Any) -> Any:
        try:
            return call(fn, *args, **kwargs)
        except Exception as error:
            if not self._falls_back_on(error):
                raise
            return instead(fallback, error, self.name, (args, kwargs))

    async def _or_else_async(
        self, fallback: Any, call: Callable[..., Any], fn: Any, args: Any, kwargs: Any
    ) -> Any:
        try:
            return await call(fn, *args, **kwargs)
        except Exception as error:
            if not self._falls_back_on(error):
                raise
            answer = instead(fallback, error, self.name, (args, kwargs))
        return await answer if inspect.isawaitable(answer) else answer

    def _falls_back_on(self, error: Exception) -> bool:
        return isinstance(error, CircuitOpenError | DegradedError) or self.judge(error) is ProbeResult.FAILURE

    def _failed(self, gate: Gate, error: BaseException, took: float) -> None:
        if self.judge(error) is ProbeResult.FAILURE:
            self._count(gate, took, failed=True)

    def _count(self, gate: Gate, took: float, *, failed: bool) -> None:
        """An outcome worth telling soon: a failed call, or a slow one."""
        slow = self._cell.config.is_slow(took)
        gate.record(((FAILED if failed else 0) | (SLOW if slow else 0), took))
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
        cell = self._cell
        gate = cell.gate
        if not gate.admits:
            async with self:
                return await fn(*args, **kwargs)
        timeout = cell.timeout
        deadline = deadlines.begin(timeout) if timeout is not None else None
        started = timer.monotonic()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            took = timer.monotonic() - started
            if deadline is not None and deadline.end(error):
                self._count(gate, took, failed=True)  # our own timeout always counts, whatever `record` says
                raise TimeoutError from error
            self._failed(gate, error, took)
            raise
        if deadline is not None:
            deadline.end()
        took = timer.monotonic() - started
        if took > cell.unremarkable:
            self._count(gate, took, failed=cell.config.is_late(took))
        else:
            gate.record(took)
            if self._reporter.idle:
                self._reporter.wake()
        return result

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def __call__(self, /, *, fallback: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def __call__(self, fn: Any = None, /, *, fallback: Any = _NONE) -> Any:
        """Decorate a function or a coroutine function; ``fallback=`` as in :meth:`call`."""
        if fn is None:
            return lambda fn: self._decorate(fn) if fallback is _NONE else self._with(fallback, fn)
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
        cell, reporter = self._cell, self._reporter

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            gate = cell.gate
            if not gate.admits:
                with self.admit():
                    return fn(*args, **kwargs)
            started = timer.monotonic()
            try:
                result = fn(*args, **kwargs) if kwargs else fn(*args)  # type: ignore[call-arg]
            except BaseException as error:
                self._failed(gate, error, timer.monotonic() - started)
                raise
            took = timer.monotonic() - started
            if took > cell.unremarkable:
                self._count(gate, took, failed=cell.config.is_late(took))
            else:
                gate.record(took)
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
        permit, _deadline = self._leave()
        permit.__exit__(kind, error, trace)

    async def __aenter__(self) -> Permit:
        permit = await self.admit_async()
        timeout = self._cell.timeout
        try:
            deadline = deadlines.begin(timeout) if timeout is not None else None
        except BaseException:
            permit.release()
            raise
        _entered.set((self, permit, deadline, _entered.get()))
        return permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, deadline = self._leave()
        if deadline is not None and deadline.end(error):
            permit.failure()
            raise TimeoutError from error
        permit.__exit__(kind, error, trace)

    def _leave(self) -> tuple[Permit, Deadline | None]:
        entered = _entered.get()
        if entered is None or entered[0] is not self:
            raise RuntimeError(
                f"the `with` block of circuit breaker {self.name!r} ends in another context than it began in"
                " (a generator resumed elsewhere?); use `with breaker.admit():` there"
            )
        _breaker, permit, deadline, outer = entered
        _entered.set(outer)
        return permit, deadline


def _call(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)
