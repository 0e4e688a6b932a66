"""Is there a trend, and when is it full? Pure.

A trend is told only where it cannot be chance (the test of Mann and Kendall, at 1%), where there are enough
points, and where these lie near a line. Anything else is "no trend known", which is not the same as steady.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Literal

from regrow import lines

Kind = Literal["disk", "memory", "check_latency", "breaker_openings", "letters", "fallbacks"]
Direction = Literal["rising", "falling", "none", "unknown"]

LEAST_POINTS = 12
DAY = 86_400.0
_SURE = 2.576  # both sides, 1%
_NINETY = 1.645
_SCATTER = 0.5
"""The typical distance from the line may be this share of what it rises over the points."""
LONGEST = 400 * DAY
"""Seconds ahead beyond which no forecast is told."""


@dataclass(frozen=True)
class Trend:
    """Where one figure of one subject goes.

    ``direction``: rising, falling, none (enough points, and none of the two for sure), unknown (too few).
    ``now``: where the line is (without a line, the middle of the points), in ``unit``. ``per_day`` with the
    interval from ``low`` to ``high`` that holds the slope in 90% of cases. ``full_in``: seconds
    until ``limit``, at the earliest ``full_earliest``, at the latest ``full_latest`` (None: it may never be).
    ``why``: in words.
    """

    kind: Kind
    subject: str
    unit: str
    direction: Direction
    why: str
    points: int
    days: float
    now: float | None = None
    per_day: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    full_in: float | None = None
    full_earliest: float | None = None
    full_latest: float | None = None

    @property
    def told(self) -> bool:
        """Whether it goes anywhere."""
        return self.direction in {"rising", "falling"}

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = self.__dataclass_fields__
        told = {name: getattr(self, name) for name in names}
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in told.items()}


def trend(
    kind: Kind,
    subject: str,
    unit: str,
    points: Sequence[tuple[datetime, float]],
    *,
    limit: float | None = None,
) -> Trend:
    """Judge the points, in any order. ``limit``: the value at which it is full."""
    ordered = sorted(points)
    began = ordered[0][0] if ordered else None
    series = [((at - began).total_seconds() / DAY, value) for at, value in ordered] if began else []
    days = series[-1][0] if series else 0.0
    values = [value for _, value in series]

    def none(direction: Direction, why: str) -> Trend:
        middle = median(values) if values else None
        return Trend(kind, subject, unit, direction, why, len(series), days, now=middle, limit=limit)

    if len(series) < LEAST_POINTS:
        return none("unknown", f"no trend known: {len(series)} points, {LEAST_POINTS} tell more than chance")
    if abs(lines.sureness(values)) < _SURE:
        return none("none", "no trend: what it does may be chance")
    found = lines.slopes(series)
    slope = median(found)
    if slope == 0:
        return none("none", "no trend: most points are the same")
    now = lines.level_at(series, slope, days)
    apart = median(abs(value - lines.level_at(series, slope, at)) for at, value in series)
    if apart > _SCATTER * abs(slope * days):
        return none("none", "no trend known: the points lie too far from any line")
    low, high = lines.interval(found, values, _NINETY)
    direction: Direction = "rising" if slope > 0 else "falling"
    full_in, earliest, latest = _full(now, limit, slope, low, high)
    return Trend(
        kind=kind,
        subject=subject,
        unit=unit,
        direction=direction,
        why=f"{direction} over {_days(days)}",
        points=len(series),
        days=days,
        now=now,
        per_day=slope,
        low=low,
        high=high,
        limit=limit,
        full_in=full_in,
        full_earliest=earliest,
        full_latest=latest,
    )


def _full(
    now: float, limit: float | None, slope: float, low: float, high: float
) -> tuple[float | None, float | None, float | None]:
    """Seconds until the limit by the slope, at the earliest and at the latest; None: not in sight."""
    if limit is None or slope <= 0:
        return None, None, None
    room = max(limit - now, 0.0)
    at_slope, earliest, latest = (
        room / rise * DAY if rise > 0 and room / rise * DAY <= LONGEST else None
        for rise in (slope, high, low)
    )
    return at_slope, earliest, latest


def _days(days: float) -> str:
    return f"{days * 24:.0f} hours" if days < 2 else f"{days:.0f} days"
