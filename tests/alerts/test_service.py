"""The shipped rules on real stores: what each sees, why somebody was told or not, acts by hand."""

from __future__ import annotations

import json
from datetime import UTC, timedelta

import pytest
import sqlalchemy as sa

from regrow import jobs
from regrow.alerts import service, signals
from regrow.alerts.store import Alerts
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import BreakerConfig, Report
from regrow.capacity import service as capacity
from regrow.database.tables import alert_looks, audit, check_results, recovery_courses
from regrow.drain import record
from regrow.drain.record import Course
from regrow.errors import AlertNotFoundError, AlertRefusedError
from regrow.incidents import service as incidents
from regrow.requests import store as requests
from regrow.requests.store import MINUTE, Rollup
from tests.incidents.conftest import MakeHistory
from tests.incidents.history import History

# What adds up many failures has tests of its own.
ALONE = """
[alerts.rules]
burn_rate = { enabled = false, severity = "low", hold = 0 }
checks_failing = { enabled = false, severity = "low", hold = 0 }
uptime_under_target = { enabled = false, severity = "low", hold = 0 }
"""


@pytest.fixture
def history(make_history: MakeHistory) -> History:
    return make_history(ALONE)


def look(history):
    return service.evaluate(history.engine)


def firing(history):
    found = service.listed(history.engine)
    return sorted((kept.alert.rule, kept.alert.subject) for kept in found if kept.alert.status == "firing")


def seen(history, rule):
    engine = history.engine
    chosen = engine.settings.alerts.rules[rule]
    return [(s.subject, s.bad) for s in signals.SOURCES[rule](engine, history.now, chosen)]


def told(history):
    return [
        (sent.notice.body["subject"], sent.notice.kind, sent.notice.body["targets"])
        for sent in reversed(service.notices(history.engine))
    ]


def test_every_shipped_rule_is_on_and_has_a_source(make_history):
    rules = make_history().engine.settings.alerts.rules
    assert all(rule.enabled for rule in rules.values())
    assert set(signals.SOURCES) == set(rules)


def test_an_incident_is_told_acknowledged_and_over(history):
    history.step(60)
    look(history)
    assert told(history) == []
    history.fail("db")
    history.step(90)
    look(history)
    assert told(history) == [("check:db", "firing", ["on-call engineer"])]
    (kept,) = service.listed(history.engine)
    history.step(900)
    look(history)
    assert told(history)[1] == ("check:db", "escalation", ["engineering manager"])
    service.acknowledge(history.engine, kept.alert.id, actor="ann", reason="mine")
    assert incidents.listed(history.engine)[0].acknowledged_by == "ann"
    history.step(3600)
    look(history)
    assert len(told(history)) == 2
    history.mend()
    history.step(60)
    look(history)
    assert [kind for _, kind, _ in told(history)] == ["firing", "escalation", "resolved"]
    with pytest.raises(AlertRefusedError, match="is resolved"):
        service.acknowledge(history.engine, kept.alert.id, actor="ann", reason="mine")
    day = service.of_period(history.engine, history.now - timedelta(days=1), history.now)
    assert sorted(alert.subject for alert in day) == ["check:db"]


def test_a_breaker_that_is_open_for_five_minutes(history):
    store = RedisStore(history.engine.redis)
    assert store.apply("pay", BreakerConfig(), Report(0, 0, 5, 5)).breaker.state == "open"
    opened = store.apply("pay", None, Report(0, 0, 0, 0)).now / 1000
    history.clock.now = type(history.now).fromtimestamp(opened, UTC)
    look(history)
    assert firing(history) == []
    history.clock.now += timedelta(seconds=301)
    look(history)
    assert firing(history) == [("breaker_open", "breaker:pay")]


def test_drains_letters_requests_and_results_as_the_stores_tell_them(history):
    engine, now = history.engine, history.now
    at = now.timestamp()
    for pid, in_hand in ((1, 3), (2, 0)):
        begun = Course("worker", "h", pid, "SIGTERM", at - 60, 30.0, 5, 5)
        record.keep(engine.redis, begun.over(in_hand=in_hand, at=at - 30))
    assert seen(history, "drain_timed_out") == [("drain:worker@h:1", True)]
    assert seen(history, "request_failures") == []
    minute = now.replace(second=0) - timedelta(minutes=5)
    requests.write(
        engine.database,
        [
            Rollup(MINUTE, minute, "shop", "", 1000, 11),
            Rollup(MINUTE, minute, "blog", "", 1000, 10),
            Rollup(MINUTE, minute, "quiet", "", 3, 3),
        ],
    )
    assert sorted(seen(history, "request_failures")) == [
        ("requests:blog", False),
        ("requests:quiet", None),
        ("requests:shop", True),
    ]
    assert seen(history, "checks_failing") == [("checks", None)]
    rows = [
        {
            "check_name": "db",
            "at": now - timedelta(minutes=number),
            "status": "unhealthy" if number < failed else "healthy",
            "latency": 0.1,
            "interval": 60.0,
            "message": "",
            "data": {},
        }
        for number, failed in ((n, 2) for n in range(40))
    ]
    with engine.database.transaction() as connection:
        connection.execute(sa.insert(check_results), rows)
    assert seen(history, "checks_failing") == [("checks", False)]
    with engine.database.transaction() as connection:
        connection.execute(
            sa.update(check_results)
            .values(status="unhealthy")
            .where(check_results.c.at > now - timedelta(minutes=3))
        )
    assert seen(history, "checks_failing") == [("checks", True)]


