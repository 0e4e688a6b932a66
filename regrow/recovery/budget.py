"""The fleet-wide budget: so many handlers at once, so many in a minute. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MINUTE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Limits:
    """``concurrency``: handlers of the fleet that run at once; ``per_minute``: that begin in any 60 s."""

    concurrency: int
    per_minute: int


def left(limits: Limits, *, running: int, begun: int) -> int:
    """How many more may begin now, with so many under way and so many begun in the last minute."""
    return max(0, min(limits.concurrency - running, limits.per_minute - begun))


def refusal(limits: Limits, *, running: int, begun: int) -> str | None:
    """Why no further handler may begin now; None when one may."""
    if running >= limits.concurrency:
        return f"{running} handlers of the fleet are under way (recovery.concurrency)"
    if begun >= limits.per_minute:
        return f"{begun} handlers of the fleet began within a minute (recovery.per_minute)"
    return None
