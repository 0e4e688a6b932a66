"""How objectives are told: as JSON values, and in words. Pure.

Shares are 0 to 1, rounded down, so that one just below 1 never reads as 1; durations are seconds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from regrow.slo import ledger
from regrow.slo.backtest import Backtest
from regrow.slo.burn import SEVERITIES, Burning, Remark, rate_words, span_words
from regrow.slo.ledger import Ledger
from regrow.slo.objectives import Objective, Standing


def standing_json(one: Standing) -> dict[str, Any]:
    """How an objective stands. ``account`` and ``budget`` are of availability, ``measured`` of requests."""
    told: dict[str, Any] = {
        **objective_json(one.objective),
        "at": one.at,
        "met": one.met,
        "why": one.why or None,
        "promise": promise_words(one.objective),
    }
    if one.account is not None and one.budget is not None:
        told["account"] = account_json(one.account)
        told["budget"] = {
            "total_seconds": one.budget.total.total_seconds(),
            "spent_seconds": one.budget.spent.total_seconds(),
            "remaining": floored(one.budget.remaining),
            "exhausted_in_seconds": _seconds(one.exhausted_in),
        }
        told["burn"] = {
            span_words(length): None if rate is None else round(rate, 6)
            for length, rate in sorted(one.burns.items())
        }
    if one.measured is not None:
        told["measured"] = {
            "value": one.measured.value,
            "promised": one.measured.promised,
            "coverage": floored(one.measured.coverage),
            "requests": one.measured.requests,
        }
    return told


def objective_json(one: Objective) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "target": one.target,
        "window_seconds": one.window.total_seconds(),
        "severity": one.severity,
        "checks": list(one.checks),
        "service": one.service or None,
        "limit": one.limit,
        "exclude_maintenance": one.exclude_maintenance,
        "declared": one.declared,
    }


def account_json(found: Ledger) -> dict[str, Any]:
    """Where the time went; ``confidence_low``: the least that the uptime is, with 95 % confidence."""
    low, high = found.bounds
    return {
        "uptime": floored(found.uptime),
        "words": ledger.uptime_words(found),
        "bounds": [floored(low), floored(high)],
        "confidence_low": floored(ledger.confidence_low(found)),
        "coverage": floored(found.coverage),
        "sufficient": found.sufficient,
        "seconds": {
            name: getattr(found, name).total_seconds()
            for name in ("up", "degraded", "down", "unknown", "maintenance", "paused")
        },
        "probes": found.probes,
        "failures": found.failures,
    }


def remark_json(remark: Remark) -> dict[str, Any]:
    return {name: getattr(remark, name) for name in ("objective", "level", "rule", "message")}


def burning_json(one: Burning) -> dict[str, Any]:
    """The evidence of a rule that fires; bad time, or bad requests."""
    return {
        "objective": one.objective,
        "severity": one.severity,
        "rule": one.rule.severity,
        "long_seconds": one.rule.long.total_seconds(),
        "short_seconds": one.rule.short.total_seconds(),
        "factor": one.factor,
        "long_burn": one.long_burn,
        "short_burn": one.short_burn,
        "bad_seconds": one.bad.total_seconds() if isinstance(one.bad, timedelta) else None,
        "bad_requests": None if isinstance(one.bad, timedelta) else one.bad,
        "message": one.message,
    }


def backtest_json(found: Backtest) -> dict[str, Any]:
    return {
        "objective": found.objective,
        "start": found.start,
        "end": found.end,
        "pages": found.pages,
        "fired": {severity: found.count(severity) for severity in SEVERITIES},
        "times": [{"severity": f.severity, "began": f.began, "ended": f.ended} for f in found.fired],
    }


def promise_words(one: Objective) -> str:
    """``99.9% up over 30 d``, ``95% of requests within 0.5 s over 1 d``, and so on."""
    over = f"over {span_words(one.window)}"
    share = f"{one.target * 100:.10g}%"
    match one.kind:
        case "availability":
            return f"{share} up {over}"
        case "latency":
            return f"{share} of requests within {one.limit:g} s {over}"
        case "error_rate":
            return f"{share} of requests succeed {over}"
    return f"{one.limit:g} requests/s at peak hours {over}"


def value_words(one: Standing) -> str:
    """What was measured: ``99.98%``, ``0.43 s``, ``1210 requests/s``; "unknown" when nothing was."""
    if one.account is not None:
        return ledger.uptime_words(one.account)
    if one.measured is None or one.measured.value is None:
        return "unknown"
    value = one.measured.value
    match one.objective.kind:
        case "latency":
            return f"{value:.3g} s"
        case "error_rate":
            return f"{100 * (1 - value):.6g}%"
    return f"{value:.4g} requests/s"


def remaining_words(one: Standing) -> str:
    """``83% left``; at most so much while too little is known; "-" where nothing is, or without a budget."""
    if one.account is None or one.budget is None or one.budget.remaining is None:
        return "-"
    left = one.budget.remaining
    if left < 0:
        return f"overspent by {-left:,.0%}"
    return f"{left:.0%} left" if one.account.sufficient else f"at most {left:.0%} left"


def burn_words(one: Standing) -> str:
    """The burn of the last hour and of the last day."""
    told = [(length, one.burns.get(length)) for length in (timedelta(hours=1), timedelta(days=1))]
    return (
        ", ".join(
            f"{rate_words(rate)} over {span_words(length)}" for length, rate in told if rate is not None
        )
        or "-"
    )


def forecast_words(one: Standing) -> str:
    """How long the budget lasts as it is spent now."""
    if one.account is None or one.budget is None or one.budget.remaining is None:
        return "-"
    if one.exhausted_in is None:
        return "lasts" if one.account.sufficient else "-"
    seconds = one.exhausted_in.total_seconds()
    if seconds <= 0:
        return "used up"
    return f"{seconds / 86_400:.1f} d" if seconds >= 86_400 else f"{seconds / 3_600:.1f} h"


def floored(value: float | None) -> float | None:
    return None if value is None else int(value * 1_000_000) / 1_000_000


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()
