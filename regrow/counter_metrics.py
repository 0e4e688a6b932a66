"""What services and apps count in Redis, as Prometheus is told of it: counters, delays, durations. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from regrow import request_counts as requests
from regrow.breakers import counting as calls
from regrow.counters import Labels
from regrow.dead_letters import counting as redrives
from regrow.retries import counting as retries

COUNTERS = {
    "regrow_job_runs_total": ("Runs of the scheduled jobs, by outcome.", ("job", "outcome")),
    "health_check_total": ("Results of the checks, by status.", ("check", "status")),
    "dlq_messages_added_total": ("Messages kept as dead letters, by service.", ("service",)),
    "circuit_breaker_requests_total": ("Guarded calls that were made, probes included.", ("breaker",)),
    "circuit_breaker_failures_total": ("Guarded calls that failed or came late.", ("breaker",)),
    "circuit_breaker_rejected_total": ("Callers that were refused.", ("breaker",)),
    "circuit_breaker_transitions_total": (
        "Changes of state in the history, by the state after them.",
        ("breaker", "to"),
    ),
    "http_requests_total": (
        "Requests that an app's middleware let in and that ended, by the class of their status.",
        ("app", "status"),
    ),
    "http_requests_refused_total": ("Requests turned away by a process that drains.", ("app",)),
    "alert_notices_total": ("Tries to tell a notice, by channel and outcome.", ("channel", "outcome")),
    "regrow_recoveries_total": (
        "Attempts to recover a service and tests that passed, by outcome.",
        ("service", "outcome"),
    ),
    "drains_total": ("Processes that stopped in order, by how it ended.", ("process", "outcome")),
    "degradation_events_total": ("Changes of the level, by the levels before and after.", ("from", "to")),
    "degradation_refused_total": ("Calls and requests that the level did not permit.", ("feature",)),
    "requests_shed_total": ("Requests turned away because an app had too much to do.", ("priority",)),
    "fallback_usage_total": ("Answers that a fallback gave, by service.", ("service",)),
    "temp_files_removed_total": ("Temp files that the clean-up removed, by why.", ("root", "reason")),
    "temp_files_freed_bytes_total": ("Bytes that the clean-up freed.", ("root",)),
    "retry_attempts_total": ("Retries, by the function that was tried again.", ("function",)),
    "retry_exhausted_total": ("Calls that were tried again, and given up.", ("function",)),
    "retry_budget_refused_total": ("Retries that a budget did not pay for.", ("function",)),
}
"""The counts that services keep in Redis: help and label names of each that is served."""


Counts = Mapping[str, Mapping[Labels, int]]


def of_counters(counted: Counts) -> Iterator[Metric]:
    """The counts of Redis, and the histograms that are counted there by bucket."""
    for name, (told, labels) in COUNTERS.items():
        family = CounterMetricFamily(name, told, labels=list(labels))
        for pairs, value in counted.get(name, {}).items():
            given = dict(pairs)
            if set(given) == set(labels):
                family.add_metric([given[label] for label in labels], value)
        yield family
    yield _of_delays(counted)
    yield _of_durations(
        counted,
        "circuit_breaker_response_time",
        "Seconds that guarded calls took, failed ones too.",
        "breaker",
        calls.BUCKETS,
        1e6,
    )
    yield _of_durations(
        counted,
        "http_request_duration_seconds",
        "Seconds that requests of apps were in hand.",
        "app",
        requests.BUCKETS,
        1e6,
    )
    yield _of_durations(
        counted,
        "dlq_processing_duration_seconds",
        "From the dispatch of a redriven letter to its outcome.",
        "service",
        redrives.BUCKETS,
        1e3,
    )


def _of_delays(counted: Counts) -> Metric:
    family = HistogramMetricFamily("retry_delay_seconds", "Pauses before retries.")
    found = {
        dict(pairs).get("le"): value for pairs, value in counted.get("retry_delay_seconds_bucket", {}).items()
    }
    total = sum(counted.get("retry_delay_milliseconds", {}).values()) / 1000
    family.add_metric([], _cumulated(found, retries.BUCKETS), total)
    return family


def _of_durations(
    counted: Counts, name: str, told: str, label: str, buckets: Sequence[float], parts: float
) -> Metric:
    """A histogram by one label. Its sum was counted in whole ``parts`` of a second, under another name."""
    family = HistogramMetricFamily(name, told, labels=[label])
    unit = "microseconds" if parts == 1e6 else "milliseconds"
    found: dict[str, dict[str | None, int]] = {}
    for pairs, value in counted.get(f"{name}_bucket", {}).items():
        labels = dict(pairs)
        found.setdefault(labels.get(label, ""), {})[labels.get("le")] = value
    for pairs, total in counted.get(f"{name.removesuffix('_seconds')}_{unit}", {}).items():
        key = dict(pairs).get(label, "")
        family.add_metric([key], _cumulated(found.get(key, {}), buckets), total / parts)
    return family


def _cumulated(found: Mapping[str | None, int], buckets: Sequence[float]) -> list[tuple[str, float]]:
    """What was counted between two ends, as Prometheus wants it: up to each end."""
    sums = accumulate(found.get(str(end), 0) for end in buckets)
    ends = ["+Inf" if end == math.inf else str(end) for end in buckets]
    return list(zip(ends, map(float, sums), strict=True))
