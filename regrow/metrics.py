"""What Prometheus is told: pure functions from readings to its text format.

The readings come from Redis and the database, never from a process's own counters: of ten pool children a
scrape would see one. What could not be read has no series at all, because an absent series alerts and a
zero reassures. A counter's value never falls but when Redis lost it, which Prometheus knows as a reset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from regrow.breakers import BreakerStatus
from regrow.capacity import service as capacity
from regrow.counter_metrics import Counts, of_counters
from regrow.dead_letters.ledger import Ledger
from regrow.dead_letters.sources import SourceCounts
from regrow.degradation.service import Status as LevelStatus
from regrow.health.rules import STATUSES, Overview
from regrow.incidents.model import SEVERITIES
from regrow.jobs import JobRun
from regrow.recovery.service import STATES as RECOVERY_STATES
from regrow.recovery.service import ServiceStatus
from regrow.slo.objectives import Standing
from regrow.version import __version__

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

BREAKER_STATES = ("closed", "half_open", "open")
OUTCOMES = ("succeeded", "partial", "failed", "skipped")


@dataclass(frozen=True)
class LetterCounts:
    """Dead letters by state, and when the oldest one that is not settled failed first."""

    by_state: Mapping[str, int]
    oldest: datetime | None
    sources: SourceCounts | None = None


@dataclass(frozen=True)
class AlertCounts:
    """What fires and is open, by severity, and by channel what waits to be told and since when."""

    firing: Mapping[str, int]
    incidents: Mapping[str, int]
    waiting: Mapping[str, tuple[int, datetime]]


@dataclass(frozen=True)
class Readings:
    """What could be read of each source; None: it did not answer in time."""

    checks: Overview | None
    breakers: Sequence[BreakerStatus] | None
    level: LevelStatus | None
    recovery: Sequence[ServiceStatus] | None
    objectives: Sequence[Standing] | None
    alerts: AlertCounts | None
    counters: Counts | None
    dead_letters: LetterCounts | None
    ledger: Ledger | None
    jobs: Mapping[str, JobRun] | None

    def missing(self) -> dict[str, bool]:
        """Each source, and whether it is missing."""
        return {field.name: getattr(self, field.name) is None for field in fields(self)}


def exposition(readings: Readings, now: datetime, since: datetime) -> bytes:
    """The text for ``/metrics``; ``since``: when this process began."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        _Once([*_of_regrow(readings, since), *_of_all(readings, now), *_of_alerts(readings.alerts, now)])
    )
    return generate_latest(registry)


