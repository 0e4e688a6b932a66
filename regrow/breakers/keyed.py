"""Breakers by key: one for each tenant, shard or host, of which a process keeps the most recently used.

A key that nobody used for long costs nothing here: its breaker is let go, and what the fleet knows of it is
found again in Redis when the key comes back.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

from regrow.breakers.admission import Permit
from regrow.breakers.cell import Gate, Probe
from regrow.breakers.rules import ProbeResult
from regrow.breakers.service import LONGEST_NAME, CircuitBreaker

P = ParamSpec("P")
R = TypeVar("R")


class KeyedBreaker(CircuitBreaker):
    """The breaker of one key under ``parent``, whose settings it has. Made by ``parent.for_key(key)``.

    A call needs leave of both. What it comes to counts for the key alone, and for the parent where it was the
    parent's probe or the parent wants it (``keys_count``).
    """

    def __init__(self, parent: CircuitBreaker, name: str) -> None:  # all but the name is the parent's
        super().__init__(
            name,
            record=parent._record,  # noqa: SLF001 - the same class
            ignore=parent._ignore,  # noqa: SLF001
            probe_wait=parent._probe_wait,  # noqa: SLF001
            max_keys=parent._max_keys,  # noqa: SLF001
            keys_count=parent.keys_count,
            reporter=parent._reporter,  # noqa: SLF001
            of=parent,
        )
        self.parent = parent
        held = weakref.finalize(self, self._reporter.release, self._cell)
        held.atexit = False

    def admit(self) -> Permit:
        above = self.parent.admit()
        try:
            own = super().admit()
        except BaseException:
            above.release()
            raise
        return _Both(self, own, above)

    async def admit_async(self) -> Permit:
        above = await self.parent.admit_async()
        try:
            own = await super().admit_async()
        except BaseException:
            above.release()
            raise
        return _Both(self, own, above)

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if kwargs and "fallback" in kwargs:
            return self._or_else(kwargs.pop("fallback"), self.call, fn, args, kwargs)
        with self.admit():
            return fn(*args, **kwargs)

    async def call_async(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        if kwargs and "fallback" in kwargs:
            return await self._or_else_async(kwargs.pop("fallback"), self.call_async, fn, args, kwargs)
        async with self:
            return await fn(*args, **kwargs)

    def _guarded(self, fn: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.admit():
                return fn(*args, **kwargs)

        return guarded


class _Both(Permit):
    """Leave of a key's breaker and of the one above it."""

    __slots__ = ("_above",)

    def __init__(self, breaker: KeyedBreaker, own: Permit, above: Permit) -> None:
        gate: Gate = own._gate  # noqa: SLF001
        probe: Probe | None = own._probe  # noqa: SLF001
        super().__init__(breaker, gate, probe)
        self._above = above

    def _settle(self, result: ProbeResult, took: float | None = None) -> None:
        above = self._above
        counts = above.is_probe or above._breaker.keys_count  # noqa: SLF001
        above._settle(result if counts else ProbeResult.RELEASE, took)  # noqa: SLF001
        super()._settle(result, took)


class RecentlyUsed:
    """At most ``most`` breakers, by key; the one unused for longest goes first.

    No lock: each step on the dictionary is one that the interpreter does not interrupt, and two breakers made
    for one key at once are two views of one.
    """

    def __init__(self, most: int, make: Callable[[str], CircuitBreaker]) -> None:
        self._most = most
        self._make = make
        self._kept: OrderedDict[str, CircuitBreaker] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> CircuitBreaker:
        found = self._kept.get(key)
        if found is None:
            found = self._kept.setdefault(key, self._make(key))
            while len(self._kept) > self._most:
                with contextlib.suppress(KeyError):  # another thread made room
                    self._kept.popitem(last=False)
        else:
            with contextlib.suppress(KeyError):  # another thread let it go
                self._kept.move_to_end(key)
        return found


def name_for(parent: str, key: str) -> str:
    """``parent:key``, in characters that a name may have; a key that is too long is told by its digest."""
    text = quote(key, safe="-._~@:+=,[]")
    room = LONGEST_NAME - len(parent) - 1
    if len(text) > room:
        text = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{parent}:{text}"
