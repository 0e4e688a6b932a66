"""The post-incident review: what happened, when, what it cost; as JSON values and as Markdown. Pure rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from regrow.incidents.model import Event, Incident, Member, name_of
from regrow.slo.budget import Cost


def review(
    incident: Incident,
    members: tuple[Member, ...],
    timeline: tuple[Event, ...],
    costs: Iterable[Cost],
    now: datetime,
) -> dict[str, Any]:
    """Everything as JSON values, but for times. ``costs``: what it took of each objective's budget."""
    end = incident.resolved_at or now
    return {
        "incident": {**asdict(incident), "began_at": incident.began_at},
        "durations": {
            "detect": (incident.detected_at - incident.began_at).total_seconds(),
            "acknowledge": _between(incident.detected_at, incident.acknowledged_at),
            "resolve": _between(incident.began_at, incident.resolved_at),
            "lasted": (end - incident.began_at).total_seconds(),
        },
        "impact": [impact(member, end) for member in members],
        "budgets": [budget(cost) for cost in costs],
        "timeline": [asdict(event) for event in timeline],
        "written_at": now,
    }


def impact(member: Member, now: datetime) -> dict[str, Any]:
    """How long a subject was down."""
    return {
        "subject": member.subject,
        "state": member.state,
        "cause": member.cause,
        "down_seconds": round(member.down_until(now), 3),
    }


def budget(cost: Cost) -> dict[str, Any]:
    """What it took of an objective, by the accounts of objectives; ``spent``: 1.0 is the whole budget."""
    return {
        "objective": cost.objective,
        "target": cost.target,
        "window_seconds": cost.window.total_seconds(),
        "down_seconds": round(cost.down.total_seconds(), 3),
        "budget_seconds": round(cost.budget.total_seconds(), 3),
        "spent": None if cost.share is None else round(cost.share, 6),
    }


def markdown(told: Mapping[str, Any]) -> str:
    """A page for people; texts of others are escaped."""
    one, durations = told["incident"], told["durations"]
    facts = [
        ("Status", one["status"] + (f", by {one['closed_by']}" if one["closed_by"] else "")),
        ("Severity", one["severity"]),
        ("Root", name_of(one["root"])),
        ("Began", _moment(one["began_at"])),
        ("Detected", f"{_moment(one['detected_at'])} (after {_span(durations['detect'])})"),
        ("Acknowledged", _after(one["acknowledged_at"], durations["acknowledge"], one["acknowledged_by"])),
        ("Resolved", _after(one["resolved_at"], durations["resolve"])),
        ("Went on after its end", f"{one['reopened']} times" if one["reopened"] else None),
        ("Root cause", one["root_cause"] or "not written down yet"),
    ]
    lines = [f"# Incident: {_escaped(one['title'])}", "", f"`{one['id']}`", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {_escaped(value)} |" for name, value in facts if value is not None]
    lines += ["", "## Impact", "", "| what | down for |", "|---|---|"]
    for part in told["impact"]:
        because = f" (because of {_escaped(name_of(part['cause']))})" if part["cause"] else ""
        what = f"{_escaped(part['subject'])}{because}"
        lines.append(f"| {what} | {_span(part['down_seconds'])} |")
    lines += ["", "| objective | target | counted as down | of its budget |", "|---|---|---|---|"]
    for part in told["budgets"]:
        spent = f"{part['spent']:.2%}" if part["spent"] is not None else "-"
        facts_ = (_escaped(part["objective"]), f"{part['target']:.4%}", _span(part["down_seconds"]), spent)
        lines.append(f"| {' | '.join(facts_)} |")
    lines += ["", "## Timeline (UTC)", "", "| when | what | of | said |", "|---|---|---|---|"]
    for event in told["timeline"]:
        said = " ".join(filter(None, (event["message"], f"({event['actor']})" if event["actor"] else "")))
        what = event["kind"].replace("_", " ")
        row = (_moment(event["at"]), what, _escaped(event["subject"]), _escaped(said))
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", f"Written {_moment(told['written_at'])} UTC.", ""]
    return "\n".join(lines)


def _between(since: datetime, until: datetime | None) -> float | None:
    return (until - since).total_seconds() if until is not None else None


def _after(at: datetime | None, seconds: float | None, who: str | None = None) -> str:
    if at is None or seconds is None:
        return "not yet"
    return f"{_moment(at)} (after {_span(seconds)}){f' by {who}' if who else ''}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


_SPECIAL = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_[]|#!"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


def _escaped(text: object) -> str:
    """Text of others on one line, which can be no markup."""
    return " ".join(str(text).split()).translate(_SPECIAL)
