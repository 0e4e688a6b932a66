"""Dashboards in Grafana's classic JSON model (schema 39), which any Grafana since 10 takes.

The data source is a variable; nothing is fetched from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regrow.monitoring.rules import DOWN, duration, failure_rate, uptime
from regrow.slo.burn import TABLE

SCHEMA = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_STATES = 'status=~"healthy|degraded|unhealthy|unknown"'


@dataclass(frozen=True)
class Panel:
    """One panel. ``queries``: PromQL by legend; ``width`` of 24; ``red_from``: where it is bad."""

    title: str
    kind: str
    queries: Mapping[str, str]
    unit: str = "short"
    width: int = 12
    height: int = 8
    description: str = ""
    red_from: float | None = None


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    panels: Sequence[Panel]
    variables: Mapping[str, str] = field(default_factory=dict)
    """Label values to choose from: the query, by the variable's name."""


def dashboards() -> list[Dashboard]:
    return [_overview(), _breakers(), _letters(), _objectives()]


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    return {
        f"regrow-{one.name}.json": json.dumps(_json(one), indent=2, ensure_ascii=False) + "\n"
        for one in dashboards()
    }


def _overview() -> Dashboard:
    return Dashboard(
        "overview",
        "Regrow: overview",
        [
            Panel("Verdict", "stat", {"{{status}}": "regrow_health_status == 1"}, width=4, height=5),
            Panel(
                "Checks that are not healthy", "stat",
                {"": 'sum(health_check_confirmed_status{status!="healthy"})'},
                width=4, height=5, red_from=1,
            ),
            Panel("Degradation level", "stat", {"": "system_degradation_level"},
                  width=4, height=5, red_from=2,
                  description="0 normal, 1 minor, 2 moderate, 3 severe, 4 critical."),
            Panel("Open breakers", "stat",
                  {"": 'sum(circuit_breaker_state{state="open"})'},
                  width=4, height=5, red_from=1),
            Panel("Letters that wait for a person", "stat", {"": 'dlq_messages_total{state="quarantined"}'},
                  width=4, height=5, red_from=1),
            Panel("Since the monitor last ran", "stat",
                  {"": 'time() - regrow_job_last_run_timestamp_seconds{job="health_check_monitoring"}'},
                  "s", 4, 5, red_from=180),
            Panel("Checks", "state-timeline",
                  {"{{check}} {{status}}": f"health_check_status{{{_STATES}}} == 1"}, width=24, height=10),
            Panel("How long checks took", "timeseries", {"{{check}}": "health_check_duration_seconds"}, "s"),
            Panel("Requests", "timeseries",
                  {"{{app}}": "sum by (app) (rate(http_requests_total[5m]))"}, "reqps"),
            Panel("Requests that failed", "timeseries", {"{{app}}": failure_rate("", "5m")}, "percentunit",
                  red_from=0.01),
            Panel("95 of 100 requests are answered within", "timeseries",
                  {"{{app}}": "histogram_quantile(0.95, sum by (app, le) "
                              "(rate(http_request_duration_seconds_bucket[5m])))"}, "s", red_from=0.5),
            Panel("Full in", "timeseries", {"{{subject}}": "capacity_full_in_seconds"}, "s",
                  description="Disks and memory that fill up; without a line, no trend is known."),
            Panel("Jobs that did not succeed", "timeseries",
                  {"{{job}} {{outcome}}": 'increase(regrow_job_runs_total{outcome!="succeeded"}[1h])'}),
        ],
    )  # fmt: skip


def _breakers() -> Dashboard:
    one = 'breaker=~"$breaker"'
    calls = f"rate(circuit_breaker_requests_total{{{one}}}[5m])"
    failures = f"rate(circuit_breaker_failures_total{{{one}}}[5m])"
    seconds = f"rate(circuit_breaker_response_time_bucket{{{one}}}[5m])"
    return Dashboard(
        "breakers",
        "Regrow: circuit breakers",
        [
            Panel("State", "state-timeline",
                  {"{{breaker}} {{state}}": f"circuit_breaker_state{{{one}}} == 1"}, width=24),
            Panel("Calls", "timeseries", {"{{breaker}}": calls}, "reqps"),
            Panel("Calls that failed", "timeseries", {"{{breaker}}": f"{failures} / {calls}"}, "percentunit",
                  red_from=0.5),
            Panel("Callers refused", "timeseries",
                  {"{{breaker}}": f"rate(circuit_breaker_rejected_total{{{one}}}[5m])"}, "reqps"),
            Panel("99 of 100 calls take at most", "timeseries",
                  {"{{breaker}}": f"histogram_quantile(0.99, sum by (breaker, le) ({seconds}))"}, "s"),
            Panel("Openings", "timeseries",
                  {"{{breaker}}": f'increase(circuit_breaker_transitions_total{{{one},to="open"}}[1h])'}),
            Panel("Fallbacks", "timeseries", {"{{service}}": "rate(fallback_usage_total[5m])"}, "reqps"),
            Panel("Retries", "timeseries", {"{{function}}": "rate(retry_attempts_total[5m])"}, "reqps"),
            Panel("Held by a person", "timeseries", {"{{breaker}}": f"circuit_breaker_overridden{{{one}}}"}),
        ],
        {"breaker": "label_values(circuit_breaker_state, breaker)"},
    )  # fmt: skip


