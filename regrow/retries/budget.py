"""The budget that retries are paid from, so that they never multiply the load of a service that fails."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from regrow.clock import seconds
from regrow.configuration import configured
from regrow.errors import SettingsError
from regrow.retries.allowance import Allowance, Balance, called, retried
from regrow.riding import Vehicle, carry

if TYPE_CHECKING:
    from regrow.retries.shared import SharedBudget


class RetryBudget:
    """One budget, for every ``retry``, ``retry_http_requests`` and ``attempts`` it is given to.

    ``share``: retries that each first call pays for (0.2: one in five); ``per_second``: retries a second that
    cost nothing, so that a quiet service may still retry; ``burst``: retries saved up at most, and at hand
    from the start. Without a ``name`` it is of this process alone: a fleet of N processes has N of it. With
    one, all processes that name it, with the same numbers, share it through Redis, to within one retry a
    process; without Redis, or while it is away, each process keeps to it by itself. Threads share it; a
    forked child goes on by itself. SettingsError for numbers or a name that cannot be used.
    """

    def __init__(
        self,
        share: float = 0.2,
        *,
        name: str | None = None,
        per_second: float = 1.0,
        burst: float = 10.0,
        clock: Callable[[], float] = seconds,
    ) -> None:
        if name is not None and (not name or not name.isprintable() or any(char in "{} " for char in name)):
            raise SettingsError(
                f"a retry budget cannot be called {name!r}: use printable characters, no space and no braces"
            )
        self.name = name
        self.allowance = Allowance(share, per_second, burst)
        self._clock = clock
        self._begin()
        _budgets.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._balance = Balance(self.allowance.burst, self._clock())
        self._shared = self._part(self.name) if self.name is not None else None
        self._vehicle: Vehicle | None = None

    def call(self) -> None:
        """A first call is made."""
        with self._lock:
            self._balance = called(self.allowance, self._balance, self._clock())
        if self._shared is not None and (vehicle := self._carried(self._shared)) is not None:
            self._shared.call()
            if vehicle.idle:
                vehicle.wake()

    def spend(self) -> bool:
        """Pay for a retry; False when there is too little, and then nothing is taken."""
        shared = self._shared
        vehicle = self._carried(shared) if shared is not None else None
        if shared is None or vehicle is None or shared.alone:
            with self._lock:
                left = retried(self.allowance, self._balance, self._clock())
                self._balance = left or self._balance
                return left is not None
        paid = shared.spend()
        vehicle.wake()  # more may be wanted soon
        if paid:
            with self._lock:  # so that this process knows what it has had when Redis is away
                self._balance = retried(self.allowance, self._balance, self._clock()) or self._balance
        return paid

    def _part(self, name: str) -> SharedBudget:
        from regrow.retries.shared import SharedBudget

        return SharedBudget(name, self.allowance)

    def _carried(self, shared: SharedBudget) -> Vehicle | None:
        """What carries this process's part to Redis; None as long as no Redis is configured."""
        if self._vehicle is None and configured().redis_url is not None:
            self._vehicle = carry(shared)
            shared.alone = False
        return self._vehicle


_budgets: weakref.WeakSet[RetryBudget] = weakref.WeakSet()


def begin_anew() -> None:
    """Fill all budgets again, as if nothing had been spent. For a forked child, whose locks the parent may
    have held, and for tests."""
    for budget in list(_budgets):
        budget._begin()  # noqa: SLF001 - the class of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=begin_anew)
