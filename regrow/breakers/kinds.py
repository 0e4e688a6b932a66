"""Settings for kinds of service, to begin with: ``kind="ai"``, here and in ``[breakers.NAME]`` alike.

A kind says what is different from the defaults; what a breaker says itself is stronger.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from regrow.errors import SettingsError

KINDS: Mapping[str, Mapping[str, int | float]] = MappingProxyType(
    {
        # Delivery has its own retries and queues: tolerant, back within a minute.
        "messaging": {"failure_threshold": 5, "recovery_timeout": 60.0},
        # Calls cost money and overload lasts: sensitive, and left alone for long.
        "ai": {"failure_threshold": 3, "recovery_timeout": 120.0},
        # Everything needs it, and a failover takes seconds: very tolerant, asked again soon.
        "database": {"failure_threshold": 10, "recovery_timeout": 30.0},
        # Few, heavy calls: sensitive, left alone for long, and two good ones are evidence enough.
        "document_conversion": {"failure_threshold": 3, "recovery_timeout": 120.0, "success_threshold": 2},
        "model_server": {"failure_threshold": 5, "recovery_timeout": 60.0},
    }
)


def preset(kind: str) -> Mapping[str, int | float]:
    """The settings of a kind. SettingsError, which names them all, when there is no such kind."""
    known = KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise SettingsError(
            f"circuit breaker: {kind!r} is no kind of service."
            f" Choose one of {', '.join(KINDS)}, or leave it out."
        )
    return known
