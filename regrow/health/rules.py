"""What a health check may find, and what follows from it: frozen values and pure functions, no I/O.

Times are aware datetimes in UTC, durations and ages are seconds. Unknown is never shown as healthy: what
was not measured, or not lately, is ``unknown``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

Status = Literal["healthy", "degraded", "unhealthy", "unknown"]
STATUSES: tuple[Status, ...] = get_args(Status)

# Worst first. A known outage says more than a gap in what we know; a gap is worse than a warning.
_WORST_FIRST: tuple[Status, ...] = ("unhealthy", "unknown", "degraded", "healthy")

GRACE = 5.0
"""Seconds a result may be late on top of two intervals and its probe's timeout: sending and writing it."""

_MESSAGE_LIMIT = 500
_USER_INFO = re.compile(r"(://)[^\s/?#]*@")


@dataclass(frozen=True)
class Finding:
    """What one probe found: a status, a sentence for people, and the evidence as JSON values."""

    status: Status
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A finding as it is kept. ``latency``: seconds the probe took; ``interval``: seconds to the next one.

    ``maintenance``: the window that it fell into; None outside of any.
    """

    check: str
    status: Status
    message: str
    latency: float
    at: datetime
    interval: float
    data: Mapping[str, Any] = field(default_factory=dict)
    maintenance: str | None = None


@dataclass(frozen=True)
class Declared:
    """What the rules need to know of a check that the settings declare."""

    name: str
    kind: str
    interval: float
    timeout: float
    required: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    failures: int = 1
    successes: int = 1
    depends_on: tuple[str, ...] = ()
    severity: str = "medium"
    maintenance: tuple[str, ...] = ()


class DeclaredCheck(Protocol):
    """What the settings of every kind of check have."""

    @property
    def kind(self) -> str: ...
    @property
    def interval(self) -> float | None: ...
    @property
    def timeout(self) -> float: ...
    @property
    def required(self) -> bool: ...
    @property
    def labels(self) -> dict[str, str]: ...
    @property
    def failures(self) -> int: ...
    @property
    def successes(self) -> int: ...
    @property
    def depends_on(self) -> tuple[str, ...]: ...
    @property
    def severity(self) -> str: ...
    @property
    def maintenance(self) -> tuple[str, ...]: ...


def declare(name: str, check: DeclaredCheck, interval: float) -> Declared:
    """A check of the settings as the rules see it; ``interval`` is for those that have none of their own."""
    return Declared(
        name=name,
        kind=check.kind,
        interval=check.interval or interval,
        timeout=check.timeout,
        required=check.required,
        labels=check.labels,
        failures=check.failures,
        successes=check.successes,
        depends_on=check.depends_on,
        severity=check.severity,
        maintenance=check.maintenance,
    )


@dataclass(frozen=True)
class Standing:
    """What a check's results amount to so far; see ``regrow.health.status`` for how.

    ``status``: the confirmed one, since ``since``. ``cause``: the check that this one is down because of.
    """

    status: Status
    since: datetime | None = None
    flapping: bool = False
    cause: str | None = None


@dataclass(frozen=True)
class CheckView:
    """A check as it is shown now. ``at`` and ``age`` are None when it never ran.

    ``status``: what its last probe found, ``confirmed``: what its last probes in a row amount to, since
    ``since``; both are unknown when its last result is too old.
    """

    name: str
    kind: str
    status: Status
    message: str
    latency: float | None
    at: datetime | None
    age: float | None
    required: bool
    data: Mapping[str, Any]
    labels: Mapping[str, str]
    interval: float
    confirmed: Status = "unknown"
    since: datetime | None = None
    flapping: bool = False
    cause: str | None = None
    maintenance: str | None = None

    @property
    def word(self) -> str:
        """The confirmed status in a word; ``flapping`` while it changes too often to have one."""
        return "flapping" if self.flapping else self.confirmed

    @property
    def counts_as(self) -> Status:
        """What it is to the verdict: flapping is not well, and what is bad by plan is not broken."""
        if self.maintenance is not None and self.confirmed != "healthy":
            return "degraded"
        return worst((self.confirmed, "degraded")) if self.flapping else self.confirmed


@dataclass(frozen=True)
class Overview:
    """All declared checks at one moment, and the verdict over them with its reason.

    ``beat``: what is known of who has the checks run; None where that is not watched.
    """

    status: Status
    message: str
    at: datetime
    checks: tuple[CheckView, ...]
    beat: Finding | None = None


def finding(status: Status, message: str, **data: Any) -> Finding:
    """A finding whose message is safe to show: one line, bounded, without credentials of URLs."""
    return Finding(status, without_secrets(message), data)


def without_secrets(text: str) -> str:
    """``text`` on one line of at most 500 characters, user and password cut out of every URL in it."""
    line = _USER_INFO.sub(r"\1***@", " ".join(text.split()))
    return line if len(line) <= _MESSAGE_LIMIT else line[: _MESSAGE_LIMIT - 1] + "…"


def judge(value: float, warning: float, critical: float | None = None) -> Status:
    """``unhealthy`` from ``critical`` on, ``degraded`` from ``warning`` on. What is no number is unknown."""
    if value != value:  # noqa: PLR0124 - NaN
        return "unknown"
    if critical is not None and value >= critical:
        return "unhealthy"
    return "degraded" if value >= warning else "healthy"


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of them; unknown when there is none."""
    found = set(statuses)
    return next((status for status in _WORST_FIRST if status in found), "unknown")


