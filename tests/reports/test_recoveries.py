"""What recovery did, as reports tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from regrow.database.tables import recoveries, recovery_events
from regrow.engine import Engine
from regrow.reports import model
from regrow.reports.render_markdown import markdown
from regrow.reports.sources import read_facts, read_snapshot


def test_recoveries_of_the_period_are_told_with_how_long_services_were_down(engine: Engine) -> None:
    hour = datetime(2026, 3, 1, 11, tzinfo=UTC)
    row = {
        "opening": "breaker:bank:1", "attempt": 1, "kind": "command", "trigger": "breaker", "actor": None,
        "reason": "", "owner": "here", "failed_at": hour, "ended_at": hour, "message": "", "evidence": {},
    }  # fmt: skip
    attempts = [("failed", 1), ("failed", 3), ("succeeded", 8), ("failed", 61)]
    event = {"subject": "bank", "severity": "high", "message": ""}
    with engine.database.transaction() as connection:
        for number, (outcome, minute) in enumerate(attempts):
            at = hour + timedelta(minutes=minute)
            values = {**row, "id": str(number), "service": "bank", "outcome": outcome, "started_at": at}
            connection.execute(sa.insert(recoveries).values(values))
        values = {**row, "id": "t", "service": "mail", "kind": "test", "outcome": "succeeded"}
        connection.execute(
            sa.insert(recoveries).values({**values, "started_at": hour + timedelta(minutes=5)})
        )
        for kind, data in (("locked", {}), ("recovered", {"seconds": 480.0}), ("early_warning", {})):
            at = hour + timedelta(minutes=9)
            connection.execute(
                sa.insert(recovery_events).values({**event, "at": at, "event": kind, "data": data})
            )
    facts = read_facts(engine, hour, hour + timedelta(hours=1), (hour, hour + timedelta(hours=1)), {})
    report = model.build("hourly", facts, read_snapshot(engine), target=0.999)
    assert report["recoveries"] == [
        {
            "name": "bank",
            "attempts": 3,
            "outcomes": {"failed": 2, "succeeded": 1},
            "success_ratio": 0.333333,
            "tests_passed": 0,
            "came_back": 1,
            "median_seconds_down": 480.0,
            "longest_seconds_down": 480.0,
            "locked": 1,
        },
        {
            "name": "mail",
            "attempts": 0,
            "outcomes": {},
            "success_ratio": None,
            "tests_passed": 1,
            "came_back": 0,
            "median_seconds_down": None,
            "longest_seconds_down": None,
            "locked": 0,
        },
    ]
    assert "1 service left to a person" in report["headline"]
    text = markdown(report, "")
    assert "| bank | 2 failed, 1 succeeded | 33.3% | 0 | 1 | 8 min | 8 min | a person was called |" in text
