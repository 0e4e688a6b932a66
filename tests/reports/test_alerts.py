"""The alerts of a period: as its end knew them, whenever the report is made; unknown is not none."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from regrow import audit
from regrow.alerts.model import Alert, Notice, NoticeKind, Silence
from regrow.alerts.rules import Decided
from regrow.alerts.store import Act, Alerts
from regrow.engine import Engine
from regrow.reports import service
from regrow.reports.sections import sections
from tests.reports import scene

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minute: float) -> datetime:
    """Minutes after eleven."""
    return NOON + (minute - 60) * MINUTE


class Clock:
    now = at(61)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(each_engine: Engine) -> Clock:
    each_engine.clock = clock = Clock()
    return clock


def alert(name: str, fired: float, **more: Any) -> Alert:
    begun = Alert(f"a-{name}", "incident", f"check:{name}", "high", "firing", "down", at(fired), at(fired),
                  "rule:incident", fired_at=at(fired))  # fmt: skip
    return replace(begun, **more)


def notice(one: Alert, minute: float, kind: NoticeKind, step: str, channel: str = "hook") -> Notice:
    return Notice(one.id, step, channel, kind, at(minute), {"severity": one.severity})


def look(engine: Engine, minute: float, alerts: list[Alert], *notices: Notice) -> None:
    decided = Decided({one.key: one for one in alerts}, list(notices))
    Alerts(engine.database).look(at(minute), lambda _before, _silences: decided)


def settle(engine: Engine, minute: float, status: str) -> None:
    store = Alerts(engine.database)
    taken = store.take("hook", at(minute), at(minute + 1), "me")
    assert taken is not None
    store.settle(taken, status, at(minute))


def told(engine: Engine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(service.generate(engine, until=NOON).json)["alerts"]
    return found


def test_alerts_are_told_as_the_end_of_the_period_knew_them(each_engine: Engine, clock: Clock) -> None:
    pay = alert("pay", 10)
    look(each_engine, 10, [pay], notice(pay, 10, "firing", "1:0"))
    settle(each_engine, 10, "sent")
    look(each_engine, 25, [pay], notice(pay, 25, "escalation", "1:1"))
    settle(each_engine, 26, "refused")
    each_engine.database.run(
        lambda c: audit.write(
            c, at=at(30), actor="ann", act="alert.acknowledged", subject=pay.id, reason="mine"
        )
    )
    quiet = alert("quiet", 40)
    silence = Silence("s-1", at(35), at(300), subject="check:q*", actor="bob", reason="known")
    Alerts(each_engine.database).silence(silence, Act("bob", "alert.silenced", "s-1", "known", at(35)))
    look(each_engine, 61, [pay, quiet], notice(pay, 61, "repeat", "1:again:1"))

    found = told(each_engine)

    counts = {name: value for name, value in found.items() if name != "listed"}
    assert counts == {"lasted": 2, "fired": 2, "firing": 2, "acknowledged": 1, "escalated": 1, "silenced": 1,
                      "not_delivered": 1}  # fmt: skip
    first, second = found["listed"]
    assert (first["subject"], first["silenced"], first["acknowledged_at"]) == ("check:quiet", True, None)
    assert second == {
        "id": "a-pay",
        "rule": "incident",
        "subject": "check:pay",
        "severity": "high",
        "fired_at": "2026-03-01T11:10:00Z",
        "acknowledged_at": "2026-03-01T11:30:00Z",
        "acknowledged_by": "ann",
        "resolved_at": None,
        "escalations": 1,
        "silenced": False,
        "not_delivered": ["hook"],
    }

    # What comes later changes nothing: over, come again on the same row, its acknowledgement timed out.
    again = replace(pay, severity="critical", since=at(75), fired_at=at(75), episode=2)
    look(each_engine, 70, [replace(pay, status="resolved", resolved_at=at(70)), quiet])
    look(each_engine, 75, [again, quiet], notice(again, 75, "flapping", "2:flapping"))
    clock.now = at(80)
    assert told(each_engine) == found
    assert [row.version for row in service.list_reports(each_engine)] == [1]


def test_what_fired_before_or_ended_before_the_period(each_engine: Engine, clock: Clock) -> None:
    long, over = alert("long", -300), alert("over", -30, status="resolved", resolved_at=at(-1))
    waiting = notice(long, -300, "firing", "1:0")
    look(each_engine, 61, [long, over], waiting)
    found = told(each_engine)
    assert (found["lasted"], found["fired"], found["firing"], found["not_delivered"]) == (1, 0, 1, 1)


def test_where_nobody_looked_nothing_is_known(each_engine: Engine, clock: Clock) -> None:
    assert told(each_engine)["lasted"] is None
    look(each_engine, 50, [])
    row = service.generate(each_engine, until=NOON)
    assert json.loads(row.json)["alerts"]["fired"] is None
    assert "alerts unknown" in row.headline
    assert "Nobody looked with the rules" in row.markdown
    look(each_engine, 60, [])
    clock.now = at(62)
    after = service.generate(each_engine, until=NOON)
    assert (json.loads(after.json)["alerts"]["fired"], after.version) == (0, 2)
    found = {one.where: (one.before, one.after) for one in service.changes(each_engine, after.id).changes}
    assert found["alerts / fired"] == (None, 0)


def test_alerts_that_are_switched_off_are_left_out(
    make_settings: Any, sqlite_url: str, redis_url: str
) -> None:
    engine = Engine(make_settings(redis_url, sqlite_url, REGROW_ALERTS__ENABLED="false"))
    engine.database.upgrade()
    row = service.generate(engine, until=NOON)
    engine.close()
    assert json.loads(row.json)["left_out"]["alerts"] == "alerts are switched off"
    assert "alerts unknown" not in row.headline


def test_the_section_has_a_row_for_each_alert() -> None:
    (section,) = [one for one in sections(scene.report()) if one.title == "Alerts"]
    still, over = ([getattr(cell, "text", cell) for cell in row] for row in section.rows)
    assert over[0] == "redis: check:redis"
    assert over[3:] == ["3 min", "1 step", "no", "", "15 min"]
    assert still[3:] == ["not yet", "no", "yes", "✕ redis", "firing"]
