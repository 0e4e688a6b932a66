"""What the fleet's metrics tell of retries."""

from __future__ import annotations

import math

from regrow.tallies import tallies

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, math.inf)
"""Upper ends of the histogram of delays, in seconds."""


def count_retry(function: str, delay: float) -> None:
    """A retry of ``function`` after ``delay`` seconds."""
    bucket = next(end for end in BUCKETS if delay <= end)
    tallies.count("retry_attempts_total", function=function)
    tallies.count("retry_delay_seconds_bucket", le=str(bucket))
    tallies.count("retry_delay_milliseconds", round(delay * 1000))


def count_exhausted(function: str) -> None:
    """A call of ``function`` that was tried again, and given up."""
    tallies.count("retry_exhausted_total", function=function)


def count_refused(function: str) -> None:
    """A retry of ``function`` that its budget did not pay for."""
    tallies.count("retry_budget_refused_total", function=function)
