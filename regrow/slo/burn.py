"""Burn alerts over two windows each: the table, the decision and the linter. Pure.

The table is that of the Google SRE Workbook, chapter 5 "Alerting on SLOs", table 5-8, for an objective over
30 days: 2 % of the budget within 1 h and 5 % within 6 h page, 10 % within 3 d is a ticket; each short window
is a twelfth of the long one, and says that it still burns. 10 % within 1 d (factor 3) is a ticket in between.
A factor is the share of the budget x the objective's window / the long window, so that for 30 days they are
14.4, 6, 3 and 1, and an objective over 7 days alerts at the same share of its own budget. No factor is below
1: a promise that is kept at the rate of its spending alerts nobody, however short its window.

A page needs more than burn: the check must be confirmed down, and at least ``max(2 x interval, 60 s)`` of the
long window must have been bad, so that one lost packet wakes nobody however small the budget is. Of requests
at least ``LEAST_BAD_REQUESTS`` must have been bad, for a ticket, too: a share of few requests says little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from regrow.slo.budget import bad_share_burn, burn
from regrow.slo.ledger import Ledger

Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
PAGES: frozenset[Severity] = frozenset({"critical", "high"})

LEAST_BAD = timedelta(seconds=60)
LEAST_BAD_REQUESTS = 10
_A_TENTH = 0.1


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: ``share`` of the budget spent within ``long``, and ``short`` says it goes on."""

    severity: Severity
    long: timedelta
    short: timedelta
    share: float

    @property
    def pages(self) -> bool:
        return self.severity in PAGES

    def factor(self, window: timedelta) -> float:
        """The burn from which it fires, for an objective over ``window``; at least 1."""
        return max(1.0, round(self.share * (window / self.long), 9))


TABLE = (
    Rule("critical", timedelta(hours=1), timedelta(minutes=5), 0.02),
    Rule("high", timedelta(hours=6), timedelta(minutes=30), 0.05),
    Rule("medium", timedelta(days=1), timedelta(hours=2), 0.10),
    Rule("low", timedelta(days=3), timedelta(hours=6), 0.10),
)


