"""How many retries the calls pay for, so that retries never multiply the load of a service that fails.

The rule is a token bucket and knows no clock: a first call adds ``share`` of a token, each second adds
``per_second``, a retry takes one, and no more than ``burst`` are saved up. So over any stretch of time
``retries <= burst + share * calls + per_second * seconds``.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from regrow.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a budget grants. ``share`` in retries a call, ``per_second`` and ``burst`` in retries."""

    share: float = 0.2
    per_second: float = 1.0
    burst: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (("share", 0), ("per_second", 0), ("burst", 1)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < math.inf:
                raise SettingsError(f"retry budget: {name} is {value!r}; give a number, {least} or more")


@dataclass(frozen=True, slots=True)
class Balance:
    """The tokens at one moment, in seconds of any clock that does not go back."""

    tokens: float
    at: float


def called(allowance: Allowance, balance: Balance, now: float) -> Balance:
    """The balance after a first call."""
    return _saved(allowance, _aged(allowance, balance, now), allowance.share)


def retried(allowance: Allowance, balance: Balance, now: float) -> Balance | None:
    """The balance after a retry, None when there is not enough for one."""
    aged = _aged(allowance, balance, now)
    return Balance(aged.tokens - 1, aged.at) if aged.tokens >= 1 else None


def _aged(allowance: Allowance, balance: Balance, now: float) -> Balance:
    passed = max(0.0, now - balance.at)
    return _saved(allowance, Balance(balance.tokens, balance.at + passed), passed * allowance.per_second)


def _saved(allowance: Allowance, balance: Balance, tokens: float) -> Balance:
    return Balance(min(allowance.burst, balance.tokens + tokens), balance.at)


class RetryBudget:
    """One budget, for every ``retry``, ``retry_http_requests`` and ``attempts`` it is given to.

    ``share``: retries that each first call pays for (0.2: one in five); ``per_second``: retries a second that
    cost nothing, so that a quiet service may still retry; ``burst``: retries saved up at most, and at hand
    from the start. It is of this process alone: a fleet of N processes has N of it. Threads share it; a
    forked child goes on with a full one of its own. SettingsError for numbers that cannot be used.
    """

    def __init__(
        self,
        share: float = 0.2,
        *,
        per_second: float = 1.0,
        burst: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.allowance = Allowance(share, per_second, burst)
        self._clock = clock
        self._begin()
        _budgets.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._balance = Balance(self.allowance.burst, self._clock())

    def call(self) -> None:
        """A first call is made."""
        with self._lock:
            self._balance = called(self.allowance, self._balance, self._clock())

    def spend(self) -> bool:
        """Pay for a retry; False when there is too little, and then nothing is taken."""
        with self._lock:
            left = retried(self.allowance, self._balance, self._clock())
            if left is None:
                return False
            self._balance = left
            return True


_budgets: weakref.WeakSet[RetryBudget] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for budget in list(_budgets):
        budget._begin()  # noqa: SLF001 - the parent's lock may have been held by a thread that is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
