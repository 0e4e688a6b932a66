"""What Prometheus is to record and to alert on: the shipped rules, and those of each objective. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from regrow.slo.burn import TABLE, Promise, rules_for
from regrow.slo.objectives import Objective

BAD = "regrow:check_bad"
"""1 while a check is down and that was not planned, else 0."""
KNOWN = "regrow:check_known"
"""1 while it is known whether a check is up, and nothing was planned, else 0."""
DOWN = "regrow:check_down:ratio"
"""The share of time that a check was down, recorded for each window of the burn table."""
FAILED = "5xx|none"
_UPTIME = "30d"


@dataclass(frozen=True)
class Record:
    """A recording rule."""

    record: str
    expr: str


@dataclass(frozen=True)
class Alert:
    """An alerting rule. ``hold``: seconds for which it must be so."""

    alert: str
    expr: str
    severity: str
    summary: str
    hold: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    name: str
    rules: tuple[Record | Alert, ...]


@dataclass(frozen=True)
class Limits:
    """From where on the shipped rules alert. Shares are 0 to 1, times seconds."""

    silent: int = 180
    breaker_open: int = 300
    checks_failing: float = 0.05
    request_failures: float = 0.01
    oldest_letter: int = 86_400
    disk_full: int = 86_400


def groups(objectives: Iterable[Objective], limits: Limits) -> list[Group]:
    """All of it, in the order of the file."""
    told = sorted(objectives, key=lambda one: one.name)
    return [
        Group("regrow-recorded", tuple(_records())),
        Group("regrow-itself", tuple(_of_regrow(limits))),
        Group("regrow-shipped", tuple(_shipped(limits))),
        Group("regrow-objectives", tuple(alert for one in told for alert in _of_objective(one))),
    ]


def _records() -> Iterator[Record]:
    """Time in which nobody scraped is in no ratio; what the watcher did not know is not down, nor is what was
    planned. Several web processes that are scraped each have their own series."""
    planned = "on (check, instance) group_left () (1 - health_check_in_maintenance)"
    yield Record(BAD, f'health_check_status{{status="unhealthy"}} * {planned}')
    yield Record(KNOWN, f'sum without (status) (health_check_status{{status!="unknown"}}) * {planned}')
    for window in sorted({window for rule in TABLE for window in (rule.long, rule.short)}):
        told = duration(window)
        yield Record(f"{DOWN}{told}", f"avg_over_time({BAD}[{told}])")
    yield Record("regrow:requests:rate5m", "sum by (app) (rate(http_requests_total[5m]))")
    yield Record("regrow:requests_failed:ratio1h", failure_rate("", "1h"))


def failure_rate(app: str, window: str) -> str:
    """The share of requests that failed, by app."""
    one = f'app="{quoted(app)}",' if app else ""
    every = f'{{app="{quoted(app)}"}}' if app else ""
    return (
        f'sum by (app) (rate(http_requests_total{{{one}status=~"{FAILED}"}}[{window}]))'
        f" / sum by (app) (rate(http_requests_total{every}[{window}]))"
    )


def _of_regrow(limits: Limits) -> Iterator[Alert]:
    job = 'regrow_job_last_run_timestamp_seconds{job="health_check_monitoring"}'
    yield Alert(
        "RegrowSilent",
        f"time() - {job} > {limits.silent} or absent({job})",
        "critical",
        "The monitor is silent: what it watches is unknown. Are a worker and beat running?",
        60,
    )
    yield Alert(
        "RegrowSourceUnreadable",
        "regrow_scrape_errors == 1",
        "medium",
        "Regrow cannot read {{ $labels.source }}: its figures are missing.",
        300,
    )
    yield Alert(
        "RegrowJobFails",
        'regrow_job_last_outcome{outcome="failed"} == 1',
        "medium",
        "The job {{ $labels.job }} fails.",
        600,
    )


def _shipped(limits: Limits) -> Iterator[Alert]:
    yield Alert(
        "CheckUnhealthy",
        'health_check_confirmed_status{status="unhealthy"} == 1 '
        "unless on (check) health_check_in_maintenance == 1",
        "high",
        "{{ $labels.check }} is down.",
    )
    yield Alert(
        "CheckUnknown",
        'health_check_status{status="unknown"} == 1 unless on (check) health_check_in_maintenance == 1',
        "medium",
        "Nothing is known of {{ $labels.check }}.",
        300,
    )
    yield Alert(
        "ChecksFailing",
        'sum(increase(health_check_total{status="unhealthy"}[1h])) / sum(increase(health_check_total[1h]))'
        f" > {limits.checks_failing:g}",
        "high",
        "{{ $value | humanizePercentage }} of the last hour's health checks failed.",
    )
    yield Alert(
        "Degraded",
        "system_degradation_level >= 2 or absent(system_degradation_level)",
        "high",
        "The system is degraded, or nobody knows whether it is.",
        300,
    )
    yield Alert(
        "BreakerOpen",
        'circuit_breaker_state{state="open"} == 1',
        "high",
        "The circuit breaker {{ $labels.breaker }} is open.",
        limits.breaker_open,
    )
    yield Alert(
        "RequestFailures",
        f"regrow:requests_failed:ratio1h > {limits.request_failures:g}",
        "high",
        "{{ $value | humanizePercentage }} of the last hour's requests of {{ $labels.app }} failed.",
    )
    yield Alert(
        "DrainTimedOut",
        'increase(drains_total{outcome="timed_out"}[1h]) > 0',
        "medium",
        "A {{ $labels.process }} stopped with work in hand.",
    )
    yield Alert(
        "OldestLetterTooOld",
        f"dlq_oldest_message_age_seconds > {limits.oldest_letter}",
        "medium",
        "The oldest dead letter has waited for {{ $value | humanizeDuration }}.",
    )
    yield Alert(
        "LedgerOff",
        "dlq_ledger_balanced == 0",
        "critical",
        "The books of {{ $labels.service }} do not balance: a letter was lost or doubled.",
        300,
    )
    yield Alert(
        "RecoveryLocked",
        'regrow_recovery_state{state="locked"} == 1',
        "high",
        "Recovery of {{ $labels.service }} gave up: a person is wanted.",
    )
    yield Alert(
        "DiskFullSoon",
        f'capacity_full_in_seconds{{kind="disk"}} < {limits.disk_full}',
        "high",
        "{{ $labels.subject }} is full in {{ $value | humanizeDuration }}.",
    )


def _of_objective(objective: Objective) -> Iterator[Alert]:
    labels = {"objective": objective.name}
    match objective.kind:
        case "availability" if objective.checks:
            yield from _of_availability(objective, labels)
        case "error_rate":
            allowed = 1 - objective.target
            yield Alert(
                "ErrorRateOverTarget",
                f"{failure_rate(objective.service, duration(objective.window))} > {allowed:.6g}",
                str(objective.severity),
                f"{{{{ $value | humanizePercentage }}}} of the requests of {objective.service} fail; "
                f"{allowed:.6g} are promised.",
                labels=labels,
            )
        case "latency" if objective.limit is not None:
            bucket = f'http_request_duration_seconds_bucket{{app="{quoted(objective.service)}"}}'
            rate = f"sum by (app, le) (rate({bucket}[{duration(objective.window)}]))"
            yield Alert(
                "LatencyOverTarget",
                f"histogram_quantile({objective.target:g}, {rate}) > {objective.limit:g}",
                str(objective.severity),
                f"{objective.target:.6g} of the requests of {objective.service} take "
                f"{{{{ $value | humanizeDuration }}}}; {objective.limit:g} s are promised.",
                labels=labels,
            )
        case _:  # throughput goes by the clock of a place, which PromQL does not know
            return


def _of_availability(objective: Objective, labels: Mapping[str, str]) -> Iterator[Alert]:
    checks = "|".join(quoted(regex(name)) for name in objective.checks)
    promise = Promise(
        objective.name,
        objective.target,
        objective.window,
        objective.severity,
        objective.interval,
        objective.failures,
    )
    among = f'check=~"{checks}"'
    spent = 1 - objective.target
    down = f'avg(health_check_confirmed_status{{status="unhealthy",{among}}}) > 0'
    for rule, factor, severity in rules_for(promise):
        long, short = (f"avg({DOWN}{duration(w)}{{{among}}})" for w in (rule.long, rule.short))
        limit = f"{factor * spent:.6g}"
        expr = f"{long} > {limit} and {short} > {limit}"
        if rule.pages:
            least = promise.least_bad / rule.long
            expr = f"({expr}) and {long} >= {least:.6g} and {down}"
        yield Alert(
            "ErrorBudgetBurn",
            expr,
            str(severity),
            f"{objective.name} spends its error budget {factor:g} times too fast over {duration(rule.long)}.",
            labels={**labels, "window": duration(rule.long)},
        )
    yield Alert(
        "UptimeUnderTarget",
        f"{uptime(among)} < {objective.target:.6g}",
        "medium",
        f"{objective.name} was up for {{{{ $value | humanizePercentage }}}} of {_UPTIME}; "
        f"{objective.target:.6g} is promised.",
        labels=labels,
    )


def uptime(matcher: str, by: str = "") -> str:
    """The share of the last 30 days that was up, of those that are known; ``by``: for each of a label."""
    bad = f"sum {by}(avg_over_time({BAD}{{{matcher}}}[{_UPTIME}]))"
    known = f"sum {by}(avg_over_time({KNOWN}{{{matcher}}}[{_UPTIME}]))"
    return f"1 - {bad} / {known}"


def duration(window: timedelta) -> str:
    """As PromQL writes it: ``5m``, ``6h``, ``30d``."""
    seconds = round(window.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def quoted(text: str) -> str:
    """Within a string of PromQL."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def regex(text: str) -> str:
    """A name as an expression that matches nothing else; those of RE2 that mean something are escaped."""
    return "".join(f"\\{char}" if char in "\\.+*?()|[]{}^$" else char for char in text)
