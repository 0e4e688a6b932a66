"""Rules that read dead letters and budgets, on rows as they are written: they fire, are told, and clear."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.alerts import service
from regrow.database.tables import dead_letters as letters
from regrow.dead_letters import service as dead_letters
from tests.dead_letters.conftest import call
from tests.incidents.conftest import MakeHistory
from tests.incidents.history import History

HOUR = timedelta(hours=1)


@pytest.fixture
def history(make_history: MakeHistory, database_url: str) -> History:
    return make_history("", database_url)


def told(history, rule):
    """By each look of now: what was told of a rule so far."""
    service.evaluate(history.engine)
    found = reversed(service.notices(history.engine, limit=1000))
    return [
        (sent.notice.kind, sent.notice.body["subject"]) for sent in found if sent.notice.body["rule"] == rule
    ]


def test_the_oldest_letter_is_told_after_a_day_and_over_when_it_is_settled(history):
    engine = history.engine
    first = dead_letters.capture(engine, call(1, failed_at=history.now))
    history.clock.now += 12 * HOUR
    dead_letters.capture(engine, call(2, failed_at=history.now))
    history.clock.now += 12 * HOUR
    assert told(history, "oldest_letter") == []
    history.clock.now += HOUR
    assert told(history, "oldest_letter") == [("firing", "letters")]
    (alert,) = (kept.alert for kept in service.listed(engine) if kept.alert.rule == "oldest_letter")
    assert alert.message == "the oldest dead letter that is not settled failed 25 h ago"
    dead_letters.discard(engine, first, actor="ann", reason="not needed")
    assert told(history, "oldest_letter") == [("firing", "letters"), ("resolved", "letters")]
    history.clock.now += 12 * HOUR  # and the second one comes to a day
    assert told(history, "oldest_letter")[2:] == [("firing", "letters")]


def test_a_ledger_that_is_off_for_five_minutes_is_told_and_over_when_it_is_corrected(history):
    engine = history.engine
    for number in (1, 2):
        dead_letters.capture(engine, call(number))
    assert told(history, "ledger_off") == []
    with engine.database.transaction() as connection:  # past the books
        lost = connection.execute(sa.select(letters.c.id).limit(1)).scalar_one()
        connection.execute(sa.delete(letters).where(letters.c.id == lost))
    assert told(history, "ledger_off") == []
    history.clock.now += timedelta(seconds=299)
    assert told(history, "ledger_off") == []
    history.clock.now += timedelta(seconds=1)
    assert told(history, "ledger_off") == [("firing", "ledger:payments")]
    dead_letters.correct_ledger(engine, actor="ann", reason="restored from a copy")
    assert told(history, "ledger_off")[1:] == [("resolved", "ledger:payments")]


def test_an_objective_that_is_missed_is_told_until_its_window_is_well_again(make_history):
    toml = """
[slo.objectives.sign-in]
checks = ["db"]
target = 0.9
window = 7200

[alerts.rules]
burn_rate = { enabled = false, severity = "low", hold = 0 }
checks_failing = { enabled = false, severity = "low", hold = 0 }
"""
    history = make_history(toml, every=300.0)
    history.step(3 * 3600)
    missed = ("firing", "objective:sign-in")
    assert told(history, "uptime_under_target") == []
    history.fail("db")
    history.step(600)
    assert told(history, "uptime_under_target") == []  # 5 of 120 minutes
    history.step(600)
    history.mend()
    history.step(600)
    assert told(history, "uptime_under_target") == [missed]  # 20 of 120
    history.step(1800)
    assert told(history, "uptime_under_target") == [missed]
    history.step(6000)
    assert told(history, "uptime_under_target") == [missed, ("resolved", "objective:sign-in")]