def test_a_disk_that_fills_up_within_a_day(make_history):
    history = make_history('\n[health.checks.data]\nkind = "disk"\npath = "/"\n')
    assert seen(history, "disk_full_soon") == [("*", None)]
    rows = [
        {
            "check_name": "data",
            "at": history.now - timedelta(minutes=5 * number),
            "status": "healthy",
            "latency": 0.1,
            "interval": 300.0,
            "message": "",
            "data": {"percent": 90 - number / 10, "inodes_percent": 1.0},
        }
        for number in range(300)
    ]
    with history.engine.database.transaction() as connection:
        connection.execute(sa.insert(check_results), rows)
    with jobs.record(history.engine, capacity.JOB) as run:
        run.summary = capacity.forecast(history.engine)
    assert seen(history, "disk_full_soon") == [("forecast:data", True)]  # 10 % are left, and 1.2 % an hour go


def test_an_objective_that_is_not_kept_and_one_that_burns(make_history):
    history = make_history(
        "\n[alerts.rules]\nchecks_failing = { enabled = false, severity = 'low', hold = 0 }\n"
    )
    history.step(1800)
    assert {bad for _, bad in seen(history, "uptime_under_target")} <= {False, None}
    assert seen(history, "burn_rate") == []
    history.fail("db")
    history.step(1800)
    assert ("objective:db", True) in seen(history, "burn_rate")
    look(history)
    assert [subject for subject, _, _ in told(history)] == ["check:db"]  # the burn is told with the incident
    assert ("burn_rate", "objective:db") in firing(history)


def test_a_locked_recovery_belongs_to_its_incident_and_why_says_so(make_history):
    history = make_history('\n[recovery.services.db]\nkind = "breaker"\ntest = "db"\n')
    history.step(60)
    history.fail("db")
    history.step(120)
    look(history)
    course = {
        "service": "db",
        "opening": "check:db:1",
        "opened_at": history.now,
        "trigger": "check",
        "reason": "down",
        "attempts": 3,
        "locked_at": history.now,
        "by_hand": 0,
    }
    with history.engine.database.transaction() as connection:
        connection.execute(sa.insert(recovery_courses).values(course))
    history.recovery("db", "locked")
    history.step(30)
    look(history)
    assert ("recovery_locked", "recovery:db") in firing(history)
    assert [subject for subject, _, _ in told(history)] == ["check:db"]
    (found,) = service.why(history.engine, "recovery_locked")
    assert [reason.step for reason in found.reasons if not reason.passed] == ["inhibited"]
    assert "because of check:db" in found.reasons[-3].why + found.reasons[-2].why + found.reasons[-1].why


def test_why_names_every_step_and_changes_nothing(history):
    history.step(60)
    history.fail("mail")
    history.step(90)
    silence = service.silence(history.engine, seconds=3600, subject="check:mail", actor="ann", reason="known")
    look(history)
    with history.engine.database.snapshot() as connection:
        before = connection.execute(sa.select(alert_looks.c.at)).scalar_one()
    history.clock.now += timedelta(seconds=5)
    (found,) = service.why(history.engine, "mail")
    assert (found.rule, found.subject, found.looked_at) == ("incident", "check:mail", before)
    assert [(reason.step, reason.passed) for reason in found.reasons] == [
        ("observed", True),
        ("held for", True),
        ("deduped", True),
        ("inhibited", True),
        ("silenced", False),
    ]
    assert "by ann: known" in found.reasons[-1].why
    assert "found nothing bad" in service.why(history.engine, "ledger_off")[0].reasons[0].why
    with pytest.raises(AlertNotFoundError, match="the rules are"):
        service.why(history.engine, "nobody")
    service.unsilence(history.engine, silence.id, actor="ann", reason="over")
    assert service.silences(history.engine) == []
    look(history)
    assert [subject for subject, _, _ in told(history)] == ["check:mail"]
    with pytest.raises(AlertNotFoundError):
        service.unsilence(history.engine, silence.id, actor="ann", reason="over")
    with history.engine.database.snapshot() as connection:
        acts = connection.execute(sa.select(audit.c.act).order_by(audit.c.id)).scalars().all()
    assert acts == ["alert.silenced", "alert.unsilenced"]


def test_a_source_that_is_away_is_neither_bad_nor_fine(history, monkeypatch):
    history.step(60)
    history.fail("db")
    history.step(90)
    look(history)

    def away(*_args):
        raise ConnectionError

    monkeypatch.setitem(signals.SOURCES, "incident", away)
    look(history)
    assert firing(history) == [("incident", "check:db")]
    (found,) = (one for one in service.why(history.engine, "incident") if one.alert)
    assert "could not look: a defect (ConnectionError)" in found.reasons[0].why


def test_who_looks_with_an_older_clock_changes_nothing(history):
    history.step(60)
    history.fail("db")
    history.step(90)
    look(history)
    later = history.now
    history.clock.now = later - timedelta(seconds=10)
    history.engine.clock = history.clock
    assert look(history) == {"firing": 0, "pending": 0, "notices": 0}
    assert len(told(history)) == 1


def test_what_is_over_for_long_is_forgotten_and_what_waits_is_not(history):
    history.step(60)
    history.fail("db")
    history.step(90)
    look(history)
    history.mend()
    history.step(60)
    look(history)
    assert service.prune(history.engine) == 0
    history.clock.now += timedelta(days=401)
    assert service.prune(history.engine) == 1
    assert service.listed(history.engine) == []
    assert len(service.notices(history.engine)) == 2
    assert set(Alerts(history.engine.database).waiting()) == {"log"}
    assert json.dumps(service.notices(history.engine)[0].notice.body)
