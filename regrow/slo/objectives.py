"""Objectives: what is promised of which checks or which service, and how it stands. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Literal

from regrow.slo import budget as budgets
from regrow.slo import ledger as ledgers
from regrow.slo.budget import Budget
from regrow.slo.burn import TABLE, Promise, Severity
from regrow.slo.ledger import Ledger
from regrow.slo.requests import Measured

Kind = Literal["availability", "latency", "error_rate", "throughput"]

FORECAST = timedelta(days=1)
"""The burn of so long a time is taken to go on, when it is said how long a budget lasts."""


@dataclass(frozen=True)
class Objective:
    """A promise. ``target``: a share, 0 to 1, of time (availability) or requests (latency: the percentile).

    ``checks``: those it is about, resolved; time of several adds up. ``service``: whose requests. ``limit``:
    seconds (latency) or requests a second (throughput). ``hours`` and ``zone``: of throughput.
    """

    name: str
    kind: Kind
    target: float
    window: timedelta
    severity: Severity = "medium"
    checks: tuple[str, ...] = ()
    service: str = ""
    limit: float | None = None
    hours: tuple[time, time] | None = None
    zone: str = "UTC"
    exclude_maintenance: bool = True
    declared: bool = True
    interval: float = 60.0
    failures: int = 3

    @property
    def promise(self) -> Promise:
        return Promise(self.name, self.target, self.window, self.severity, self.interval, self.failures)

    def counted(self, found: Ledger) -> Ledger:
        """An account as this objective counts it."""
        return found if self.exclude_maintenance else found.with_maintenance()


@dataclass(frozen=True)
class Standing:
    """How an objective stands. ``met`` is None when it is not known.

    Of availability: ``account`` over its window, ``budget``, ``burns`` by the length of the time until now,
    and ``exhausted_in`` (None: it lasts, or nobody knows). Of requests: ``measured``. ``why``: what is amiss.
    """

    objective: Objective
    at: datetime
    met: bool | None
    account: Ledger | None = None
    budget: Budget | None = None
    burns: Mapping[timedelta, float | None] = field(default_factory=dict)
    exhausted_in: timedelta | None = None
    measured: Measured | None = None
    why: str = ""

    @property
    def uptime(self) -> float | None:
        return self.account.uptime if self.account else None

    @property
    def words(self) -> str:
        """Met, missed, or that it is not known."""
        return {True: "met", False: "missed", None: "not known"}[self.met]


BURNS = tuple(rule.long for rule in TABLE)


def of_availability(
    objective: Objective, at: datetime, found: Ledger, recent: Mapping[timedelta, Ledger]
) -> Standing:
    """How a promise of uptime stands. ``recent``: accounts of the last hour, 6 hours, day and 3 days."""
    account = objective.counted(found)
    left = budgets.budget(account, objective.target)
    if account.uptime is None:  # nothing is known: nobody can say that the budget is whole
        left = replace(left, remaining=None)
    burns = {length: _burn(objective, one) for length, one in recent.items()}
    return Standing(
        objective=objective,
        at=at,
        met=_met(account, objective.target),
        account=account,
        budget=left,
        burns=burns,
        exhausted_in=budgets.exhausted_in(left.remaining, burns.get(FORECAST), objective.window),
        why=_why(account, objective.target),
    )


def _met(account: Ledger, target: float) -> bool | None:
    """Of a window that is whole, by its uptime. Of one that began before the first result, when it is sure.

    Missed is sure once the budget of the whole window is spent; met once a single failed probe would not
    have been enough to miss it.
    """
    if not account.young:
        return ledgers.target_met(account, target)
    if account.down > account.promised * (1 - target):
        return False
    return (ledgers.target_met(account, target) or None) if account.probes >= _enough(target) else None


def _enough(target: float) -> int:
    """Probes of which a single one that failed does not miss the target yet."""
    return math.ceil(1 / (1 - target) - 1e-6)


def _why(account: Ledger, target: float) -> str:
    if not account.sufficient:
        return "too little is known of its time"
    if not account.young or _met(account, target) is not None:
        return ""
    if account.probes < _enough(target):
        return f"new: {account.probes} of the {_enough(target)} probes that it takes to tell"
    return "new: below its target so far, within the budget of its whole window"


def _burn(objective: Objective, found: Ledger) -> float | None:
    """None also where nothing is known: a silent monitor burns nothing, and vouches for nothing."""
    counted = objective.counted(found)
    return None if counted.uptime is None else budgets.burn(counted, objective.target)


def of_requests(objective: Objective, at: datetime, measured: Measured | None) -> Standing:
    """How a promise about requests stands; ``measured`` is None when no application reports any."""
    if measured is None:
        return Standing(objective, at, None, why="no application reports requests of this service")
    why = "" if measured.met is not None else "too little is known of its requests"
    return Standing(objective, at, measured.met, measured=measured, why=why)


def summed(accounts: Iterable[Ledger]) -> Ledger:
    """The account of several checks: their time together."""
    found = Ledger()
    for one in accounts:
        found += one
    return found


__all__ = [
    "BURNS",
    "Kind",
    "Objective",
    "Standing",
    "of_availability",
    "of_requests",
    "summed",
]