class _Once(Collector):
    """Families that were made for one scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_regrow(readings: Readings, since: datetime) -> Iterator[Metric]:
    build = GaugeMetricFamily("regrow_build_info", "The version that answers; always 1.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    yield GaugeMetricFamily(
        "regrow_web_start_time_seconds", "When this web process began.", since.timestamp()
    )
    errors = GaugeMetricFamily(
        "regrow_scrape_errors",
        "1 for a source that could not be read for this scrape: its series are absent.",
        labels=["source"],
    )
    for source, missing in readings.missing().items():
        errors.add_metric([source], float(missing))
    yield errors


def _of_all(readings: Readings, now: datetime) -> Iterator[Metric]:
    if readings.checks is not None:
        yield from _of_checks(readings.checks)
    if readings.breakers is not None:
        yield from _of_breakers(readings.breakers)
    if readings.level is not None:
        yield from _of_level(readings.level)
    if readings.recovery is not None:
        yield from _of_recovery(readings.recovery)
    if readings.objectives is not None:
        yield from _of_objectives(readings.objectives)
    if readings.dead_letters is not None:
        yield from _of_letters(readings.dead_letters, now)
    if readings.ledger is not None:
        yield from _of_ledger(readings.ledger)
    if readings.jobs is not None:
        yield from _of_jobs(readings.jobs)
        yield from _of_capacity(readings.jobs, now)
    if readings.counters is not None:
        yield from of_counters(readings.counters)


def _of_checks(overview: Overview) -> Iterator[Metric]:
    verdict = GaugeMetricFamily(
        "regrow_health_status", "The verdict over all checks: 1 for the word that holds.", labels=["status"]
    )
    status = GaugeMetricFamily(
        "health_check_status",
        "1 for the status that holds, 0 for the others; results that are too old are unknown.",
        labels=["check", "kind", "status"],
    )
    took = GaugeMetricFamily(
        "health_check_duration_seconds", "How long the last probe took.", labels=["check", "kind"]
    )
    at = GaugeMetricFamily(
        "health_check_last_result_timestamp_seconds", "When the last probe began.", labels=["check", "kind"]
    )
    confirmed = GaugeMetricFamily(
        "health_check_confirmed_status",
        "1 for the confirmed status, after so many results in a row, 0 for the others.",
        labels=["check", "kind", "status"],
    )
    flapping = GaugeMetricFamily(
        "health_check_flapping", "1 while the status changes too often to be told.", labels=["check"]
    )
    planned = GaugeMetricFamily(
        "health_check_in_maintenance", "1 while a maintenance window holds for it.", labels=["check"]
    )
    for word in STATUSES:
        verdict.add_metric([word], float(overview.status == word))
    for check in overview.checks:
        for word in STATUSES:
            status.add_metric([check.name, check.kind, word], float(check.status == word))
            confirmed.add_metric([check.name, check.kind, word], float(check.confirmed == word))
        flapping.add_metric([check.name], float(check.flapping))
        planned.add_metric([check.name], float(check.maintenance is not None))
        if check.latency is not None:
            took.add_metric([check.name, check.kind], check.latency)
        if check.at is not None:
            at.add_metric([check.name, check.kind], check.at.timestamp())
    yield from (verdict, status, confirmed, flapping, planned, took, at)
    yield from _of_temp_files(overview)


def _of_temp_files(overview: Overview) -> Iterator[Metric]:
    held = GaugeMetricFamily(
        "temp_files_bytes", "Bytes in a root of temp files, as last counted.", labels=["root"]
    )
    count = GaugeMetricFamily(
        "temp_files_count", "Files in a root of temp files, as last counted.", labels=["root"]
    )
    for check in overview.checks:
        if check.kind == "temp_files" and check.status != "unknown":
            for root in check.data.get("roots", ()):
                held.add_metric([root["path"]], root["bytes"])
                count.add_metric([root["path"]], root["files"])
    yield from (held, count)


def _of_breakers(breakers: Iterable[BreakerStatus]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "circuit_breaker_state", "1 for the state that holds, 0 for the others.", labels=["breaker", "state"]
    )
    override = GaugeMetricFamily(
        "circuit_breaker_overridden", "1 while a person holds the switch.", labels=["breaker"]
    )
    calls = GaugeMetricFamily(
        "circuit_breaker_window_calls",
        "Calls of the fleet in the breaker's window, by result.",
        labels=["breaker", "result"],
    )
    for breaker in breakers:
        for word in BREAKER_STATES:
            state.add_metric([breaker.name, word], float(breaker.state == word))
        override.add_metric([breaker.name], float(breaker.override is not None))
        calls.add_metric([breaker.name, "success"], breaker.successes)
        calls.add_metric([breaker.name, "failure"], breaker.failures)
    yield from (state, override, calls)


def _of_level(level: LevelStatus) -> Iterator[Metric]:
    if not level.known:  # an absent series alerts, a zero would reassure
        return
    yield GaugeMetricFamily(
        "system_degradation_level",
        "0 normal, 1 minor, 2 moderate, 3 severe, 4 critical; absent while it is unknown.",
        level.level.rank,
    )
    yield GaugeMetricFamily(
        "degradation_overridden", "1 while a person holds the level.", float(level.ordered is not None)
    )
    if level.score is not None:
        score = GaugeMetricFamily(
            "degradation_score",
            "The weighted score of the checks, of 100; low counts unknown ones as down, high as healthy.",
            labels=["bound"],
        )
        score.add_metric(["low"], level.score.low)
        score.add_metric(["high"], level.score.high)
        yield score


def _of_alerts(told: AlertCounts | None, now: datetime) -> Iterator[Metric]:
    if told is None:
        return
    firing = GaugeMetricFamily("alerts_firing", "Alerts that fire, by severity.", labels=["severity"])
    open_ = GaugeMetricFamily("incidents_open", "Incidents that are open, by severity.", labels=["severity"])
    for severity in SEVERITIES:
        firing.add_metric([severity], told.firing.get(severity, 0))
        open_.add_metric([severity], told.incidents.get(severity, 0))
    yield firing
    yield open_
    waiting = GaugeMetricFamily(
        "alert_notices_waiting", "Notices that could not be told yet, by channel.", labels=["channel"]
    )
    oldest = GaugeMetricFamily(
        "alert_notices_waiting_seconds", "For how long the oldest of them waits.", labels=["channel"]
    )
    for channel, (number, at) in told.waiting.items():
        waiting.add_metric([channel], number)
        oldest.add_metric([channel], max(0.0, (now - at).total_seconds()))
    yield waiting
    yield oldest


def _of_recovery(services: Iterable[ServiceStatus]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "regrow_recovery_state", "1 for the state that holds, 0 for the others.", labels=["service", "state"]
    )
    attempts = GaugeMetricFamily(
        "regrow_recovery_attempts", "Attempts that were begun for what is down.", labels=["service"]
    )
    for service in services:
        for word in RECOVERY_STATES:
            state.add_metric([service.name, word], float(service.state == word))
        attempts.add_metric([service.name], service.attempts if service.down_since else 0)
    yield from (state, attempts)


def _of_objectives(standings: Iterable[Standing]) -> Iterator[Metric]:
    """What is not known has no series: neither 0 nor 1 would be true."""
    names = ["objective", "kind"]
    target = GaugeMetricFamily("regrow_slo_target", "The share that is promised, 0 to 1.", labels=names)
    met = GaugeMetricFamily("regrow_slo_met", "1: kept, 0: missed; no series while not known.", labels=names)
    uptime = GaugeMetricFamily(
        "regrow_slo_uptime", "Uptime of known time over the objective's window.", labels=["objective"]
    )
    coverage = GaugeMetricFamily(
        "regrow_slo_coverage", "The share of its time in which somebody looked.", labels=["objective"]
    )
    left = GaugeMetricFamily(
        "regrow_slo_budget_remaining",
        "The share of the error budget that is left; below 0: overspent.",
        labels=["objective"],
    )
    burn = GaugeMetricFamily(
        "regrow_slo_burn_rate",
        "How many times too fast the budget was spent over the time until now.",
        labels=["objective", "over"],
    )
    for one in standings:
        name, kind = one.objective.name, one.objective.kind
        target.add_metric([name, kind], one.objective.target)
        if one.met is not None:
            met.add_metric([name, kind], float(one.met))
        if one.account is None or one.budget is None:
            continue
        coverage.add_metric([name], one.account.coverage)
        if one.account.uptime is not None:
            uptime.add_metric([name], one.account.uptime)
        if one.budget.remaining is not None:
            left.add_metric([name], one.budget.remaining)
        for length, rate in sorted(one.burns.items()):
            if rate is not None:
                burn.add_metric([name, f"{length.total_seconds() / 3600:g}h"], rate)
    yield from (target, met, uptime, coverage, left, burn)


def _of_letters(letters: LetterCounts, now: datetime) -> Iterator[Metric]:
    # A gauge in spite of its name, which was documented long before: dead letters there are now.
    count = GaugeMetricFamily("dlq_messages_total", "Dead letters that are kept, by state.", labels=["state"])
    for state, number in letters.by_state.items():
        count.add_metric([state], number)
    yield count
    age = (now - letters.oldest).total_seconds() if letters.oldest else 0.0
    yield GaugeMetricFamily(
        "dlq_oldest_message_age_seconds", "Age of the oldest letter that is not settled; 0 without one.", age
    )
    if letters.sources is not None:
        yield GaugeMetricFamily(
            "dlq_sources", "Spools of apps that something was received from.", letters.sources.sources
        )
        yield GaugeMetricFamily(
            "dlq_source_entries_missing",
            "Entries of spools that have not arrived for 15 minutes, though later ones have.",
            letters.sources.missing,
        )
        yield GaugeMetricFamily(
            "dlq_source_entries_lost", "Entries of spools that an app's disk damaged.", letters.sources.lost
        )


def _of_ledger(ledger: Ledger) -> Iterator[Metric]:
    accepted = CounterMetricFamily(
        "dlq_ledger_accepted_total", "Letters ever accepted, out of the books.", labels=["service"]
    )
    purged = CounterMetricFamily(
        "dlq_ledger_purged_total", "Settled letters that were purged, out of the books.", labels=["service"]
    )
    held = GaugeMetricFamily(
        "dlq_ledger_letters", "Letters that are there, counted.", labels=["service", "account"]
    )
    balance = GaugeMetricFamily(
        "dlq_ledger_balance",
        "Letters accepted that are neither there nor purged; anything but 0 is a loss or a double.",
        labels=["service"],
    )
    balanced = GaugeMetricFamily(
        "dlq_ledger_balanced",
        "1 while books and letters agree in every account, 0 when they do not.",
        labels=["service"],
    )
    for account in ledger.accounts:
        accepted.add_metric([account.service], account.booked.accepted)
        purged.add_metric([account.service], account.booked.purged)
        for name in ("live", "resolved", "discarded"):
            held.add_metric([account.service, name], getattr(account, name))
        balance.add_metric([account.service], account.balance)
        balanced.add_metric([account.service], float(account.balanced))
    yield from (accepted, purged, held, balance, balanced)


def _of_jobs(runs: Mapping[str, JobRun]) -> Iterator[Metric]:
    at = GaugeMetricFamily(
        "regrow_job_last_run_timestamp_seconds", "When the last run of the job began.", labels=["job"]
    )
    took = GaugeMetricFamily(
        "regrow_job_duration_seconds", "How long the last run of the job took.", labels=["job"]
    )
    outcome = GaugeMetricFamily(
        "regrow_job_last_outcome",
        "1 for the outcome of the last run, 0 for the others.",
        labels=["job", "outcome"],
    )
    for job, run in runs.items():
        at.add_metric([job], run.started_at.timestamp())
        took.add_metric([job], run.duration)
        for word in OUTCOMES:
            outcome.add_metric([job, word], float(run.outcome == word))
    yield from (at, took, outcome)


def _of_capacity(runs: Mapping[str, JobRun], now: datetime) -> Iterator[Metric]:
    full = GaugeMetricFamily(
        "capacity_full_in_seconds",
        "Until a disk or the memory is full, by its trend; absent without a trend, or one that is known.",
        labels=["kind", "subject"],
    )
    run = runs.get(capacity.JOB)
    if run is not None and "looked_at" in run.summary and now - run.started_at <= capacity.STALE:
        passed = (now - run.started_at).total_seconds()
        for one in capacity.forecast_of(run.started_at, run.summary).trends:
            if one.full_in is not None:
                full.add_metric([one.kind, one.subject], max(0.0, one.full_in - passed))
    yield full
