"""Two days by a clock of the test's own, on real tables and real receivers: what was told is what had to be.

Outages with twenty children, a maintenance window, a dead channel, the monitor's death, a flap, and a person who
acknowledges. Checks are probed every 5 min, three bad results confirm a failure and two good ones its end.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from regrow.alerts import service
from regrow.health import maintenance
from regrow.health.windows import Scope
from regrow.incidents import service as incidents
from regrow.slo.ledger import HOLDS
from regrow.slo.rolling import roll_up
from tests.alerts.receivers import HttpReceiver
from tests.incidents.conftest import MakeHistory, children
from tests.incidents.history import NOON, History

CHANNELS = """
[alerts.rules]
burn_rate = {{ enabled = {burn}, severity = "medium", hold = 0 }}
checks_failing = {{ enabled = false, severity = "high", hold = 0 }}
uptime_under_target = {{ enabled = false, severity = "high", hold = 0 }}

[alerts.channels.pager]
kind = "webhook"
url = "{pager}"

[alerts.channels.boss]
kind = "webhook"
url = "{boss}"

[alerts.severities.critical]
response_time = 0
steps = [
    {{ after = 0, targets = ["on-call engineer"], channels = ["pager"] }},
    {{ after = 900, targets = ["engineering manager"], channels = ["boss"] }},
    {{ after = 1800, targets = ["engineering director"], channels = ["boss"] }},
    {{ after = 3600, targets = ["CTO"], channels = ["boss"] }},
]