@dataclass(frozen=True, slots=True)
class Promise:
    """What the rules need of an objective. ``severity``: no alert of it is more severe than this.

    ``interval``: seconds between probes (the longest of its checks); ``failures``: bad ones in a row that
    confirm it down.
    """

    name: str
    target: float
    window: timedelta
    severity: Severity = "critical"
    interval: float = 60.0
    failures: int = 3

    @property
    def least_bad(self) -> timedelta:
        """The bad time that a page needs within its long window."""
        return max(2 * timedelta(seconds=self.interval), LEAST_BAD)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a window until now spent of a budget. ``burn`` None: nothing of it is known.

    ``bad``: downtime, or a number of requests. ``calls``: whether that is enough to call somebody,
    ``counts``: whether it is enough for a ticket.
    """

    burn: float | None
    bad: timedelta | int
    calls: bool
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Burning:
    """A rule that fires, with its evidence. Burns are times the sustainable rate.

    ``bad``: the downtime of the long window, or its bad requests. ``spent_by``: the one outage that spent it
    (see ``regrow.slo.burning``).
    """

    objective: str
    severity: Severity
    rule: Rule
    factor: float
    long_burn: float
    short_burn: float
    bad: timedelta | int
    spent_by: str | None = None

    @property
    def message(self) -> str:
        return (
            f"{self.objective} spends its error budget {rate_words(self.long_burn)} times too fast over "
            f"{span_words(self.rule.long)} ({rate_words(self.short_burn)} times over "
            f"{span_words(self.rule.short)}, "
            f"threshold {self.factor:g})"
        )


def capped(severity: Severity, limit: Severity) -> Severity:
    """The less severe of the two."""
    return SEVERITIES[max(SEVERITIES.index(severity), SEVERITIES.index(limit))]


def rules_for(promise: Promise) -> list[tuple[Rule, float, Severity]]:
    """The rules that can say something of this promise, with their factors and severities here.

    What looks further back than the objective's window says nothing of it, nor does one that cannot fire.
    """
    return [
        (rule, rule.factor(promise.window), capped(rule.severity, promise.severity))
        for rule in TABLE
        if rule.long <= promise.window and can_fire(rule.factor(promise.window), promise.target)
    ]


def can_fire(factor: float, target: float) -> bool:
    """Nothing can be bad for more than all of the time."""
    return factor * (1 - target) < 1


def firing(promise: Promise, over: Callable[[timedelta], Ledger], *, confirmed_down: bool) -> list[Burning]:
    """Every rule that fires now of a promise about time. ``over(length)``: the account until now."""

    def spent(length: timedelta) -> Spent:
        account = over(length)
        enough = confirmed_down and account.down >= promise.least_bad
        return Spent(burn(account, promise.target), account.down, enough)

    return fires(promise, spent)


def of_requests(bad: int, total: int, target: float) -> Spent:
    """What ``bad`` of ``total`` requests spend."""
    rate = bad_share_burn(bad / total, target) if total else None
    enough = bad >= LEAST_BAD_REQUESTS
    return Spent(rate, bad, calls=enough, counts=enough)


def fires(promise: Promise, spent: Callable[[timedelta], Spent]) -> list[Burning]:
    """Every rule that fires now, the most severe first. ``spent(length)``: over so long a time until now."""
    found = []
    for rule, factor, severity in rules_for(promise):
        short = spent(rule.short)
        if short.burn is None or short.burn <= factor:
            continue
        long = spent(rule.long)
        if long.burn is None or long.burn <= factor:
            continue
        if not long.counts or (severity in PAGES and not long.calls):
            continue
        found.append(Burning(promise.name, severity, rule, factor, long.burn, short.burn, long.bad))
    return found


@dataclass(frozen=True, slots=True)
class Remark:
    """What the linter says of one rule of an objective, or of the objective itself (``rule`` is None)."""

    objective: str
    level: Literal["refused", "warning"]
    rule: Severity | None
    message: str


def lint(promises: Iterable[Promise]) -> list[Remark]:
    """Rules that cannot fire are refused; where one or two probes page, or empty a budget, it warns."""
    return [remark for promise in promises for remark in _remarks(promise)]


def _remarks(promise: Promise) -> list[Remark]:
    found: list[Remark] = []
    for rule in TABLE:
        factor = rule.factor(promise.window)
        if rule.long > promise.window:
            said = f"looks back {span_words(rule.long)}, further than the objective's window; it is left out"
            found.append(Remark(promise.name, "warning", rule.severity, said))
        elif not can_fire(factor, promise.target):
            said = (
                f"cannot fire: {factor:g} x (1 - {promise.target:g}) = {factor * (1 - promise.target):.3g} "
                "is no share of time below 1. Raise the target, or lengthen the window"
            )
            found.append(Remark(promise.name, "refused", rule.severity, said))
        elif capped(rule.severity, promise.severity) in PAGES and (n := probes_to_page(promise, rule)) <= 2:
            said = f"pages after {_counted(n, 'bad probe')}. Probe more often, or set failures to 3 or more"
            found.append(Remark(promise.name, "warning", rule.severity, said))
    return found + _too_coarse(promise)


def probes_to_page(promise: Promise, rule: Rule) -> int:
    """How many bad probes in a row are enough for a page; each stands for one interval of bad time."""
    share = rule.factor(promise.window) * (1 - promise.target)
    bad = max(share * rule.long, share * rule.short, promise.least_bad)
    return max(math.ceil(bad.total_seconds() / promise.interval - 1e-9), promise.failures)


def _too_coarse(promise: Promise) -> list[Remark]:
    one = promise.interval / ((1 - promise.target) * promise.window.total_seconds())
    if one < _A_TENTH:
        return []
    said = f"one bad probe spends {one:.0%} of the budget. Probe more often, or promise less"
    return [Remark(promise.name, "warning", None, said)]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def rate_words(rate: float) -> str:
    """A burn as people read it: three digits, and no powers of ten."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def span_words(length: timedelta) -> str:
    """``1 h``, ``5 min``, ``3 d``: whole numbers of the largest unit that fits."""
    seconds = round(length.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
