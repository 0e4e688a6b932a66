"""MTTD, MTTA, MTTR and MTBF of incidents, each with how sure it is. Pure functions over simple intervals.

A mean of five repair times says little: with it stand their number, median and 90th percentile, and for MTBF
an interval. Incidents that are still open have no repair time yet; they are listed as censored, because the
longest outage is often the one that goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, median


@dataclass(frozen=True, slots=True)
class Outage:
    """An incident as these figures need it; None: not yet. ``name`` is told of censored ones."""

    name: str
    began: datetime
    detected: datetime | None = None
    acknowledged: datetime | None = None
    resolved: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """``n`` times in seconds; None where there is none. ``censored``: those that have not ended."""

    n: int
    mean: float | None
    median: float | None
    p90: float | None
    censored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BetweenFailures:
    """MTBF = uptime / n in seconds, and where it lies with 95 % confidence (``high`` None: no limit)."""

    n: int
    mtbf: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class MeanTimes:
    detect: Spread
    acknowledge: Spread
    resolve: Spread
    between_failures: BetweenFailures


def mean_times(outages: Sequence[Outage], uptime: timedelta) -> MeanTimes:
    """The four figures over incidents of a window in which the service was up for ``uptime``.

    Times to detect and to resolve are from the beginning, the time to acknowledge is from detection.
    """
    return MeanTimes(
        detect=spread_of(outages, lambda o: o.began, lambda o: o.detected),
        acknowledge=spread_of(outages, lambda o: o.detected or o.began, lambda o: o.acknowledged),
        resolve=spread_of(outages, lambda o: o.began, lambda o: o.resolved),
        between_failures=between_failures(len(outages), uptime),
    )


def spread_of(
    outages: Iterable[Outage],
    from_: Callable[[Outage], datetime],
    until: Callable[[Outage], datetime | None],
) -> Spread:
    """How long it took from one moment of each incident to another."""
    took: list[float] = []
    censored: list[str] = []
    for outage in outages:
        end = until(outage)
        if end is None:
            censored.append(outage.name)
        else:
            took.append(max(0.0, (end - from_(outage)).total_seconds()))
    if not took:
        return Spread(0, None, None, None, tuple(censored))
    took.sort()
    p90 = took[max(0, math.ceil(0.9 * len(took) - 1e-9) - 1)]
    return Spread(len(took), fmean(took), median(took), p90, tuple(censored))


def between_failures(n: int, uptime: timedelta) -> BetweenFailures:
    """MTBF and its exact 95 % interval, failures taken as a Poisson process (F. Garwood, 1936)."""
    seconds = uptime.total_seconds()
    if seconds <= 0:
        return BetweenFailures(n, None, None, None)
    fewest, most = poisson_interval(n)
    high = seconds / fewest if fewest > 0 else None
    return BetweenFailures(n, seconds / n if n else None, seconds / most, high)


def poisson_interval(n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The means for which ``n`` events are not surprising: 0 gives (0, 3.689), 10 gives (4.795, 18.390)."""
    tail = (1 - confidence) / 2
    widest = n + 10 * math.sqrt(n + 1) + 10
    low = 0.0 if n == 0 else _bisected(lambda mean: 1 - _at_most(n - 1, mean) > tail, 0.0, float(n))
    return low, _bisected(lambda mean: _at_most(n, mean) < tail, float(n), widest)


def _at_most(n: int, mean: float) -> float:
    """The probability of ``n`` events or fewer."""
    if mean <= 0:
        return 1.0
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(n + 1))


def _bisected(beyond: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return (low + high) / 2
