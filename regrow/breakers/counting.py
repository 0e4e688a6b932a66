"""What the fleet's metrics tell of guarded calls. Counted by the reporter's thread, never by a caller."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable

from regrow.breakers.cell import Cell
from regrow.tallies import tallies

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, math.inf)
"""Upper ends of the histogram of durations, in seconds."""


def count_calls(cell: Cell, calls: int, failures: int) -> None:
    """Calls that were made, and how many of them failed."""
    tallies.count("circuit_breaker_requests_total", calls, breaker=cell.name)
    tallies.count("circuit_breaker_failures_total", failures, breaker=cell.name)


def count_refusals(cell: Cell) -> None:
    """The callers that were refused since the last time."""
    tallies.count("circuit_breaker_rejected_total", cell.refusals.drain(), breaker=cell.name)


def count_durations(cell: Cell, durations: Iterable[float]) -> None:
    """How long calls took: those given, and the probes since the last time."""
    took = sorted((*durations, *_drained(cell)))
    name = (cell.above or cell).name  # keys may be many, and a histogram has many series
    below = 0
    for end in BUCKETS:
        upto = bisect_right(took, end)
        tallies.count("circuit_breaker_response_time_bucket", upto - below, breaker=name, le=str(end))
        below = upto
    # Whole microseconds, because what is added up in Redis is whole.
    tallies.count("circuit_breaker_response_time_microseconds", round(sum(took) * 1e6), breaker=name)


def _drained(cell: Cell) -> Iterable[float]:
    return [cell.probed.popleft() for _ in range(len(cell.probed))]