[alerts.severities.low]
response_time = 86400
steps = [{{ after = 0, targets = ["development team"], channels = ["pager"] }}]
"""

EVERY = 300.0
APPS = tuple(f"app{number}" for number in range(20))


class Days(History):
    """The hours of two days; every look tells what is due, too."""

    rolls_up = False

    def look(self) -> None:
        incidents.follow(self.engine)
        service.evaluate(self.engine)
        service.deliver(self.engine)

    def until(self, hour: float) -> None:
        self.step((NOON + timedelta(hours=hour) - self.now).total_seconds())

    def quietly_until(self, hour: float) -> None:
        """Nothing happens: probed as often as a result holds, looked at every hour."""
        while self.now < NOON + timedelta(hours=hour):
            for _ in range(round(3600 / EVERY / HOLDS)):
                self.clock.now += timedelta(seconds=HOLDS * EVERY)
                self.sweep()
            self.look()
        if self.rolls_up:
            roll_up(self.engine)


def hours(at):
    """``1:05`` is an hour and five minutes after the beginning."""
    minutes = round((at - NOON).total_seconds() / 60)
    return f"{minutes // 60}:{minutes % 60:02}"


def told(sent):
    return [
        (hours(one.notice.at), one.notice.body["subject"], one.notice.kind, one.notice.channel)
        for one in sent
    ]


def failed(days):
    found = incidents.listed(days.engine)
    inside = Counter(member.incident for member in incidents.members(days.engine, [one.id for one in found]))
    return [
        (
            hours(one.began_at),
            hours(one.detected_at),
            hours(one.resolved_at),
            one.root,
            one.kind,
            inside[one.id],
        )
        for one in reversed(found)
    ]


def play(days: Days, pager: HttpReceiver) -> None:
    engine = days.engine
    days.quietly_until(1)
    days.fail("db", *APPS)  # an outage with twenty children, which nobody acknowledges
    days.until(2)
    days.mend()
    days.until(3)
    days.quietly_until(6)
    maintenance.add(
        engine, Scope(("mail",)), days.now, days.now + timedelta(hours=2), actor="ann", reason="a new disk"
    )
    days.fail("mail")  # planned
    days.until(7)
    days.mend()
    days.quietly_until(10)
    pager.status = 503  # a dead channel
    days.fail("db")
    days.until(11)
    days.mend()
    days.until(12)
    pager.status = 200
    days.until(13)
    days.quietly_until(16)
    days.silent = True  # the monitor dies
    days.until(16.5)
    days.silent = False
    days.until(17)
    days.quietly_until(21)
    for _ in range(4):  # a flap
        days.fail("mail")
        days.step(1200)
        days.mend()
        days.step(600)
    days.until(24)
    days.quietly_until(30)
    days.fail("db")  # somebody acknowledges
    days.until(30.25)
    (one,) = (kept for kept in service.listed(engine, status="firing") if kept.alert.rule == "incident")
    service.acknowledge(engine, one.alert.id, actor="ann", reason="mine")
    days.until(33)
    days.mend()
    days.until(34)
    days.quietly_until(40)
    days.fail("mail")  # one bad probe, which is no incident and spends a tenth of the budget
    days.step(EVERY)
    days.mend()
    days.until(41)
    days.quietly_until(48)


NOTICES = [
    ("1:15", "check:db", "firing", "pager"),  # one for twenty-one that are down
    ("1:30", "check:db", "escalation", "boss"),
    ("1:45", "check:db", "escalation", "boss"),
    ("2:10", "check:db", "resolved", "pager"),
    ("2:10", "check:db", "resolved", "boss"),
    ("10:15", "check:db", "firing", "pager"),  # which is dead, and the boss is told all the same
    ("10:30", "check:db", "escalation", "boss"),
    ("10:45", "check:db", "escalation", "boss"),
    ("11:10", "check:db", "resolved", "pager"),
    ("11:10", "check:db", "resolved", "boss"),
    ("16:15", "monitor", "firing", "pager"),
    ("16:30", "monitor", "escalation", "boss"),
    ("16:35", "monitor", "resolved", "pager"),
    ("16:35", "monitor", "resolved", "boss"),
    ("21:15", "check:mail", "firing", "pager"),
    ("21:30", "check:mail", "resolved", "pager"),
    ("21:45", "check:mail", "flapping", "pager"),  # and then nothing until it is steady
    ("23:50", "check:mail", "resolved", "pager"),
    ("30:15", "check:db", "firing", "pager"),  # acknowledged, so nobody further
    ("33:10", "check:db", "resolved", "pager"),
]
BURNT = [  # not a word of what the incidents spent, though it burns for hours after their end
    ("40:15", "objective:mail", "firing", "pager"),
    ("45:00", "objective:mail", "repeat", "pager"),
    ("47:00", "objective:mail", "resolved", "pager"),
]
INCIDENTS = [
    ("1:05", "1:15", "2:05", "check:db", "down", 21),
    ("10:05", "10:15", "11:05", "check:db", "down", 1),
    ("16:00", "16:15", "16:35", "monitor", "monitor", 1),
    ("21:05", "21:15", "22:55", "check:mail", "down", 1),
    ("30:05", "30:15", "33:05", "check:db", "down", 1),
]


@pytest.mark.parametrize("kind", ["sqlite", "mysql"])
def test_two_days_are_told_as_they_were(
    make_history: MakeHistory,
    http: HttpReceiver,
    other_http: HttpReceiver,
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    url = request.getfixturevalue("mysql_url") if kind == "mysql" else ""
    toml = children(20) + CHANNELS.format(pager=http.url, boss=other_http.url, burn="false")
    days = Days(make_history(toml, url, EVERY).engine, EVERY)
    play(days, http)
    sent = list(reversed(service.notices(days.engine, limit=1_000)))
    assert told(sent) == NOTICES
    assert failed(days) == INCIDENTS
    assert {one.status for one in sent} == {"sent"}
    for channel, receiver in (("pager", http), ("boss", other_http)):
        due = [
            f"{one.notice.alert}:{one.notice.step}:{channel}" for one in sent if one.notice.channel == channel
        ]
        assert receiver.taken == due
    late = {hours(one.notice.at): hours(one.settled_at) for one in sent if one.attempts > 1}
    assert late == {"10:15": "12:05"}
    assert len(http.got) > len(http.taken)


def test_what_burns_is_told_with_its_incident_or_by_itself(
    make_history: MakeHistory, http: HttpReceiver, other_http: HttpReceiver
) -> None:
    """The same two days without the children, by the look at every budget."""
    toml = CHANNELS.format(pager=http.url, boss=other_http.url, burn="true")
    days = Days(make_history(toml, every=EVERY).engine, EVERY)
    days.rolls_up = True  # there are but two checks, and budgets look back for days
    play(days, http)
    sent = list(reversed(service.notices(days.engine, limit=1_000)))
    assert told(sent) == NOTICES + BURNT
    burns = [kept.alert for kept in service.listed(days.engine) if kept.alert.rule == "burn_rate"]
    assert {alert.subject for alert in burns} == {"objective:db", "objective:mail"}
