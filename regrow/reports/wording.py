"""The words and signs that Markdown and HTML share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

# Shape and word besides colour: a strip must be readable in black and white.
SIGNS = {"u": "█", "g": "▄", "d": "✕", "x": "░", "m": "·", "p": "-"}
NAMES = {"u": "up", "g": "degraded", "d": "down", "x": "unknown", "m": "maintenance", "p": "paused"}
LEGEND = "█ up, ▄ degraded, ✕ down, ░ unknown (nobody looked), · maintenance, - paused"


RECOVERY_TITLES = (
    "service",
    "attempts",
    "succeeded",
    "tests passed",
    "came back",
    "median time down",
    "longest",
    "left to a person",
)


def percent(share: float | None) -> str:
    """A share as a percentage rounded down to one digit; "-" when there is none."""
    if share == 1:
        return "100%"
    return "-" if share is None else f"{int(share * 1000) / 10:.1f}%"


def lasted(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, odd = divmod(hours, 24)
    if days > 1:
        return f"{days} days {odd} h" if odd else f"{days} days"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def downtime_words(check: Mapping[str, Any]) -> str:
    """How long a check was down, as far as somebody looked."""
    if check["outages"]:
        return lasted(check["seconds"]["down"])
    return "none" if check["sufficient"] else "? not known"


def target_words(met: bool | None) -> str:
    return {True: "✓ met", False: "✕ missed", None: "? not known"}[met]


def strip_words(states: str, parts: Sequence[float]) -> str:
    """A strip told in words, for those who cannot see it: ``4 min up, 2 min down, 54 min up``."""
    if len(states) != len(parts):
        raise ValueError(f"{len(states)} states of {len(parts)} parts")
    told, at = [], 0
    for state, run in groupby(states):
        first, at = at, at + len(list(run))
        told.append(f"{lasted(sum(parts[first:at]))} {NAMES[state]}")
    return ", ".join(told)


def figure(value: float | None) -> str:
    """Three digits of a number, "-" when there is none."""
    return "-" if value is None else f"{value:.3g}"


def rate(share: float | None) -> str:
    """A share of requests as a percentage, small ones to three digits; "-" when there is none."""
    return "-" if share is None else f"{share * 100:.3g}%"


def left(share: float | None) -> str:
    """What is left of a budget, rounded down."""
    return "-" if share is None else f"{math.floor(share * 100)}%"


def promised(one: Mapping[str, Any]) -> str:
    """What an objective promises, without its window."""
    match one["kind"]:
        case "latency":
            return f"p{one['target'] * 100:g} under {lasted(one['promised'])}"
        case "error_rate":
            return f"at most {rate(1 - one['target'])} of requests fail"
        case "throughput":
            return f"{figure(one['promised'])} requests a second at peak"
    return f"{one['target'] * 100:g}% up"


def measured(one: Mapping[str, Any]) -> str:
    """How an objective stands, in its own unit; uptime rounded down."""
    value = one["value"]
    if value is None:
        return "unknown"
    match one["kind"]:
        case "latency":
            return lasted(value)
        case "error_rate":
            return rate(value)
        case "throughput":
            return f"{figure(value)}/s"
    return "100%" if value == 1 else f"{math.floor(value * 100_000) / 1000:.3f}%"


def between(since: str, until: str | None, not_yet: str = "-") -> str:
    """How long it took from one ISO time to another."""
    if until is None:
        return not_yet
    took = datetime.fromisoformat(until) - datetime.fromisoformat(since)
    return lasted(max(0.0, took.total_seconds()))


MEAN_TIMES = {
    "mttd": "to detect (MTTD)",
    "mtta": "to acknowledge (MTTA)",
    "mttr": "to resolve (MTTR)",
}


def history_words(gaps: int) -> str:
    """Whether a breaker's history can be trusted to hold every opening."""
    return "complete" if gaps == 0 else f"? {gaps} gap" if gaps == 1 else f"? {gaps} gaps"


def job_words(outcomes: Mapping[str, int]) -> str:
    """``58 succeeded, 2 failed``; "no run" when there was none."""
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "no run"


def lock_words(locked: int) -> str:
    """How often recovery gave up."""
    return f"a person was called {locked} times" if locked > 1 else "a person was called" if locked else ""


def totals_words(totals: Mapping[str, float]) -> str:
    """The counts of a clean-up, those that are not zero."""
    told = [f"{name.replace('_', ' ')} {value:g}" for name, value in totals.items() if value]
    return ", ".join(told) or "nothing removed"


def shown_time(iso: str | None) -> str:
    """An ISO time to the second, or "-"."""
    return "-" if iso is None else f"{iso[:19]}Z"
