"""Budgets and burn alerts: the workbook's figures, the further conditions of a page, the linter, the back-test."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.slo import budget as budgets
from regrow.slo.backtest import History, backtest
from regrow.slo.burn import TABLE, Promise, firing, lint, probes_to_page
from regrow.slo.ledger import NOTHING, Ledger, Span, State, account

MONTH = timedelta(days=30)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


def of(down: timedelta, window: timedelta = MONTH) -> Ledger:
    return Ledger(up=window - down, down=down)


# Google SRE Workbook, chapter 5, table 5-8: long window, short window, burn rate, budget consumed.
WORKBOOK = {
    "critical": (HOUR, 5 * MINUTE, 14.4, 0.02),
    "high": (6 * HOUR, 30 * MINUTE, 6.0, 0.05),
    "low": (3 * timedelta(days=1), 6 * HOUR, 1.0, 0.10),
}


def test_the_table_is_that_of_the_workbook() -> None:
    ours = {rule.severity: (rule.long, rule.short, rule.factor(MONTH), rule.share) for rule in TABLE}
    assert {name: ours[name] for name in WORKBOOK} == WORKBOOK  # type: ignore[index]
    assert ours["medium"] == (timedelta(days=1), 2 * HOUR, 3.0, 0.10)
    assert all(rule.long == 12 * rule.short for rule in TABLE)


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.severity)
def test_a_factor_spends_its_share_of_the_budget_within_the_long_window(rule: object) -> None:
    bad = rule.factor(MONTH) * 0.001 * rule.long  # type: ignore[attr-defined]
    assert bad / budgets.budget(of(NOTHING), 0.999).total == pytest.approx(rule.share)  # type: ignore[attr-defined]


# The workbook's table 5-2, for an objective of 99.9 %: burn rate, error rate, time until the budget is gone.
@pytest.mark.parametrize(
    ("rate", "errors", "left"),
    [
        (1, 0.001, MONTH),
        (2, 0.002, MONTH / 2),
        (10, 0.01, 3 * timedelta(days=1)),
        (1000, 1.0, timedelta(minutes=43.2)),
    ],
)
def test_burn_rates_and_times_to_exhaustion_are_those_of_the_workbook(
    rate: float, errors: float, left: timedelta
) -> None:
    found = budgets.burn(of(errors * HOUR, HOUR), 0.999)
    assert found == pytest.approx(rate)
    assert budgets.exhausted_in(1.0, found, MONTH) / left == pytest.approx(1)  # type: ignore[operator]


# The mission's table of components: what a month's budget is.
@pytest.mark.parametrize(
    ("target", "minutes"), [(0.999, 43.2), (0.995, 216.0), (0.9995, 21.6), (0.9999, 4.32)]
)
def test_a_months_budget(target: float, minutes: float) -> None:
    assert budgets.budget(of(NOTHING), target).total / MINUTE == pytest.approx(minutes)


def test_an_overspent_budget_is_below_zero_and_has_no_time_left() -> None:
    left = budgets.budget(of(timedelta(minutes=86.4)), 0.999)
    assert left.remaining == pytest.approx(-1.0)
    assert budgets.exhausted_in(left.remaining, 1.0, MONTH) == NOTHING


def test_what_does_not_count_has_neither_budget_nor_burn() -> None:
    silent = Ledger(maintenance=MONTH)
    assert budgets.budget(silent, 0.999).remaining is None
    assert budgets.burn(silent, 0.999) is None
    assert budgets.exhausted_in(0.5, 0.0, MONTH) is None


def last(down: timedelta, at: datetime = NOW) -> History:
    """A month that was up, but for the last ``down`` of it."""
    return History([Span(at - MONTH, at - down, State.UP), Span(at - down, at, State.DOWN)])


def severities(promise: Promise, history: History, *, confirmed: bool = True) -> list[str]:
    return [
        one.severity
        for one in firing(promise, lambda length: history.over(NOW - length, NOW), confirmed_down=confirmed)
    ]


PROMISE = Promise("shop", 0.999, MONTH, "critical", interval=30.0)


def test_an_outage_pages_after_the_fifty_two_seconds_of_the_workbook_and_a_minute_of_ours() -> None:
    """14.4 x 0.1 % of an hour are 51.84 s; the least bad time of a page is 60 s."""
    assert severities(PROMISE, last(timedelta(seconds=59))) == []
    assert severities(PROMISE, last(timedelta(seconds=60))) == ["critical"]
    assert severities(PROMISE, last(timedelta(minutes=3))) == ["critical", "high"]
    assert severities(PROMISE, last(timedelta(minutes=5))) == ["critical", "high", "medium", "low"]


def test_nobody_is_called_while_it_is_not_confirmed_down_but_tickets_are_written() -> None:
    assert severities(PROMISE, last(timedelta(minutes=5)), confirmed=False) == ["medium", "low"]


def test_a_page_ends_when_the_short_window_is_well_again() -> None:
    over = History([Span(NOW - MONTH, NOW - 16 * MINUTE, State.UP)])
    assert severities(PROMISE, over) == []
    mended = History(
        [
            Span(NOW - MONTH, NOW - 16 * MINUTE, State.UP),
            Span(NOW - 16 * MINUTE, NOW - 6 * MINUTE, State.DOWN),
            Span(NOW - 6 * MINUTE, NOW, State.UP),
        ]
    )
    assert severities(PROMISE, mended) == ["high", "medium", "low"]


def test_unknown_time_burns_nothing() -> None:
    silent = History([Span(NOW - MONTH, NOW - HOUR, State.UP), Span(NOW - HOUR, NOW, State.UNKNOWN)])
    assert severities(PROMISE, silent) == []


def test_an_objective_of_little_weight_never_pages() -> None:
    light = dataclasses.replace(PROMISE, severity="medium")
    assert set(severities(light, last(HOUR))) == {"medium", "low"}


def test_the_evidence_is_told_in_a_sentence() -> None:
    (alert,) = firing(PROMISE, lambda length: last(MINUTE).over(NOW - length, NOW), confirmed_down=True)
    assert alert.message == (
        "shop spends its error budget 16.7 times too fast over 1 h (200 times over 5 min, threshold 14.4)"
    )
    assert alert.bad == MINUTE


def test_rules_that_cannot_fire_are_refused_by_name() -> None:
    loose = Promise("batch", 0.9, MONTH)
    (remark,) = [r for r in lint([loose]) if r.level == "refused"]
    assert remark.rule == "critical"
    assert "14.4 x (1 - 0.9) = 1.44" in remark.message
    assert "critical" not in severities(loose, last(10 * HOUR))


@pytest.mark.parametrize(
    ("failures", "interval", "probes", "warned"),
    [(1, 60.0, 2, True), (3, 60.0, 3, False), (1, 30.0, 2, True), (1, 10.0, 6, False)],
)
def test_that_one_or_two_probes_page_is_warned_of(
    failures: int, interval: float, probes: int, warned: bool
) -> None:
    promise = Promise("shop", 0.999, MONTH, "critical", interval, failures)
    assert probes_to_page(promise, TABLE[0]) == probes
    said = [r for r in lint([promise]) if r.rule == "critical"]
    assert bool(said) is warned
    assert all("pages after 2 bad probes" in r.message for r in said)


def test_a_budget_that_a_single_probe_spends_a_tenth_of_is_warned_of() -> None:
    (remark,) = [r for r in lint([Promise("sign-in", 0.9999, MONTH)]) if r.rule is None]
    assert remark.message.startswith("one bad probe spends 23% of the budget")


def test_a_week_alerts_at_the_same_share_of_its_own_budget() -> None:
    week = Promise("shop", 0.999, timedelta(days=7))
    assert [round(rule.factor(week.window), 2) for rule in TABLE] == [3.36, 1.4, 1.0, 1.0]
    day = Promise("shop", 0.999, timedelta(days=1))
    assert [r.rule for r in lint([day]) if "further than" in r.message] == ["low"]


def month_with(*outages: tuple[float, float]) -> list[Span]:
    """Thirty days up, but for outages of (hour of the month, minutes)."""
    start, found = NOW - MONTH, []
    for hour, minutes in outages:
        begins = NOW - MONTH + hour * HOUR
        found += [Span(start, begins, State.UP), Span(begins, begins + minutes * MINUTE, State.DOWN)]
        start = begins + minutes * MINUTE
    return [*found, Span(start, NOW, State.UP)]


def test_a_backtest_counts_the_calls_of_a_month() -> None:
    cut = month_with((100, 0.5), (200, 10), (200.5, 5), (500, 10))
    down = [(s.start, s.end) for s in cut if s.state is State.DOWN]
    found = backtest(PROMISE, [cut], down, NOW - MONTH, NOW)
    assert found.pages == 2  # half a minute calls nobody; what begins again within the hour calls once
    assert found.count("critical") == 2
    assert found.count("low") == 2
    (first, second) = [one for one in found.fired if one.severity == "critical"]
    assert NOW - MONTH + 200 * HOUR < first.began < NOW - MONTH + 200 * HOUR + 3 * MINUTE
    assert second.began > NOW - MONTH + 500 * HOUR


def test_a_backtest_pages_for_nothing_that_was_not_confirmed() -> None:
    assert backtest(PROMISE, [month_with((200, 10))], [], NOW - MONTH, NOW).pages == 0


@given(
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from(list(State))), min_size=1, max_size=12),
    st.integers(0, 700),
    st.integers(0, 700),
)
def test_sums_over_spans_are_the_ledgers_own(parts: list[tuple[int, State]], one: int, other: int) -> None:
    cut, reached = [], NOW
    for minutes, state in parts:
        cut.append(Span(reached, reached + minutes * MINUTE, state))
        reached = cut[-1].end
    start, end = sorted([min(NOW + one * MINUTE, reached), min(NOW + other * MINUTE, reached)])
    inside = [
        Span(max(s.start, start), min(s.end, end), s.state) for s in cut if s.start < end and s.end > start
    ]
    found, slow = History(cut).over(start, end), account(inside, [], start, end)
    assert (found.down, found.eligible) == (slow.down, slow.eligible)
