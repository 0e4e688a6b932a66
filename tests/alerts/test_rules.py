"""From what rules see to who is told, step by step, by a clock in the hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from regrow.alerts.model import Around, Policy, Route, Signal, Silence, Step
from regrow.alerts.rules import decide
from tests.incidents.history import NOON

MINUTE = timedelta(minutes=1)
STEPS = tuple(Step(timedelta(minutes=after), (f"t{after}",), (f"c{after}",)) for after in (0, 15, 30, 60))
POLICY = Policy(
    holds={"held": 5 * MINUTE},
    routes={severity: Route(0.0, STEPS) for severity in ("critical", "high", "medium", "low")},
)


def signal(subject="db", bad=True, rule="r", severity="high", **more):
    return Signal(rule, subject, bad, severity, f"{subject} is bad", **more)


class Course:
    """Looks at one's own pace; ``told`` is (minute, subject, kind, step, channel)."""

    def __init__(self, policy=POLICY):
        self.policy, self.now, self.alerts, self.told = policy, NOON, {}, []
        self.around, self.ids, self.reasons, self.seen = Around(), Counter(), {}, set()

    def look(self, *signals):
        def new_id(_now):
            self.ids["made"] += 1
            return f"a{self.ids['made']}"

        found = decide(signals, self.alerts, self.around, self.policy, self.now, new_id)
        self.alerts, self.reasons = found.alerts, found.reasons
        for notice in found.notices:
            name = (notice.alert, notice.step, notice.channel)
            assert name not in self.seen
            self.seen.add(name)
            minute = (self.now - NOON) / MINUTE
            self.told.append((minute, notice.body["subject"], notice.kind, notice.channel))

    def go(self, minutes, *signals):
        for _ in range(minutes):
            self.look(*signals)
            self.now += MINUTE

    def why(self, subject="db", rule="r"):
        return [reason.step for reason in self.reasons[(rule, subject)] if not reason.passed]


@pytest.fixture
def course():
    return Course()


def test_nobody_acknowledges_and_everybody_is_told_each_once(course):
    course.go(70, signal())
    course.look()
    assert course.told == [
        (0, "db", "firing", "c0"),
        (15, "db", "escalation", "c15"),
        (30, "db", "escalation", "c30"),
        (60, "db", "escalation", "c60"),
        *((70, "db", "resolved", f"c{after}") for after in (0, 15, 30, 60)),
    ]


def test_after_the_last_step_the_first_is_told_again(course):
    course.go(60 + 4 * 60 * 2 + 1, signal())
    assert [(at, channel) for at, _, kind, channel in course.told if kind == "repeat"] == [
        (300, "c0"),
        (540, "c0"),
    ]


def test_an_acknowledgement_stops_the_escalation_until_it_times_out(course):
    course.go(10, signal())
    key = ("r", "db")
    course.alerts[key] = replace(course.alerts[key], acknowledged_at=course.now, acknowledged_by="ann")
    course.go(1, signal())
    assert course.why() == ["acknowledged"]
    course.go(270, signal())
    assert course.told[1:] == [
        (250, "db", "firing", "c0"),
        (265, "db", "escalation", "c15"),
        (280, "db", "escalation", "c30"),
    ]


def test_whoever_acknowledges_the_incident_acknowledges_its_alerts(course):
    course.around = Around(acknowledged={"i": (NOON, "ann")})
    course.go(100, signal(incident="i"))
    assert course.told == []
    assert course.alerts[("r", "db")].acknowledged_by == "ann"


def test_what_is_not_so_for_long_enough_is_told_to_nobody(course):
    course.go(4, signal(rule="held"))
    assert course.why(rule="held") == ["held for"]
    course.look()
    assert (course.told, course.alerts) == ([], {})
    course.go(1, signal(rule="held", since=course.now - 6 * MINUTE))
    assert len(course.told) == 1


def test_what_is_unknown_is_no_alert_and_no_all_clear(course):
    course.go(5, signal(bad=None))
    assert (course.alerts, course.told) == ({}, [])
    course.go(5, signal())
    course.go(5, signal("*", bad=None))
    assert course.alerts[("r", "db")].status == "firing"
    course.look(signal(bad=None))
    assert [kind for _, _, kind, _ in course.told] == ["firing"]
    assert course.why() == ["observed", "escalated"]


def test_a_flap_is_one_notice_until_it_is_steady(course):
    for _ in range(5):
        course.go(2, signal())
        course.go(3)
    assert [(at, kind) for at, _, kind, _ in course.told] == [(0, "firing"), (2, "resolved"), (5, "flapping")]
    course.go(20)
    assert [(at, kind) for at, _, kind, _ in course.told[3:]] == [(37, "resolved")]
    course.go(20)
    course.go(1, signal())
    assert course.told[-1][2] == "firing"
    assert course.ids["made"] == 2


def test_what_one_rule_finds_at_once_is_one_notice_and_what_it_finds_later_is_told(course):
    many = [signal(f"b{number}") for number in range(20)]
    course.go(3, *many)
    assert course.told == [(0, "b0", "firing", "c0")]
    assert course.alerts[("r", "b7")].held_by == "grouped: told with r b0"
    course.go(1, *many)
    course.go(7, *many)
    course.go(1, *many, signal("b99"))
    assert (11, "b99", "firing", "c0") in course.told


def test_what_belongs_to_a_told_incident_is_told_with_it_unless_it_is_graver(course):
    root = signal(rule="incident", severity="medium", incident="i")
    course.go(1, root)
    course.go(60, root, signal(incident="i", severity="low"), signal("x", incident="i", severity="critical"))
    assert {subject for _, subject, _, _ in course.told} == {"db", "x"}
    assert course.why() == ["grouped"]


def test_inhibited_silenced_and_in_maintenance_nobody_is_told_and_afterwards_somebody_is(course):
    silence = Silence("s", NOON, NOON + 10 * MINUTE, rule="r", subject="si*", actor="ann", reason="known")
    course.around = Around(silences=(silence,), planned={"mt": "sunday"})
    signals = (signal("kid", parent="db", rule="k"), signal("silent"), signal("mt", rule="m"))
    course.go(10, *signals)
    assert course.told == []
    assert [course.why("kid", "k"), course.why("silent"), course.why("mt", "m")] == [
        ["inhibited"],
        ["silenced"],
        ["in maintenance"],
    ]
    assert "by ann: known" in course.alerts[("r", "silent")].held_by
    course.around = Around()
    course.go(1, *signals[1:], signal("kid", rule="k"))
    assert sorted(subject for _, subject, _, _ in course.told) == ["kid", "mt", "silent"]


def test_what_gets_graver_is_told_anew(course):
    course.go(5, signal(severity="medium"))
    course.go(5, signal(severity="critical"))
    course.go(5, signal(severity="medium"))
    assert [(at, kind) for at, _, kind, _ in course.told] == [(0, "firing"), (5, "firing")]
    assert course.alerts[("r", "db")].severity == "critical"


def test_steps_that_came_due_together_tell_a_channel_once():
    steps = (Step(0 * MINUTE, (), ("a",)), Step(15 * MINUTE, ("boss",), ("a", "b")))
    course = Course(replace(POLICY, routes=dict.fromkeys(POLICY.routes, Route(0.0, steps))))
    course.look(signal())
    course.now += 60 * MINUTE
    course.look(signal())
    assert [(kind, channel) for _, _, kind, channel in course.told] == [
        ("firing", "a"),
        ("escalation", "a"),
        ("escalation", "b"),
    ]
