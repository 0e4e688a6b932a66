"""How many retries calls pay for: the rule of a budget, a token bucket that knows no clock.

A first call adds ``share`` of a token, each second adds ``per_second``, a retry takes one, and no more than
``burst`` are saved up. So over any stretch of time
``retries <= burst + share * calls + per_second * seconds``.
"""

from __future__ import annotations

import math
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
