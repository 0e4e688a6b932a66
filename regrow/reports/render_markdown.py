"""A report as Markdown, for chats, wikis and terminals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from regrow.reports import wording

# What means something inside a line. Text never begins a line here, so #, -, + and 1. mean nothing, and an
# underscore between letters is one: names stay readable where Markdown is read as it is.
_SPECIAL = re.compile(r"([\\`*\[\]<>|~&@$]|(?<!\w)_|_(?!\w)|(?<=www)\.|:(?=//))", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def markdown(report: Mapping[str, Any], digest: str) -> str:
    """The whole report; ``digest`` is that of its JSON."""
    period = report["period"]
    return "\n".join(
        [
            f"# Reliability report, {report['kind']}",
            "",
            f"**{escaped(report['headline'])}**",
            "",
            f"From {period['start']} to {period['end']}, made {wording.shown_time(report['now']['at'])}.",
            *_checks(report),
            *_breakers(report),
            *_levels(report),
            *_recoveries(report),
            *_letters(report),
            *_jobs(report),
            *_resources(report),
            *_clean_up(report),
            "",
            f"SHA-256 of the JSON: `{digest}`",
            "",
        ]
    )


def escaped(text: object) -> str:
    """Text as it is, whatever is in it: no markup, no link, no new line or cell."""
    return _SPECIAL.sub(r"\\\1", _CONTROL.sub(" ", str(text)))


def _checks(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            escaped(check["name"]),
            escaped(check["words"]),
            wording.percent(check["confidence_low"]),
            " to ".join(wording.percent(bound) for bound in check["bounds"]),
            wording.percent(check["coverage"]),
            wording.downtime_words(check),
            wording.target_words(check["target_met"]),
            "".join(wording.SIGNS[state] for state in check["strip"]["states"]),
        )
        for check in report["checks"]
    ]
    titles = ("check", "uptime", "at least (95%)", "bounds", "coverage", "downtime", "target", "the period")
    return [
        *_section("Uptime", titles, rows, "No check was declared, and none has reported."),
        "",
        f"{wording.LEGEND}. Target {report['target'] * 100:g}%.",
    ]


def _breakers(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            escaped(breaker["name"]),
            str(breaker["openings"]),
            wording.lasted(breaker["open_seconds"]),
            escaped(breaker["state_at_end"]),
            wording.history_words(breaker["gaps"]),
        )
        for breaker in report["breakers"]
    ]
    titles = ("breaker", "openings", "time open", "state at the end", "history")
    return _section("Circuit breakers", titles, rows, "No breaker has changed its state so far.")


def _levels(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (escaped(level), wording.lasted(seconds), wording.percent(seconds / report["period"]["seconds"]))
        for level, seconds in report["degradation"].items()
        if seconds
    ]
    return _section("Degradation", ("level", "time", "share"), rows, "No level was told in the period.")


def _recoveries(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            escaped(service["name"]),
            escaped(wording.job_words(service["outcomes"])),
            wording.percent(service["success_ratio"]),
            str(service["tests_passed"]),
            str(service["came_back"]),
            wording.lasted(service["median_seconds_down"]),
            wording.lasted(service["longest_seconds_down"]),
            wording.lock_words(service["locked"]),
        )
        for service in report["recoveries"]
    ]
    return _section("Recovery", wording.RECOVERY_TITLES, rows, "Nothing had to be recovered.")


def _letters(report: Mapping[str, Any]) -> list[str]:
    flow, now = report["dead_letters"], report["now"]
    rows = [(escaped(name), str(count)) for name, count in flow.items()]
    states = ", ".join(f"{escaped(state)} {count}" for state, count in now["dead_letters"].items() if count)
    oldest = wording.shown_time(now["oldest_unsettled"])
    return [
        *_section("Dead letters", ("in the period", "letters"), rows, ""),
        "",
        f"When the report was made: {states or 'none kept'}. Oldest unsettled: {oldest}.",
    ]


def _jobs(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            escaped(job["name"]),
            escaped(wording.job_words(job["outcomes"])),
            wording.lasted(job["longest_seconds"]),
            wording.shown_time(job["last_at"]),
            escaped(job["last_error"] or ""),
        )
        for job in report["jobs"]
    ]
    return _section("Jobs", ("job", "runs", "longest", "last run", "last error"), rows, "")


def _resources(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            escaped(resource["name"]),
            f"{resource['last_percent']:g}%",
            f"{resource['max_percent']:g}%",
            escaped(resource["message"]),
        )
        for resource in report["resources"]
    ]
    titles = ("resource", "last", "largest", "last result")
    return _section("Resources", titles, rows, "Nothing was measured in the period.")


def _clean_up(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (escaped(entry["job"]), escaped(wording.totals_words(entry["totals"])))
        for entry in report["clean_up"]
    ]
    return _section("Clean-up", ("job", "what it did"), rows, "")


def _section(title: str, titles: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> list[str]:
    rows = list(rows)
    if not rows:
        return ["", f"## {title}", "", empty]
    return [
        "",
        f"## {title}",
        "",
        _row(titles),
        _row(["---"] * len(titles)),
        *(_row(row) for row in rows),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
