"""CPU: the share of what this container may use (its control group's quota), else of the host's cores.

A share needs two readings. The one before is remembered per process, so that the figure is the average since
then and not the load of the instant in which the probes themselves run; the first one waits a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regrow.health import cgroups
from regrow.health.rules import Finding, finding, judge
from regrow.settings import Settings
from regrow.settings.checks import CpuCheck

_SHORTEST, _LONGEST = 5.0, 600.0
"""A remembered reading is used when it is so many seconds old; younger is noise, older is another time."""


@dataclass(frozen=True)
class Reading:
    """``used``: seconds of CPU spent so far; ``at``: seconds on the monotonic clock."""

    at: float
    used: float
    cores: float
    source: str


class Meter:
    """Remembers the reading before this one. Two threads that use it at once lose nothing but a reading."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read
        self._before: Reading | None = None

    def share(self, pause: float) -> tuple[float, Reading]:
        """Percent in use and the reading it ends with; waits ``pause`` seconds when it must."""
        before, after = self._before, self._read()
        if before is None or not comparable(before, after):
            before = after
            time.sleep(pause)
            after = self._read()
        self._before = after
        return percent(before, after), after


def comparable(before: Reading, after: Reading) -> bool:
    same = (before.source, before.cores) == (after.source, after.cores)
    return same and _SHORTEST <= after.at - before.at <= _LONGEST and after.used >= before.used


def percent(before: Reading, after: Reading) -> float:
    """The share of the cores that was in use between two readings, 0 to 100; NaN for no time at all."""
    elapsed = after.at - before.at
    if elapsed <= 0:
        return float("nan")
    return min(100.0, max(0.0, 100 * (after.used - before.used) / elapsed / after.cores))


def read(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> Reading:
    """What was used until now, by the group with the tightest quota, else by the host."""
    import psutil

    limited, now = cgroups.cpu(root, membership), time.monotonic()
    cores = float(psutil.cpu_count() or 1)
    if limited is not None and limited.cores < cores:
        return Reading(now, limited.used, limited.cores, limited.source)
    times = psutil.cpu_times()
    # Guests are counted in user time as well; waiting for a disk is idling.
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return Reading(now, sum(times) - guests - idle, cores, "host")


_meter = Meter(read)


def probe(check: CpuCheck, settings: Settings) -> Finding:
    del settings
    share, reading = _meter.share(min(1.0, check.timeout / 4))
    return verdict(check, share, reading)


def verdict(check: CpuCheck, share: float, reading: Reading) -> Finding:
    return finding(
        judge(share, check.warning, check.critical),
        f"{share:.0f}% of {reading.cores:g} cores in use ({reading.source})",
        percent=round(share, 1) if share == share else None,  # noqa: PLR0124 - NaN is no JSON
        cores=reading.cores,
        source=reading.source,
    )
