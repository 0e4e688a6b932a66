"""A report as sections of tables, which Markdown and HTML print alike. Pure.

Cells are values that say what they are: text of others, numbers on the right, strips of signs. Whatever is in
one printed form is in the other, because both are made from these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regrow.reports import of_alerts, of_counts, wording
from regrow.reports.tables import Cell, Number, Section, Strip
from regrow.reports.wording import lasted, percent


def sections(report: Mapping[str, Any]) -> list[Section]:
    """All that the report tells; what it leaves out is no section."""
    told = {
        "checks": _checks,
        "objectives": _objectives,
        "burn_down": _burn_down,
        "incidents": _incidents,
        "mean_times": _mean_times,
        "alerts": of_alerts.section,
        "requests": _requests,
        "latency": _latency,
        "breakers": _breakers,
        "retries": of_counts.retries_section,
        "fallbacks": of_counts.fallbacks_section,
        "degradation": _levels,
        "recoveries": _recoveries,
        "dead_letters": _letters,
        "jobs": _jobs,
        "resources": _resources,
        "forecast": _forecast,
        "clean_up": _clean_up,
    }
    found = [build(report) for name, build in told.items() if name not in report["left_out"]]
    if report["left_out"]:
        found.append(_left_out(report))
    return found


def _checks(report: Mapping[str, Any]) -> Section:
    return Section(
        "Uptime",
        ("check", "uptime", "at least (95%)", "bounds", "coverage", "downtime", "target", "the period"),
        tuple(
            (
                check["name"],
                check["words"],
                Number(percent(check["confidence_low"])),
                Number(" to ".join(percent(bound) for bound in check["bounds"])),
                Number(percent(check["coverage"])),
                Number(wording.downtime_words(check)),
                wording.target_words(check["target_met"]),
                Strip(
                    check["strip"]["states"],
                    wording.strip_words(check["strip"]["states"], report["period"]["parts"]),
                ),
            )
            for check in report["checks"]
        ),
        f"{wording.LEGEND}. Target {report['target'] * 100:g}%. Uptime is up time over known time; the "
        "bounds say what it was if the unknown time was all down or all up.",
        "No check was declared, and none has reported.",
        "uptime",
    )


def _objectives(report: Mapping[str, Any]) -> Section:
    shown = [one for one in report["objectives"] if worth_telling(one)]
    hidden = len(report["objectives"]) - len(shown)
    caption = (
        "As it stood at the end of the period, each over its own window. A burn of 1 spends the budget "
        "exactly within the window."
    )
    if hidden:
        caption += f" {hidden} of single checks, with nothing of their budgets spent, are not shown."
    return Section(
        "Objectives",
        (
            "objective",
            "promised",
            "stands at",
            "coverage",
            "result",
            "budget left",
            "burn 1 h, 1 day",
            "lasts",
        ),
        tuple(_objective(one) for one in shown),
        caption,
        "Nothing of any budget is spent." if hidden else "Nothing is promised.",
    )


def _burn_down(report: Mapping[str, Any]) -> Section:
    told = [one for one in report["objectives"] if one["budget_left"]]
    return Section(
        "Error budgets over time",
        ("budget of", *(f"left after {part}" for part in ("a quarter", "half", "three quarters")), "left"),
        tuple(
            (
                one["name"],
                *(Number(wording.left(left)) for left in _quarters(one["budget_left"])),
            )
            for one in told
        ),
        "Of the window that ends with the period; of the objectives with the least left.",
        "Nothing of any budget is spent.",
        "budgets",
    )


def _quarters(left: Sequence[float]) -> list[float]:
    return [left[(len(left) - 1) * quarters // 4] for quarters in range(1, 5)]


def worth_telling(one: Mapping[str, Any]) -> bool:
    """Whether somebody declared it, or part of its budget is spent."""
    budget = one["budget"]
    return bool(one["declared"] or one["met"] is False or (budget and budget["spent_seconds"]))


def _objective(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    budget, burn = one["budget"], one["burn"]
    rates = ", ".join(wording.figure(burn.get(length)) for length in ("1h", "24h")) if burn else "-"
    return (
        one["name"],
        f"{wording.promised(one)} over {lasted(one['window_seconds'])}",
        Number(wording.measured(one)),
        Number(percent(one["coverage"])),
        wording.target_words(one["met"]) + (f": {one['why']}" if one["why"] else ""),
        Number(wording.left(budget["remaining"]) if budget else "-"),
        Number(rates),
        Number(lasted(one["exhausted_in_seconds"])),
    )


def _incidents(report: Mapping[str, Any]) -> Section:
    return Section(
        "Incidents",
        (
            "incident",
            "severity",
            "began",
            "detected after",
            "acknowledged after",
            "resolved after",
            "root cause",
        ),
        tuple(
            (
                one["title"],
                one["severity"],
                wording.shown_time(one["began_at"]),
                Number(wording.between(one["began_at"], one["detected_at"])),
                Number(wording.between(one["detected_at"], one["acknowledged_at"], "not yet")),
                Number(wording.between(one["began_at"], one["resolved_at"], "open")),
                one["root_cause"] or "",
            )
            for one in report["incidents"]["listed"]
        ),
        "As they were known at the end of the period. Detected and resolved: how long after it began; "
        "acknowledged: how long after it was detected.",
        "None lasted in the period.",
    )


def _mean_times(report: Mapping[str, Any]) -> Section:
    told = report["incidents"]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            Number(str(spread["n"])),
            Number(lasted(spread["mean"])),
            Number(lasted(spread["median"])),
            Number(lasted(spread["p90"])),
            ", ".join(spread["not_yet"]),
        )
        for key, name in wording.MEAN_TIMES.items()
        if (spread := told["times"][key])["n"] or spread["not_yet"]
    ]
    between = told["mtbf"]
    if between["n"]:
        most = "no limit" if between["high"] is None else lasted(between["high"])
        interval = f"95% sure: {lasted(between['low'])} to {most}"
        rows.append(
            (
                "between failures (MTBF)",
                Number(str(between["n"])),
                Number(lasted(between["mean"])),
                Number("-"),
                Number("-"),
                interval,
            )
        )
    return Section(
        "Mean times",
        ("time", "n", "mean", "median", "p90", "not yet, or interval"),
        tuple(rows),
        "MTBF is the time that checks were up, by incident. The monitor's own silences do not count.",
        "Without an incident there are none.",
    )


def _requests(report: Mapping[str, Any]) -> Section:
    return Section(
        "Requests",
        (
            "service",
            "requests",
            "failed",
            "failure rate",
            "p50",
            "p95",
            "p99",
            "a second",
            "busiest hour",
            "coverage",
        ),
        tuple(
            (
                one["service"],
                Number(str(one["count"])),
                Number(str(one["failed"])),
                Number(wording.rate(one["failure_rate"])),
                *(Number(lasted(one["latency"][name])) for name in ("p50", "p95", "p99")),
                Number(wording.figure(one["throughput"])),
                _busiest(one["busiest"]),
                Number(percent(one["coverage"])),
            )
            for one in report["requests"]
        ),
        "Coverage is the share of minutes that the service told of; what it did not tell of is unknown.",
        "No application told of requests.",
    )


def _busiest(hours: Sequence[Mapping[str, Any]]) -> str:
    if not hours:
        return "-"
    return f"{wording.figure(hours[0]['throughput'])} from {wording.shown_time(hours[0]['at'])}"


def _latency(report: Mapping[str, Any]) -> Section:
    return Section(
        "Latency of checks",
        ("check", "probes", "p50", "p95", "p99"),
        tuple(
            (
                one["name"],
                Number(str(one["latency"]["count"])),
                *(Number(lasted(one["latency"][name])) for name in ("p50", "p95", "p99")),
            )
            for one in report["checks"]
            if one["latency"]["count"]
        ),
        "Of probes that found the check up, from merged buckets 4% wide.",
        "No probe found anything up.",
        "latency",
    )


def _breakers(report: Mapping[str, Any]) -> Section:
    return Section(
        "Circuit breakers",
        ("breaker", "openings", "time open", "state at the end", "history"),
        tuple(
            (
                one["name"],
                Number(str(one["openings"])),
                Number(lasted(one["open_seconds"])),
                one["state_at_end"],
                wording.history_words(one["gaps"]),
            )
            for one in report["breakers"]
        ),
        empty="No breaker has changed its state so far.",
    )


def _levels(report: Mapping[str, Any]) -> Section:
    return Section(
        "Degradation",
        ("level", "time", "share"),
        tuple(
            (level, Number(lasted(seconds)), Number(percent(seconds / report["period"]["seconds"])))
            for level, seconds in report["degradation"].items()
            if seconds
        ),
        empty="No level was told in the period.",
    )


def _recoveries(report: Mapping[str, Any]) -> Section:
    return Section(
        "Recovery",
        wording.RECOVERY_TITLES,
        tuple(
            (
                one["name"],
                wording.job_words(one["outcomes"]),
                Number(percent(one["success_ratio"])),
                Number(str(one["tests_passed"])),
                Number(str(one["came_back"])),
                Number(lasted(one["median_seconds_down"])),
                Number(lasted(one["longest_seconds_down"])),
                wording.lock_words(one["locked"]),
            )
            for one in report["recoveries"]
        ),
        empty="Nothing had to be recovered.",
    )


def _letters(report: Mapping[str, Any]) -> Section:
    now = report["now"]
    states = ", ".join(f"{state} {count}" for state, count in now["dead_letters"].items() if count)
    oldest = wording.shown_time(now["oldest_unsettled"])
    return Section(
        "Dead letters",
        ("in the period", "letters"),
        tuple((name, Number(str(count))) for name, count in report["dead_letters"].items()),
        f"When the report was made: {states or 'none kept'}. Oldest unsettled: {oldest}.",
    )


def _jobs(report: Mapping[str, Any]) -> Section:
    return Section(
        "Jobs",
        ("job", "runs", "longest", "last run", "last error"),
        tuple(
            (
                one["name"],
                wording.job_words(one["outcomes"]),
                Number(lasted(one["longest_seconds"])),
                wording.shown_time(one["last_at"]),
                one["last_error"] or "",
            )
            for one in report["jobs"]
        ),
    )


def _resources(report: Mapping[str, Any]) -> Section:
    return Section(
        "Resources",
        ("resource", "last", "largest", "last result"),
        tuple(
            (
                one["name"],
                Number(f"{one['last_percent']:g}%"),
                Number(f"{one['max_percent']:g}%"),
                one["message"],
            )
            for one in report["resources"]
        ),
        empty="Nothing was measured in the period.",
    )


def _forecast(report: Mapping[str, Any]) -> Section:
    found = report["now"]["forecast"]
    trends = found["trends"] if found else []
    return Section(
        "Trends",
        ("figure", "of", "now", "a day", "full in", "what is known"),
        tuple(
            (
                one["kind"].replace("_", " "),
                one["subject"],
                Number(f"{wording.figure(one['now'])} {one['unit']}"),
                Number(wording.figure(one["per_day"])),
                Number(lasted(one["full_in"])),
                one["why"],
            )
            for one in trends
        ),
        f"As found {wording.shown_time(found['at'])}, of {found['looked_at']} figures." if found else "",
        "Nothing is known to go anywhere." if found else "? Nobody looked within the hour before the report.",
    )


def _clean_up(report: Mapping[str, Any]) -> Section:
    return Section(
        "Clean-up",
        ("job", "what it did"),
        tuple((one["job"], wording.totals_words(one["totals"])) for one in report["clean_up"]),
    )


def _left_out(report: Mapping[str, Any]) -> Section:
    return Section(
        "Not told",
        ("section", "why"),
        tuple((name.replace("_", "-"), why) for name, why in report["left_out"].items()),
    )