def _letters() -> Dashboard:
    return Dashboard(
        "dead-letters",
        "Regrow: dead letters",
        [
            Panel("Kept", "timeseries", {"{{state}}": "dlq_messages_total"}),
            Panel("New", "timeseries", {"{{service}}": "increase(dlq_messages_added_total[1h])"}),
            Panel("The oldest that is not settled", "stat", {"": "dlq_oldest_message_age_seconds"}, "s", 8, 5,
                  red_from=86_400),
            Panel("Do the books balance?", "stat", {"{{service}}": "dlq_ledger_balance"}, width=8, height=5,
                  description="Anything but 0 is a letter lost or doubled.", red_from=1),
            Panel("Entries of spools that are missing", "stat", {"": "dlq_source_entries_missing"}, width=8,
                  height=5, red_from=1),
            Panel("Accepted and purged", "timeseries",
                  {"accepted {{service}}": "increase(dlq_ledger_accepted_total[1h])",
                   "purged {{service}}": "increase(dlq_ledger_purged_total[1h])"}),
            Panel("From sent home to settled, 95 of 100", "timeseries",
                  {"{{service}}": "histogram_quantile(0.95, sum by (service, le) "
                                  "(rate(dlq_processing_duration_seconds_bucket[1h])))"}, "s"),
        ],
    )  # fmt: skip


def _objectives() -> Dashboard:
    one = 'check=~"$check"'
    windows = sorted({window for rule in TABLE for window in (rule.long, rule.short)})
    down = {
        f"{{{{check}}}} over {duration(window)}": f"{DOWN}{duration(window)}{{{one}}}" for window in windows
    }
    kept = uptime(one, "by (check) ")
    return Dashboard(
        "objectives",
        "Regrow: service level objectives",
        [
            Panel("Uptime", "stat", {"{{objective}}": "regrow_slo_uptime"}, "percentunit", 12, 6,
                  description="Of known time over the objective's window, as Regrow reckons."),
            Panel("Error budget left", "stat", {"{{objective}}": "regrow_slo_budget_remaining"},
                  "percentunit", 12, 6, description="Below 0: overspent."),
            Panel("Burn", "timeseries", {"{{objective}} over {{over}}": "regrow_slo_burn_rate"},
                  description="Times too fast; 1 spends the budget by the end of the window."),
            Panel("Kept", "state-timeline", {"{{objective}}": "regrow_slo_met"},
                  description="1: kept, 0: missed; a gap: not known."),
            Panel("How much is known", "timeseries", {"{{objective}}": "regrow_slo_coverage"}, "percentunit"),
            Panel("Up in 30 days, as far as Prometheus has them", "timeseries", {"{{check}}": kept},
                  "percentunit"),
            Panel("Down, by the windows of the burn alerts", "timeseries", down, "percentunit", 24, 10),
            Panel("Unknown", "timeseries",
                  {"{{check}}": f'avg_over_time(health_check_status{{status="unknown",{one}}}[1h])'},
                  "percentunit", description="What nobody knows is neither up nor down.", red_from=0.1),
            Panel("In maintenance", "timeseries", {"{{check}}": f"health_check_in_maintenance{{{one}}}"}),
            Panel("Requests that failed in an hour", "timeseries",
                  {"{{app}}": "regrow:requests_failed:ratio1h"}, "percentunit", red_from=0.001),
            Panel("Requests a second", "timeseries", {"{{app}}": "regrow:requests:rate5m"}, "reqps"),
        ],
        {"check": "label_values(health_check_status, check)"},
    )  # fmt: skip


def _json(one: Dashboard) -> dict[str, Any]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": f"regrow-{one.name}",
        "title": one.title,
        "tags": ["regrow"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Regrow",
                "tags": ["regrow"],
                "asDropdown": True,
                "includeVars": False,
                "keepTime": True,
            }
        ],
        "templating": {
            "list": [source | {"hide": 0, "current": {}, "refresh": 1}]
            + [_variable(name, query) for name, query in one.variables.items()]
        },
        "panels": list(_placed(one.panels)),
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Side by side as long as they fit, then in a new row."""
    found, x, y, tallest = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > 24:
            x, y, tallest = 0, y + tallest, 0
        place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        found.append(_panel(panel, number, place))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return found


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        # A gap is not known, and no line is drawn over it.
        defaults["custom"] = {"spanNulls": False, "showPoints": "auto", "fillOpacity": 10}
        if panel.red_from is not None:
            defaults["custom"]["thresholdsStyle"] = {"mode": "dashed"}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": dict(place),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            {
                "refId": chr(ord("A") + place_of),
                "datasource": _SOURCE,
                "expr": expr,
                "legendFormat": legend or "__auto",
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for place_of, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "textMode": "auto",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single"},
    },
}