def tolerance(interval: float) -> float:
    """How many seconds early a check may run, so that jitter of the ticks does not skip every other one.

    A quarter of the interval, at most 2.5 s, half a tick: a check of 30 s is due from 27.5 s on.
    """
    return min(interval / 4, 2.5)


def claim_seconds(interval: float) -> float:
    """For how long a run of a check keeps other runs of it away."""
    return interval - tolerance(interval)


def is_due(last: datetime | None, interval: float, now: datetime) -> bool:
    """Whether a check that ran at ``last`` should run now.

    A last run in the future (a clock that was wrong) does not put the check off by more than an interval.
    """
    if last is None:
        return True
    return abs((now - last).total_seconds()) >= claim_seconds(interval)


def due(checks: Iterable[Declared], last: Mapping[str, datetime], now: datetime) -> list[Declared]:
    """The checks to run now, the longest overdue first (never run: before all others)."""
    chosen = [check for check in checks if is_due(last.get(check.name), check.interval, now)]
    return sorted(chosen, key=lambda check: _lateness(check, last.get(check.name), now), reverse=True)


def _lateness(check: Declared, last: datetime | None, now: datetime) -> float:
    return float("inf") if last is None else (now - last).total_seconds() / check.interval


def longest_first(checks: Iterable[Declared], last: Mapping[str, Result]) -> list[Declared]:
    """In the order in which to begin: what took long or hung lately runs beside all the others."""
    return sorted(
        checks, key=lambda check: last[check.name].latency if check.name in last else 0.0, reverse=True
    )


