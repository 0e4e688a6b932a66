"""Retries and fallbacks of a period in a report: as JSON values and as sections. Pure.

A count that no app has ever told of is null: it may be that nobody retries, or that nobody tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.counted import Counted
from regrow.reports import wording
from regrow.reports.measures_told import share
from regrow.reports.tables import Number, Section

_RETRIES = {
    "attempts": "retry_attempts_total",
    "exhausted": "retry_exhausted_total",
    "budget_refused": "retry_budget_refused_total",
}
_FALLBACKS = "fallback_usage_total"


def retries(counted: Counted) -> dict[str, Any]:
    """Who tells of one of the three tells of all, so that none of the others is none."""
    found = {key: counted.amounts.get(name) for key, name in _RETRIES.items()}
    known = counted.coverage > 0 and any(one is not None for one in found.values())
    told = {key: one or {} for key, one in found.items()} if known else {}
    names = sorted({name for one in told.values() for name, amount in one.items() if amount})
    return {
        "coverage": share(counted.coverage),
        **{key: sum(told[key].values()) if known else None for key in _RETRIES},
        "functions": [{"name": name, **{key: told[key].get(name, 0) for key in _RETRIES}} for name in names],
    }


def fallbacks(counted: Counted) -> dict[str, Any]:
    """``used``: answers that a fallback gave."""
    found = counted.amounts.get(_FALLBACKS) if counted.coverage > 0 else None
    return {
        "coverage": share(counted.coverage),
        "used": None if found is None else sum(found.values()),
        "services": [{"service": name, "used": used} for name, used in sorted((found or {}).items()) if used],
    }


def retries_section(report: Mapping[str, Any]) -> Section:
    """A row for each function that was tried again."""
    told = report["retries"]
    return Section(
        "Retries",
        ("function", "retries", "given up after retries", "not paid for by a budget"),
        tuple((one["name"], *(Number(str(one[key])) for key in _RETRIES)) for one in told["functions"]),
        _coverage(told, "attempts"),
        _empty(told, "attempts", "Nothing was tried again."),
    )


def fallbacks_section(report: Mapping[str, Any]) -> Section:
    """A row for each service that a fallback answered for."""
    told = report["fallbacks"]
    return Section(
        "Fallbacks",
        ("service", "answers of a fallback"),
        tuple((one["service"], Number(str(one["used"]))) for one in told["services"]),
        _coverage(told, "used"),
        _empty(told, "used", "No fallback answered."),
    )


def _coverage(told: Mapping[str, Any], key: str) -> str:
    if told[key] is None:
        return ""
    return f"Of the {wording.percent(told['coverage'])} of the period in which somebody looked."


def _empty(told: Mapping[str, Any], key: str, none: str) -> str:
    if told[key] is not None:
        return none
    return "? No app has told of any." if told["coverage"] else "? Nobody looked at the counts in the period."
