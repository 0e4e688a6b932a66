"""Lines through measured points that a quarter of wild values moves little. Pure.

The slope is that of Theil and Sen, the median of the slopes between all pairs of points; its interval is
Sen's (1968), from the variance of Kendall's score. Whether there is a slope at all says the test of Mann and
Kendall.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import median


def score(values: Sequence[float]) -> tuple[int, float]:
    """Kendall's score of values in the order of time, and its variance without a trend (ties counted)."""
    n = len(values)
    found = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    ties = sum(count * (count - 1) * (2 * count + 5) for count in Counter(values).values())
    return found, (n * (n - 1) * (2 * n + 5) - ties) / 18


def sureness(values: Sequence[float]) -> float:
    """In standard deviations, how far the values are from no trend: above 0 they rise, below they fall."""
    found, variance = score(values)
    if variance <= 0 or found == 0:
        return 0.0
    return (found - math.copysign(1, found)) / math.sqrt(variance)


def slopes(series: Sequence[tuple[float, float]]) -> list[float]:
    """The slopes between all pairs of (time, value), the smallest first."""
    return sorted((v2 - v1) / (t2 - t1) for (t1, v1), (t2, v2) in combinations(series, 2) if t2 > t1)


def slope_of(series: Sequence[tuple[float, float]]) -> float:
    """The median of these; 0 without a pair."""
    found = slopes(series)
    return median(found) if found else 0.0


def interval(found: Sequence[float], values: Sequence[float], deviations: float) -> tuple[float, float]:
    """Between what the slope lies, out of all (sorted) ``found``; 1.645 ``deviations``: in 90% of cases."""
    _, variance = score(values)
    width = deviations * math.sqrt(max(variance, 0.0))
    lower = math.floor((len(found) - width) / 2)
    upper = math.ceil((len(found) + width) / 2)
    return found[max(lower, 0)], found[min(upper, len(found) - 1)]


def level_at(series: Sequence[tuple[float, float]], slope: float, at: float) -> float:
    """Where the line with this slope is at that time."""
    return median(value - slope * time for time, value in series) + slope * at