def chunks(checks: Sequence[Declared], size: int) -> list[list[Declared]]:
    """So few parts that none has more than ``size``, each with its share of the slow ones."""
    count = max(1, -(-len(checks) // size))
    return [list(checks[number::count]) for number in range(count)]


def stale_after(interval: float, timeout: float) -> float:
    """The age in seconds from which a result says nothing any more."""
    return 2 * interval + timeout + GRACE


def view(
    check: Declared,
    result: Result | None,
    now: datetime,
    standing: Standing | None = None,
    maintenance: str | None = None,
) -> CheckView:
    """A check as it stands now: its last result, or unknown when there is none or it is too old.

    ``standing``: what its results amount to; without it the last result stands for itself. ``maintenance``:
    the window that holds for it now.
    """
    return replace(_as_it_stands(check, result, now, standing), maintenance=maintenance)


def _as_it_stands(
    check: Declared, result: Result | None, now: datetime, standing: Standing | None
) -> CheckView:
    if result is None:
        return _view(check, "unknown", "has never run", None, None, standing)
    age = max(0.0, (now - result.at).total_seconds())
    ahead = (result.at - now).total_seconds()
    limit = stale_after(check.interval, check.timeout)
    if ahead > limit:
        said = f"its last result is {ahead:.0f} s ahead of this clock"
        return _view(check, "unknown", said, result, age, standing)
    if age > limit:
        said = f"no result for {age:.0f} s; the last one was {result.status}: {result.message}"
        return _view(check, "unknown", without_secrets(said), result, age, standing)
    standing = standing or Standing(result.status)
    return _view(check, result.status, result.message, result, age, standing, standing.status)


def _view(
    check: Declared,
    status: Status,
    message: str,
    result: Result | None,
    age: float | None,
    standing: Standing | None,
    confirmed: Status = "unknown",
) -> CheckView:
    known = confirmed != "unknown"
    return CheckView(
        name=check.name,
        kind=check.kind,
        status=status,
        message=message,
        latency=result.latency if result else None,
        at=result.at if result else None,
        age=age,
        required=check.required,
        data=result.data if result else {},
        labels=check.labels,
        interval=check.interval,
        confirmed=confirmed,
        since=standing.since if standing else None,
        flapping=bool(standing and standing.flapping and known),
        cause=standing.cause if standing and known else None,
    )


def overview(views: Collection[CheckView], now: datetime) -> Overview:
    """The verdict: the worst of the required checks; optional ones can make it degraded, no more.

    Confirmed statuses count. What is in a maintenance window can make it degraded, no more. When nothing is
    known about any check, the verdict is unknown: a silent monitor vouches for nothing.
    """
    checks = tuple(views)
    if not checks:
        return Overview("unknown", "no checks are declared", now, checks)
    if all(check.confirmed == "unknown" for check in checks):
        return Overview("unknown", _silence(checks), now, checks)
    required = worst([check.counts_as for check in checks if check.required] or ["healthy"])
    failing_optional = any(check.counts_as != "healthy" for check in checks if not check.required)
    status = worst((required, "degraded")) if failing_optional else required
    return Overview(status, _reason(checks), now, checks)


def with_beat(seen: Overview, beat: Finding) -> Overview:
    """The same, knowing how beat is: without it what is known now is soon not known any more."""
    if beat.status == "healthy":
        return replace(seen, beat=beat)
    status: Status = "degraded" if seen.status == "healthy" else seen.status
    return replace(seen, status=status, message=f"{seen.message}; beat: {beat.message}", beat=beat)


def hanging(checks: Collection[CheckView]) -> dict[str, str]:
    """The checks that need no word of their own, each with the one that speaks for it: its cause.

    A cause that is still called healthy itself (its failure is not confirmed yet) speaks for nobody.
    """
    words = {check.name: check.word for check in checks}
    return {
        check.name: check.cause
        for check in checks
        if check.cause is not None and words.get(check.cause, "healthy") != "healthy"
    }


def _silence(checks: tuple[CheckView, ...]) -> str:
    ages = [check.age for check in checks if check.age is not None]
    if not ages:
        return "no check has run yet"
    if min(ages) <= max(stale_after(check.interval, 0.0) for check in checks):
        return "no check could be judged"
    return f"monitor silent for {min(ages):.0f} s"


def _reason(checks: tuple[CheckView, ...]) -> str:
    """Who is not well, the roots by name and those that hang on them by number."""
    behind = hanging(checks)
    planned = [check.name for check in checks if check.maintenance and check.counts_as != "healthy"]
    told = [check for check in checks if check.name not in planned]
    named: dict[str, list[str]] = {}
    for word in (*_WORST_FIRST, "flapping"):
        if found := [check.name for check in told if check.word == word and check.name not in behind]:
            named[word] = found
    named.pop("healthy", None)
    because = Counter(behind[check.name] for check in told if check.name in behind)
    parts = [f"{word}: {', '.join(names)}" for word, names in named.items()]
    parts += [f"because of {cause}: {count} more" for cause, count in because.items()]
    parts += [f"in maintenance: {', '.join(planned)}"] if planned else []
    unsure = [check.name for check in told if check.confirmed == "healthy" != check.status]
    parts = parts or [f"all {len(checks)} checks are healthy"]
    parts += [f"not confirmed yet: {', '.join(unsure)}"] if unsure else []
    return "; ".join(parts)
