"""Early warning: will this figure cross its threshold soon? A pure rule over what was measured lately.

The slope is that of Theil and Sen, the median of the slopes between all pairs of points: up to a quarter of
wild values move it little. It counts only when it cannot be chance (the Mann-Kendall test, at 1%), when there
are enough points over enough time, and when the rise is worth a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from regrow import lines

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
    if span < LEAST_SHARE * horizon or lines.sureness([value for _, value in series]) < _Z:
        return None
    slope = lines.slope_of(series)
    value = lines.level_at(series, slope, span)
    if slope <= 0 or value >= threshold or slope * span < LEAST_RISE * threshold:
        return None
    crosses_in = (threshold - value) / slope
    return Trend(value, slope * 3600, crosses_in, len(series)) if crosses_in <= horizon else None
