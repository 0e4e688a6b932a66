"""The words for what kind of failure it was, which settings, apps and the store have in common."""

from __future__ import annotations

from enum import StrEnum


class FailureClass(StrEnum):
    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    DEPENDENCY_DOWN = "dependency_down"
    BREAKER_REFUSED = "breaker_refused"
    PERMANENT = "permanent"
    POISON = "poison"
    UNKNOWN = "unknown"
