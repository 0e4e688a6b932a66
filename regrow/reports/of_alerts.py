"""The alerts of a period in a report: as JSON values, as a section, as words of the headline. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from regrow.alerts.periods import Lasted
from regrow.reports import wording
from regrow.reports.measures_told import iso
from regrow.reports.tables import Number, Section

_COUNTED = ("lasted", "fired", "firing", "acknowledged", "escalated", "silenced", "not_delivered")


def told(found: Sequence[Lasted] | None, since: datetime) -> dict[str, Any]:
    """``lasted`` and ``fired`` in the period, still ``firing`` at its end; null when nothing is known."""
    if found is None:
        return {**dict.fromkeys(_COUNTED), "listed": []}
    return {
        "lasted": len(found),
        "fired": sum(one.fired_at >= since for one in found),
        "firing": sum(one.resolved_at is None for one in found),
        "acknowledged": sum(one.acknowledged is not None for one in found),
        "escalated": sum(bool(one.escalations) for one in found),
        "silenced": sum(one.silenced for one in found),
        "not_delivered": sum(bool(one.undelivered) for one in found),
        "listed": [_one(one) for one in found],
    }


def _one(one: Lasted) -> dict[str, Any]:
    return {
        "id": one.id,
        "rule": one.rule,
        "subject": one.subject,
        "severity": one.severity,
        "fired_at": iso(one.fired_at),
        "acknowledged_at": iso(one.acknowledged.at) if one.acknowledged else None,
        "acknowledged_by": one.acknowledged.by if one.acknowledged else None,
        "resolved_at": iso(one.resolved_at),
        "escalations": one.escalations,
        "silenced": one.silenced,
        "not_delivered": list(one.undelivered),
    }


def section(report: Mapping[str, Any]) -> Section:
    """A row for each alert."""
    alerts = report["alerts"]
    return Section(
        "Alerts",
        (
            "alert",
            "severity",
            "fired",
            "acknowledged after",
            "escalated",
            "silenced",
            "not delivered",
            "over after",
        ),
        tuple(
            (
                f"{one['rule'].replace('_', ' ')}: {one['subject']}",
                one["severity"],
                wording.shown_time(one["fired_at"]),
                Number(wording.between(one["fired_at"], one["acknowledged_at"], "not yet")),
                Number(_steps(one["escalations"])),
                "yes" if one["silenced"] else "no",
                f"✕ {', '.join(one['not_delivered'])}" if one["not_delivered"] else "",
                Number(wording.between(one["fired_at"], one["resolved_at"], "firing")),
            )
            for one in alerts["listed"]
        ),
        ""
        if alerts["lasted"] is None
        else "As they were known at the end of the period. Not delivered: refused "
        "by a channel in the period, or waiting at its end for longer than a minute.",
        "? Nobody looked with the rules until the end of the period."
        if alerts["lasted"] is None
        else "None fired.",
    )


def _steps(number: int) -> str:
    return "no" if not number else "1 step" if number == 1 else f"{number} steps"


def headline(report: Mapping[str, Any]) -> list[str]:
    """What of them needs attention, in words."""
    alerts = report["alerts"]
    if alerts["lasted"] is None:
        return ["alerts unknown"]
    found = []
    if fired := alerts["fired"]:
        found.append("1 alert fired" if fired == 1 else f"{fired} alerts fired")
    if away := alerts["not_delivered"]:
        found.append(f"{away} not delivered")
    return found
