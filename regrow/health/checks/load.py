"""Load: how many processes run or wait, on average over some minutes, for each core there is."""

from __future__ import annotations

import os
from collections.abc import Sequence

from regrow.health.rules import Finding, finding, judge
from regrow.settings import Settings
from regrow.settings.checks import LoadCheck

_MINUTES = (1, 5, 15)


def probe(check: LoadCheck, settings: Settings) -> Finding:
    del settings
    # The load is the host's, in a container too; so the host's cores are what it has to be shared by.
    return verdict(check, os.getloadavg(), float(os.cpu_count() or 1))


def verdict(check: LoadCheck, averages: Sequence[float], cores: float) -> Finding:
    """``averages``: over 1, 5 and 15 minutes."""
    average = averages[_MINUTES.index(check.minutes)]
    share = average / cores
    return finding(
        judge(share, check.warning, check.critical),
        f"load {average:.2f} over {check.minutes} min on {cores:g} cores: {share:.2f} a core",
        per_core=round(share, 3),
        averages=[round(value, 2) for value in averages],
        cores=cores,
    )
