"""The settings of a circuit breaker: when it trips and how it recovers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from regrow.breakers.ramp import Ramp
from regrow.errors import SettingsError

SLOTS = 60  # the window is kept in this many parts, however long it is


@dataclass(frozen=True)
class BreakerConfig:
    """When a breaker trips and how it recovers. Times in seconds, counts in calls, rates in 0..1.

    ``window_size``: the last N calls of the whole fleet (whole slots, oldest dropped first), none older than
    ``window_seconds``. ``timeout=None``: no call is too late.
    ``slow_call_duration``: calls that take longer are counted as slow, whether they fail or not; None: none.
    ``ramp_seconds``: after it has closed, the admitted share of calls grows to all in this time; 0: at once.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    success_threshold: int = 3
    timeout: float | None = 30.0
    window_size: int = 100
    minimum_requests: int = 10
    failure_rate: float = 0.5
    half_open_max_calls: int = 1
    window_seconds: float = 60.0
    slow_call_duration: float | None = None
    slow_call_rate: float = 0.5
    ramp_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "failure_threshold",
            "success_threshold",
            "window_size",
            "minimum_requests",
            "half_open_max_calls",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingsError(
                    f"circuit breaker: {name} is {value!r}; give a whole number of calls, 1 or more"
                )
        for name in ("recovery_timeout", "window_seconds", "timeout", "slow_call_duration"):
            value = getattr(self, name)
            if name in ("timeout", "slow_call_duration") and value is None:
                continue
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise SettingsError(f"circuit breaker: {name} is {value!r}; give seconds above 0")
        if not isinstance(self.ramp_seconds, int | float) or not 0 <= self.ramp_seconds < math.inf:
            raise SettingsError(
                f"circuit breaker: ramp_seconds is {self.ramp_seconds!r}; give seconds, or 0 for no ramp"
            )
        for name in ("failure_rate", "slow_call_rate"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value <= 1:
                raise SettingsError(
                    f"circuit breaker: {name} is {value!r}; give a share above 0, up to 1 (0.5 is half)"
                )

    @cached_property
    def recovery_ms(self) -> int:
        return milliseconds(self.recovery_timeout)

    @cached_property
    def window_ms(self) -> int:
        return milliseconds(self.window_seconds)

    @cached_property
    def slot_ms(self) -> int:
        return max(1, math.ceil(self.window_ms / SLOTS))

    @cached_property
    def ramp(self) -> Ramp:
        return Ramp(self.ramp_seconds)

    @cached_property
    def unremarkable(self) -> float:
        """Seconds up to which a call that succeeds is neither late nor slow."""
        limits = (self.timeout, self.slow_call_duration)
        return min((limit for limit in limits if limit is not None), default=math.inf)

    def is_late(self, seconds: float) -> bool:
        return self.timeout is not None and seconds > self.timeout

    def is_slow(self, seconds: float) -> bool:
        return self.slow_call_duration is not None and seconds > self.slow_call_duration

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BreakerConfig:
        """Settings as another process wrote them; names that this version does not know are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least one."""
    return max(1, math.floor(seconds * 1000 + 0.5))
