"""Early warning: will this figure cross its threshold soon? A pure rule over what was measured lately.

The slope is that of Theil and Sen, the median of the slopes between all pairs of points: up to a quarter of
wild values move it little. It counts only when it cannot be chance (the Mann-Kendall test, at 1%), when there
are enough points over enough time, and when the rise is worth a word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from statistics import median

LEAST_POINTS = 12
LEAST_SHARE = 0.25
"""The points must span at least this share of the time that is looked ahead."""
LEAST_RISE = 0.1
"""The rise over the points must be at least this share of the threshold."""
_Z = 2.326  # one side, 1%


@dataclass(frozen=True, slots=True)
class Point:
    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """Where a figure goes. ``value``: where the line is now; ``crosses_in``: seconds to the threshold."""

    value: float
    per_hour: float
    crosses_in: float
    points: int


def warning(points: Sequence[Point], threshold: float, horizon: float) -> Trend | None:
    """The trend that crosses ``threshold`` within ``horizon`` seconds; None when there is none to tell.

    None too when the threshold is crossed already: that is no early warning any more.
    """
    ordered = sorted(points, key=lambda point: point.at)
    if len(ordered) < LEAST_POINTS:
        return None
    began = ordered[0].at
    series = [((point.at - began).total_seconds(), point.value) for point in ordered]
    span = series[-1][0]
    if span < LEAST_SHARE * horizon or not _rises_surely([value for _, value in series]):
        return None
    slope = _slope(series)
    value = median(value - slope * at for at, value in series) + slope * span
    if slope <= 0 or value >= threshold or slope * span < LEAST_RISE * threshold:
        return None
    crosses_in = (threshold - value) / slope
    return Trend(value, slope * 3600, crosses_in, len(series)) if crosses_in <= horizon else None


def _slope(series: Sequence[tuple[float, float]]) -> float:
    """The median slope between all pairs of points, in units a second."""
    slopes = [(v2 - v1) / (t2 - t1) for (t1, v1), (t2, v2) in combinations(series, 2) if t2 > t1]
    return median(slopes) if slopes else 0.0


def _rises_surely(values: Sequence[float]) -> bool:
    """Whether later values are larger more often than chance would have it (Mann-Kendall, ties counted)."""
    n = len(values)
    score = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    ties = sum(count * (count - 1) * (2 * count + 5) for count in map(values.count, set(values)))
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    return variance > 0 and (score - 1) / math.sqrt(variance) >= _Z
