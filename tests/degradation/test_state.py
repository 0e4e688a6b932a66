"""What holds: the score's level or a person's, and what a process makes of it as time passes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.degradation.kept import PastChange, time_in_levels
from regrow.degradation.levels import LEVELS, Level
from regrow.degradation.permits import PATHS, PERMITS, Kind, PathKinds, checked, worst_that_permits
from regrow.degradation.rules import Course, Score
from regrow.degradation.state import Order, Policy, as_json, from_json, newer, seen, settled
from regrow.errors import SettingsError

NOW = 1_700_000_000_000
SCORE = Score(70.0, 70.0, (("db", "unhealthy", 30.0),))


def ordered(level, at=NOW, until=0, revision=NOW):
    return Order(revision, level and Level(level), "ann", "a test", at, until)


def state_of(level="minor", order=None, before=None, now=NOW):
    return settled(before, Course(Level(level), now), SCORE, order, Policy(), now)


def test_what_a_person_ordered_holds_over_the_score_until_it_runs_out():
    before, _ = state_of()
    state, change = state_of(order=ordered("critical", until=NOW + 60_000), before=before)
    assert (state.level, state.actor, change.old, change.new) == ("critical", "ann", "minor", "critical")
    assert state.level_at(NOW + 59_999) == "critical"
    assert state.level_at(NOW + 60_000) == "minor"
    later, change = state_of(order=state.order, before=state, now=NOW + 60_000)
    assert (later.level, later.actor, change.new, change.actor) == ("minor", "", "minor", "")
    assert change.reason.startswith("the order of ann ran out")


def test_a_person_may_hold_it_better_than_the_score_says_and_end_that():
    held, _ = state_of("severe", order=ordered("normal"))
    assert held.level == "normal"
    ended = Order(NOW + 1, None, "ben", "all is fixed", NOW + 1)
    state, change = state_of("severe", order=ended, before=held)
    assert (state.level, change.new, change.actor) == ("severe", "severe", "ben")
    assert change.reason.startswith("all is fixed")


def test_the_level_that_stays_keeps_its_beginning_and_a_change_begins_anew():
    first, change = state_of()
    assert change.old is None
    second, change = state_of(before=first, now=NOW + 10_000)
    assert (second.since, change, second.revision) == (NOW, None, NOW + 10_000)
    third, _ = state_of("severe", before=second, now=NOW + 20_000)
    assert third.since == NOW + 20_000


def test_revisions_grow_when_the_clock_does_not():
    first, _ = state_of()
    second, _ = state_of(before=first, now=NOW - 5_000)
    assert second.revision > first.revision


@given(
    level=st.sampled_from(LEVELS),
    order=st.none()
    | st.builds(ordered, level=st.sampled_from([None, *LEVELS]), until=st.sampled_from([0, NOW + 5])),
)
def test_the_state_survives_its_way_through_redis(level, order):
    state, _ = state_of(level, order)
    policy = Policy(30.0, Level.SEVERE, checked({}), {"/x": "core"}, {"exports": "minor"})
    state = replace(state, policy=policy)
    assert from_json(json.loads(json.dumps(as_json(state)))) == state


def test_the_later_order_counts():
    early, late = ordered("minor", revision=1), ordered("severe", revision=2)
    assert newer(early, late) is newer(late, early) is late
    assert newer(None, early) is newer(early, None) is early


# What a process makes of it -------------------------------------------------------------------------------


@given(
    level=st.sampled_from(LEVELS),
    when_unknown=st.sampled_from(LEVELS),
    age=st.integers(0, 200_000),
)
def test_a_level_that_nobody_confirms_is_never_shown_as_better(level, when_unknown, age):
    state, _ = state_of(level)
    state = replace(state, policy=Policy(hold=60.0, when_unknown=when_unknown))
    found = seen(state, NOW, NOW + age)
    assert found.known == (age <= 60_000)
    assert found.level == (level if found.known else max(level, when_unknown))
    assert found.until > NOW + age


def test_what_a_person_ordered_needs_no_monitor_but_a_redis_that_says_so():
    state, _ = state_of("minor", ordered("normal"))
    hour = NOW + 3_600_000
    assert seen(state, hour, hour) == seen(state, hour, hour + 60_000)
    assert seen(state, hour, hour).level == "normal"
    assert seen(state, NOW, hour).level == "minor"
    assert not seen(state, NOW, hour).known


def test_a_process_looks_again_when_an_order_runs_out():
    state, _ = state_of("minor", ordered("critical", until=NOW + 7_000))
    assert seen(state, NOW, NOW).until == NOW + 7_000
    assert seen(state, NOW, NOW + 7_000).level == "minor"


def test_nothing_heard_is_not_normal():
    assert seen(None, NOW, NOW).level == "minor"
    assert not seen(None, NOW, NOW).known


# What each level permits ----------------------------------------------------------------------------------


def test_the_table_of_the_levels():
    assert [len(PERMITS[level]) for level in LEVELS] == [6, 5, 4, 3, 1]
    worst = {kind: worst_that_permits(kind, PERMITS) for kind in Kind}
    assert worst == {
        "status": "critical", "sign_in": "severe", "view": "severe", "read": "moderate", "core": "minor",
        "extra": "normal",
    }  # fmt: skip
    assert worst_that_permits("status", {"normal": ()}) is None


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ("GET /health/live", "status"), ("GET /healthy", "read"), ("POST /login", "sign_in"), ("GET /", "read"),
        ("POST /orders", "core"), ("HEAD /orders", "read"), ("DELETE /orders/1", "core"), ("GET /static/a.css", "view"),
        ("POST /search", "read"), ("GET /search", "extra"), ("POST /search/more", "read"), ("GET /a/b/c", "view"),
    ],
)  # fmt: skip
def test_the_kinds_of_paths(request_, kind):
    kinds = PathKinds({**PATHS, "/search": "extra", "POST /search": "read", "/a": "extra", "/a/b/": "view"})
    assert kinds.of(*request_.split()) == kind


def test_paths_and_kinds_that_are_none():
    for paths in ({"orders": "core"}, {"/orders": "cores"}, {"POST orders": "core"}):
        with pytest.raises(SettingsError):
            PathKinds(paths)
    with pytest.raises(SettingsError):
        checked({"awful": ("core",)})


# The account of time --------------------------------------------------------------------------------------

START = datetime(2026, 7, 1, 12, tzinfo=UTC)


def past(new, minute, seen_minute):
    at, seen_at = START + timedelta(minutes=minute), START + timedelta(minutes=seen_minute)
    return PastChange(minute, at, seen_at, None, Level(new), Level(new), "", None, 0, 0)


def test_time_in_levels_and_the_time_that_nobody_looked():
    told = [past("normal", -30, 10), past("severe", 10, 20), past("normal", 40, 60)]
    spent = time_in_levels(told, START, START + timedelta(hours=1), timedelta(minutes=1))
    assert {level: time.total_seconds() / 60 for level, time in spent.items() if time} == {
        "normal": 30, "severe": 11, "unknown": 19,
    }  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(LEVELS), st.integers(0, 40), st.integers(0, 40)), max_size=8))
def test_the_account_adds_up_to_its_period(told):
    minute, changes = -10, []
    for level, length, confirmed in told:
        changes.append(past(level, minute, minute + confirmed))
        minute += length
    changes = [change for change in changes if change.at < START + timedelta(hours=1)]
    spent = time_in_levels(changes, START, START + timedelta(hours=1), timedelta(minutes=1))
    assert sum(spent.values(), timedelta()) == timedelta(hours=1)
    assert min(spent.values()) >= timedelta()
