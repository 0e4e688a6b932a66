"""What a check's results amount to: confirmed after so many in a row, held while it flaps, each change told once."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.health.rules import STATUSES, Result
from regrow.health.status import WINDOW, Change, Policy, State, change_percent, follow

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALM = Policy(failures=3, successes=2, flapping_from=101, flapping_until=101)
BADNESS = {"healthy": 0, "degraded": 1, "unhealthy": 2}
WORDS = {"h": "healthy", "d": "degraded", "u": "unhealthy", "?": "unknown"}

histories = st.lists(st.sampled_from(STATUSES), min_size=1, max_size=60)
policies = st.builds(
    Policy,
    failures=st.integers(1, 25),
    successes=st.integers(1, 25),
    flapping_from=st.floats(20, 101),
    flapping_until=st.floats(1, 20),
)


def result(status, second, maintenance=None):
    return Result("db", status, f"was {status}", 0.01, NOW + timedelta(seconds=second), 30.0, {}, maintenance)


def play(statuses, policy=CALM, every=30) -> tuple[State, list[Change]]:
    """Follow results that come one by one; a letter or a word each."""
    state, told = None, []
    for n, status in enumerate(statuses):
        state, change = follow(state, result(WORDS.get(status, status), n * every), policy)
        told += [change] if change else []
    return state, told


def stations(told):
    return [change.to_status for change in told]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ("h", ["healthy"]),
        ("u", ["unhealthy"]),
        ("huu", ["healthy"]),
        ("huuu", ["healthy", "unhealthy"]),
        ("huuhuuhuu", ["healthy"]),
        ("huuuh", ["healthy", "unhealthy"]),
        ("huuuhh", ["healthy", "unhealthy", "healthy"]),
        ("huuuhuhuh", ["healthy", "unhealthy"]),
        ("hduu", ["healthy", "degraded"]),
        ("hduuu", ["healthy", "degraded", "unhealthy"]),
        ("uuuhd", ["unhealthy", "degraded"]),
        ("huu?u", ["healthy", "unhealthy"]),
        ("h??", ["healthy"]),
        ("h???", ["healthy", "unknown"]),
        ("h???h", ["healthy", "unknown", "healthy"]),
        ("uuu???h", ["unhealthy", "unknown", "unhealthy"]),
        ("uuu???hh", ["unhealthy", "unknown", "unhealthy", "healthy"]),
        ("?", []),
        ("?u", ["unhealthy"]),
    ],
)
def test_three_in_a_row_confirm_what_is_worse_and_two_what_is_better(results, said):
    assert stations(play(results)[1]) == said


def test_a_change_says_when_it_was_confirmed_and_when_it_began():
    state, told = play("hhuuu")
    assert (told[-1].began, told[-1].at) == (NOW + timedelta(seconds=60), NOW + timedelta(seconds=120))
    assert (state.since, state.began) == (told[-1].at, told[-1].began)


@given(histories, policies)
def test_changes_are_numbered_and_lead_from_one_to_the_next(history, policy):
    state, told = play(history, policy)
    assert [change.number for change in told] == list(range(1, len(told) + 1))
    assert state.number == len(told)
    assert all(one.to_status == two.from_status for one, two in itertools.pairwise(told))
    assert state.status == (told[-1].to_status if told else "unknown")
    assert all(change.began <= change.at for change in told)


@given(histories, policies)
def test_no_status_is_confirmed_that_the_last_results_do_not_bear_out(history, policy):
    state, told = None, []
    for n, status in enumerate(history):
        before, (state, change) = state, follow(state, result(status, n * 30), policy)
        told += [change] if change else []
        if (
            before is None
            or change is None
            or change.kind != "status"
            or "unknown"
            in {
                change.from_status,
                change.to_status,
            }
        ):
            continue
        known = [BADNESS[seen] for seen in history[: n + 1] if seen != "unknown"]
        old, new = BADNESS[change.from_status], BADNESS[change.to_status]
        if new > old:
            assert min(known[-policy.failures :]) == new
            assert len(known) >= policy.failures
        else:
            assert max(known[-policy.successes :]) == new
            assert len(known) >= policy.successes


@given(histories, policies)
def test_while_it_flaps_nothing_is_told_but_its_beginning_and_its_end(history, policy):
    _, told = play(history, policy)
    kinds = [change.kind for change in told if change.kind != "status"]
    assert kinds == ["flapping", "steady"] * (len(kinds) // 2) + ["flapping"] * (len(kinds) % 2)
    flapping = False
    for change in told:
        assert change.kind == "steady" or not flapping or change.kind == "flapping"
        flapping = change.flapping


@given(st.text("hdu?", max_size=60))
def test_change_is_a_share_between_never_and_each_time(recent):
    assert 0 <= change_percent(recent) <= 100.0001
    if len(set(recent) - {"?"}) < 2:
        assert change_percent(recent) == 0


def test_change_weighs_more_the_newer_it_is_and_all_of_it_is_a_hundred():
    assert change_percent("hu" * 11) == pytest.approx(100)
    assert change_percent("hu" + "u" * 19) == pytest.approx(4.0)  # 0.8 of 20
    assert change_percent("h" * 20 + "u") == pytest.approx(6.0)  # 1.2 of 20
    assert change_percent("hu") == pytest.approx(6.0)
    assert change_percent("huhuhu" + "h" * WINDOW) == 0


def test_a_service_that_flaps_makes_one_notice_and_one_when_it_is_steady_again():
    policy = Policy(failures=3, successes=2)
    _, told = play("h" * 21 + "hu" * 30 + "u" * 40, policy)
    assert [change.kind for change in told] == ["status", "flapping", "steady"]
    assert (told[-1].from_status, told[-1].to_status) == ("healthy", "unhealthy")


@pytest.mark.parametrize(("down", "up"), [(3, 3), (3, 2), (2, 2), (1, 1), (1, 2)])
def test_a_regular_swing_is_found_after_a_few_notices_at_most(down, up):
    _, told = play("h" * 21 + ("u" * down + "h" * up) * 40, Policy(failures=3, successes=2))
    assert [change.kind for change in told].count("flapping") == 1
    assert len(told) <= 8


def test_an_outage_and_its_end_are_no_flapping():
    _, told = play("h" * 21 + "u" * 5 + "h" * 10 + "u" * 5 + "h" * 30, Policy(failures=3, successes=2))
    assert {change.kind for change in told} == {"status"}


def test_results_before_a_silence_are_not_in_a_row_with_those_after_it():
    policy = Policy(failures=3, successes=2, gap=100)
    state, _ = play("huu", policy)
    state, change = follow(state, result("unhealthy", 1_000), policy)
    assert (state.status, change) == ("healthy", None)
    for second in (1_030, 1_060):
        state, change = follow(state, result("unhealthy", second), policy)
    assert state.status == "unhealthy"


def test_a_result_that_comes_late_changes_nothing():
    state, _ = play("hhuu")
    assert follow(state, result("unhealthy", 10), CALM) == (state, None)


def test_what_went_bad_in_maintenance_is_told_again_when_that_is_over_and_it_is_still_bad():
    state, told = None, []
    for n, (status, window) in enumerate(
        [("healthy", None), *[("unhealthy", "night")] * 4, ("unhealthy", None), ("unhealthy", None)]
    ):
        state, change = follow(state, result(status, n * 30, window), CALM)
        told += [change] if change else []
    assert [(change.kind, change.to_status, change.maintenance) for change in told] == [
        ("status", "healthy", None),
        ("status", "unhealthy", "night"),
        ("maintenance_over", "unhealthy", None),
    ]


@given(histories, st.integers(0, 59), policies)
def test_following_can_be_broken_off_and_gone_on_with_anywhere(history, cut, policy):
    """A state is all that is remembered: another process goes on from it as this one would have."""
    whole = play(history, policy)
    state, told = play(history[:cut], policy) if history[:cut] else (None, [])
    for n, status in list(enumerate(history))[cut:]:
        state, change = follow(state, result(status, n * 30), policy)
        told += [change] if change else []
    assert (state, told) == whole
