"""Burns beside incidents, on real rows: told with the one that spent them, and by themselves when none did."""

from __future__ import annotations

from datetime import timedelta

import pytest

from regrow.alerts import service, signals
from regrow.requests import store as requests
from regrow.requests.store import MINUTE, Rollup
from tests.incidents.conftest import MakeHistory, children
from tests.incidents.history import History

TOML = """
[slo.objectives.all]
checks = ["db", "mail", "app0"]

[slo.objectives.errors]
kind = "error_rate"
service = "app0"

[alerts.rules]
checks_failing = { enabled = false, severity = "low", hold = 0 }
request_failures = { enabled = false, severity = "low", hold = 0 }
uptime_under_target = { enabled = false, severity = "low", hold = 0 }
"""


@pytest.fixture
def history(make_history: MakeHistory) -> History:
    return make_history(children(1) + TOML, every=300.0)


def burns(history):
    chosen = history.engine.settings.alerts.rules["burn_rate"]
    found = signals.SOURCES["burn_rate"](history.engine, history.now, chosen)
    return {one.subject.removeprefix("objective:"): (one.bad, one.parent) for one in found}


def web(history, minutes, failed):
    last = history.now.replace(second=0) - timedelta(minutes=2)
    rows = [Rollup(MINUTE, last - timedelta(minutes=n), "app0", "", 100, failed) for n in minutes]
    requests.write(history.engine.database, rows)


def told(history):
    return {sent.notice.body["subject"] for sent in service.notices(history.engine)}


def test_a_burn_is_held_back_as_long_as_its_incident_explains_it_and_told_when_it_does_not(history):
    history.step(1800)
    web(history, range(1, 30), 0)
    history.fail("db", "app0")
    history.step(1800)
    web(history, range(1, 11), 50)
    assert burns(history) == {"all": (True, None), "errors": (True, "check:db")}
    service.evaluate(history.engine)
    history.mend()
    history.step(1200)
    web(history, range(1, 16), 0)
    assert burns(history) == {"all": (True, "check:db")}  # of the last five minutes no request failed
    service.evaluate(history.engine)
    assert told(history) == {"check:db"}
    history.step(4 * 3600)
    history.fail("mail")
    history.step(300)
    assert burns(history)["all"] == (True, "check:db")  # it has just begun to fail
    history.mend()
    history.step(600)
    assert burns(history)["all"] == (True, None)
    service.evaluate(history.engine)
    assert told(history) == {"check:db", "objective:all"}


def test_a_monitor_that_is_silent_neither_ends_a_burn_nor_tells_it(history):
    history.step(1800)
    history.fail("db")
    history.step(1800)
    history.mend()
    history.step(1200)
    service.evaluate(history.engine)
    assert burns(history)["all"] == (True, "check:db")
    history.silent = True
    history.step(1200)
    assert burns(history)["all"] == (None, None)
    service.evaluate(history.engine)
    (found,) = (one for one in service.why(history.engine, "objective:all"))
    assert found.alert.status == "firing"
    assert [reason.step for reason in found.reasons if not reason.passed] == ["observed", "held"]
    assert "objective:all" not in told(history)
