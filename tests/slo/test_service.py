"""How objectives stand, what burns, what would have paged: on results that were written and rolled up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.database.tables import check_changes, check_states
from regrow.engine import Engine
from regrow.latency_buckets import bucket_of, percentile
from regrow.slo import service
from regrow.slo.ledger import State
from regrow.slo.requests import RequestMinute
from regrow.slo.rolling import roll_up
from tests.slo.conftest import CHECKS, START, Past

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def confirm_down(engine: Engine, check: str, at: Any, until: Any = None) -> None:
    """What the sweep keeps of a check that is confirmed down."""
    state = {
        "check_name": check, "status": "unhealthy", "flapping": False, "since": at, "at": at, "number": 1, "memory": {},
    }  # fmt: skip
    change = {
        "check_name": check, "kind": "status", "from_status": "healthy", "began_at": at, "flapping": False, "message": "",
    }  # fmt: skip
    with engine.database.transaction() as connection:
        connection.execute(sa.insert(check_states).values(state))
        ends = [("unhealthy", at)] + ([("healthy", until)] if until else [])
        for number, (status, moment) in enumerate(ends, 1):
            row = {**change, "number": number, "to_status": status, "at": moment}
            connection.execute(sa.insert(check_changes).values(row))


@pytest.fixture
def two_days(past: Past) -> Past:
    """Two days of both checks; the shop fails in the last six minutes, of which one is rolled up."""
    last = 2 * 1440
    past.write(past.results("mail", range(last), latency=0.2))
    past.write(past.results("shop", range(last - 6)))
    past.write(past.results("shop", range(last - 6, last), "unhealthy"))
    past.now = START + 2 * DAY - 5 * MINUTE
    roll_up(past.engine)
    past.now = START + 2 * DAY
    return past


def test_objectives_stand_by_their_own_window_with_budget_burn_and_forecast(two_days: Past) -> None:
    found = {one.objective.name: one for one in service.standing(two_days.engine, two_days.now)}
    assert {"shop", "mail", "redis"} <= set(found)
    shop, mail = found["shop"], found["mail"]
    assert shop.account is not None
    assert shop.account.down == 6 * MINUTE
    assert shop.account.paused == 28 * DAY  # it had not been watched before
    assert shop.met is None  # for the other 28 days of its window it may still be well
    assert shop.why == "new: below its target so far, within the budget of its whole window"
    assert shop.budget is not None
    assert shop.budget.total / MINUTE == pytest.approx(43.2)
    assert shop.budget.remaining == pytest.approx(1 - 6 / 43.2)
    assert shop.burns[HOUR] == pytest.approx(100)
    assert shop.exhausted_in is not None
    assert shop.exhausted_in / DAY == pytest.approx((1 - 6 / 43.2) * 30 / (6 / 1440 / 0.001))
    assert (mail.met, mail.budget.remaining, mail.exhausted_in) == (True, 1.0, None)  # type: ignore[union-attr]
    assert found["redis"].met is None
    assert found["redis"].words == "not known"
    assert found["redis"].budget is not None
    assert found["redis"].budget.remaining is None  # a silent monitor vouches for no budget
    assert set(found["redis"].burns.values()) == {None}


def test_the_first_minutes_of_a_new_check_neither_keep_nor_break_a_promise_of_30_days(past: Past) -> None:
    past.write(past.results("mail", range(2)))
    past.write(past.results("shop", range(2), "unhealthy"))
    confirm_down(past.engine, "shop", START)
    past.now = START + 2 * MINUTE
    shop, mail = service.standing(past.engine, past.now, ["shop", "mail"])[::-1]
    assert (shop.met, mail.met) == (None, None)
    assert mail.why == "new: 2 of the 1000 probes that it takes to tell"
    assert shop.budget is not None
    assert shop.budget.remaining == pytest.approx(1 - 2 / 43.2, abs=1e-4)  # the window begins with an hour
    # As of a check that was well for years: two bad minutes of the hour, at a threshold of 14.4.
    assert shop.burns[HOUR] == pytest.approx(2 / 60 / 0.001)
    assert service.burning(past.engine, past.now)[0].long_burn == pytest.approx(2 / 60 / 0.001)
    (tested,) = service.backtest(past.engine, past.now + MINUTE, ["shop"])
    assert tested.pages == 1


def test_a_promise_that_a_new_check_cannot_keep_any_more_is_missed(past: Past) -> None:
    past.write(past.results("shop", range(44), "unhealthy"))
    past.now = START + 43 * MINUTE
    assert service.standing(past.engine, past.now, ["shop"])[0].met is None
    past.now = START + 44 * MINUTE
    assert service.standing(past.engine, past.now, ["shop"])[0].met is False


def test_a_page_needs_the_check_confirmed_down_and_a_ticket_does_not(two_days: Past) -> None:
    assert {one.severity for one in service.burning(two_days.engine, two_days.now)} == {"medium", "low"}
    confirm_down(two_days.engine, "shop", two_days.now - 4 * MINUTE)
    found = service.burning(two_days.engine, two_days.now)
    assert [one.severity for one in found] == ["critical", "high", "medium", "low"]
    assert {one.objective for one in found} == {"shop"}
    assert found[0].bad == 6 * MINUTE
    assert found[0].long_burn == pytest.approx(100)
    assert found[0].short_burn == pytest.approx(1000)


def test_nothing_burns_once_the_short_windows_are_well_again(two_days: Past) -> None:
    last = 2 * 1440
    two_days.write(two_days.results("shop", range(last, last + 420)))
    two_days.now = START + 2 * DAY + 7 * HOUR
    roll_up(two_days.engine)
    assert service.burning(two_days.engine, two_days.now) == []


def test_a_backtest_tells_how_often_somebody_would_have_been_called(two_days: Past) -> None:
    confirm_down(two_days.engine, "shop", two_days.now - 4 * MINUTE)
    found = {one.objective: one for one in service.backtest(two_days.engine, two_days.now)}
    assert (found["shop"].pages, found["mail"].pages) == (1, 0)
    assert service.backtest(two_days.engine, two_days.now, ["mail"])[0].fired == ()


def test_several_checks_are_accounted_for_together_and_maintenance_may_count(
    two_days: Past, settings_with: Any
) -> None:
    two_days.engine.settings = settings_with(
        CHECKS + "[slo.objectives.both]\nchecks = ['shop', 'mail']\nwindow = 86400\ntarget = 0.99\n"
    )
    (both,) = service.standing(two_days.engine, two_days.now, ["both"])
    assert both.account is not None
    assert both.account.eligible == 2 * DAY
    assert both.account.down == 6 * MINUTE
    assert both.met is True
    names = {one.objective.name for one in service.standing(two_days.engine, two_days.now)}
    assert not {"shop", "mail"} & names


def test_strips_show_the_worst_of_each_part(two_days: Past) -> None:
    strip = service.strips(two_days.engine, two_days.now, ["shop"])["shop"]
    assert len(strip.states) == 90
    assert strip.states[-1] is State.DOWN
    assert strip.states[-3] is State.UP
    assert strip.states[0] is State.PAUSED


def test_latency_is_merged_over_sums_and_results(two_days: Past) -> None:
    buckets = service.latency(two_days.engine, "mail", START, two_days.now)
    assert sum(buckets.values()) == 2 * 1440
    assert percentile(buckets, 0.95) == pytest.approx(0.2, rel=0.02)


def test_the_linter_names_objectives_that_nothing_will_be_known_of(past: Past, settings_with: Any) -> None:
    past.engine.settings = settings_with(
        "[health.checks.cpu]\nkind='cpu'\nenabled=false\n[slo.objectives.machine]\nchecks=['cpu']\n"
        "[slo.objectives.loose]\nchecks=['disk']\ntarget=0.9\n"
    )
    found = {(one.objective, one.rule, one.level) for one in service.lint(past.engine)}
    assert ("machine", None, "refused") in found
    assert ("loose", "critical", "refused") in found


def test_promises_about_requests_are_measured_and_without_reports_not_known(
    past: Past, settings_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.engine.settings = settings_with(
        "[slo.objectives.errors]\nkind='error_rate'\nservice='shop'\n"
        "[slo.objectives.fast]\nkind='latency'\nservice='shop'\nlatency=0.5\nwindow=3600\n"
    )
    past.now = START + HOUR
    nothing = service.standing(past.engine, past.now, ["errors", "fast"])
    assert [(one.met, one.why) for one in nothing] == [
        (None, "no application reports requests of this service")
    ] * 2
    made = [RequestMinute("shop", START + n * MINUTE, 1000, 2, {bucket_of(0.1): 1000}) for n in range(60)]
    monkeypatch.setattr("regrow.slo.reported.ReportedMinutes.minutes", lambda *_: made)
    errors, fast = service.standing(past.engine, past.now, ["errors", "fast"])
    assert (errors.met, fast.met) == (False, True)
    assert errors.measured is not None
    assert errors.measured.value == pytest.approx(0.002)
