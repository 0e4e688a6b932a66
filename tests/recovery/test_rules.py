"""The rules of recovery: an opening once, the envelope, the lock, leases, relapses; and what always holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from regrow.recovery import budget, graph, rules
from regrow.recovery.model import (
    ACTOR,
    Action,
    Condition,
    Course,
    Envelope,
    Outcome,
    Seen,
)

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENVELOPE = Envelope(interval=60, max_attempts=3, backoff=2)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def down(seconds: float, opening: str = "breaker:bank:1") -> Seen:
    return Seen(Condition.DOWN, at(seconds), opening, at(seconds), "breaker", "it is open")


def well(seconds: float, by: str = "") -> Seen:
    return Seen(Condition.WELL, at(seconds), closed_by=by)


def decided(course: Course, seconds: float, **options) -> Action:
    return rules.decide(course, ENVELOPE, at(seconds), seen=Condition.DOWN, **options).action


def tried(course: Course, seconds: float, outcome: Outcome = Outcome.FAILED, took: float = 1.0) -> Course:
    begun = rules.begin(course, "token", "here", at(seconds), 30)
    assert begun.accepted
    ended = rules.finish(begun.course, "token", outcome, ENVELOPE, at(seconds + took))
    assert ended.accepted
    return ended.course


@pytest.fixture
def opened() -> Course:
    return rules.observe(Course(), down(0), ENVELOPE).course


class TestTheEnvelope:
    def test_the_first_attempt_is_at_once_and_one_opening_is_one(self, opened):
        assert decided(opened, 0) is Action.ATTEMPT
        again = rules.observe(opened, down(5, "check:bank:7"), ENVELOPE)
        assert again.course == opened

    def test_pauses_are_60_then_120_seconds_and_the_third_failure_locks_and_calls(self, opened):
        course = tried(opened, 0)
        assert (decided(course, 60.9), decided(course, 61)) == (Action.WAIT, Action.ATTEMPT)
        course = tried(course, 61)
        assert (decided(course, 181.9), decided(course, 182)) == (Action.WAIT, Action.ATTEMPT)
        begun = rules.begin(course, "t", "here", at(182), 30)
        step = rules.finish(begun.course, "t", Outcome.FAILED, ENVELOPE, at(183))
        assert [told.event for told in step.told] == ["locked"]
        assert step.told[0].data["attempts"] == 3
        assert decided(step.course, 100_000) is Action.LOCKED

    def test_what_is_not_met_beforehand_costs_no_attempt(self, opened):
        course = tried(opened, 0, Outcome.SKIPPED)
        assert (course.attempts, course.locked_at) == (0, None)
        assert (decided(course, 60), decided(course, 61)) == (Action.WAIT, Action.ATTEMPT)

    def test_a_dry_run_is_told_once_and_locks_nothing(self, opened):
        course = tried(opened, 0, Outcome.DRY_RUN)
        assert course.locked_at is None
        assert decided(course, 100_000) is Action.WAIT

    def test_children_wait_for_their_parents(self, opened):
        assert decided(opened, 0, blocked_by="database") is Action.WAIT

    def test_what_a_person_holds_is_left_alone(self, opened):
        decision = rules.decide(opened, ENVELOPE, at(0), seen=Condition.HELD)
        assert (decision.action, decision.why) == (
            Action.WAIT,
            "a person holds its breaker, or it is in maintenance",
        )
        assert rules.observe(Course(), Seen(Condition.HELD, at(0)), ENVELOPE).course == Course()

    def test_the_unknown_neither_begins_nor_ends_an_opening(self, opened):
        unknown = Seen(Condition.UNKNOWN, at(10))
        assert rules.observe(Course(), unknown, ENVELOPE).course == Course()
        assert rules.observe(opened, unknown, ENVELOPE).course == opened

    @pytest.mark.parametrize("seen", [Condition.UNKNOWN, Condition.WELL])
    def test_only_what_is_known_to_be_down_is_tried(self, opened, seen):
        assert rules.decide(opened, ENVELOPE, at(0), seen=seen).action is Action.WAIT


class TestComingBack:
    def test_well_again_clears_lock_and_tells_how_long_it_took(self, opened):
        course = opened
        for begins in (0, 61, 182):
            course = tried(course, begins)
        step = rules.observe(course, well(300), ENVELOPE)
        assert (step.course.opening, step.course.locked_at) == (None, None)
        (told,) = step.told
        assert (told.event, told.data["by"], told.data["seconds"]) == ("recovered", "itself", 300)

    def test_a_persons_reset_forgets_the_attempts(self, opened):
        course = rules.observe(tried(opened, 0), well(10, by="ann"), ENVELOPE).course
        again = rules.observe(course, down(12, "breaker:bank:2"), ENVELOPE).course
        assert (again.attempts, decided(again, 12)) == (0, Action.ATTEMPT)

    def test_a_relapse_within_the_cooldown_goes_on_where_it_was(self, opened):
        course = tried(opened, 0, Outcome.SUCCEEDED)
        again = rules.observe(course, down(30, "breaker:bank:2"), ENVELOPE).course
        assert (again.attempts, decided(again, 30), decided(again, 61)) == (1, Action.WAIT, Action.ATTEMPT)

    def test_mending_for_half_a_minute_at_a_time_locks_too(self, opened):
        course, seconds = opened, 0.0
        for number in (2, 3, 4):
            course = tried(course, seconds, Outcome.SUCCEEDED)
            seconds += 31
            step = rules.observe(course, down(seconds, f"breaker:bank:{number}"), ENVELOPE)
            course, seconds = step.course, seconds + 31
        assert [told.event for told in step.told] == ["locked"]

    def test_after_the_cooldown_it_is_a_failure_of_its_own(self, opened):
        course = tried(opened, 0, Outcome.SUCCEEDED)
        again = rules.observe(course, down(62, "breaker:bank:2"), ENVELOPE).course
        assert (again.attempts, decided(again, 62)) == (0, Action.ATTEMPT)

    def test_a_check_that_has_not_looked_again_reopens_nothing(self, opened):
        course = tried(opened, 0, Outcome.SUCCEEDED)
        stale = replace(down(0, "check:bank:0"), at=at(0.5))
        assert rules.observe(course, stale, ENVELOPE).course == course

    def test_what_recovery_itself_closed_counts_as_a_test(self, opened):
        step = rules.observe(tried(opened, 0), well(9, by=ACTOR), ENVELOPE)
        assert (step.told[0].data["by"], step.course.attempts) == ("a test", 1)


class TestLeases:
    def test_two_workers_never_run_one_handler_at_once(self, opened):
        begun = rules.begin(opened, "one", "here", at(0), 30).course
        assert not rules.begin(begun, "two", "there", at(1), 30).accepted
        assert decided(begun, 1) is Action.WAIT

    def test_a_lease_that_is_over_is_a_lost_attempt_and_counts(self, opened):
        begun = rules.begin(opened, "one", "here", at(0), 30).course
        assert not rules.expire(begun, ENVELOPE, at(29)).accepted
        lost = rules.expire(begun, ENVELOPE, at(30))
        assert (lost.accepted, lost.course.lease, lost.course.attempts) == (True, None, 1)
        assert (decided(lost.course, 89), decided(lost.course, 90)) == (Action.WAIT, Action.ATTEMPT)

    def test_whoever_comes_too_late_changes_nothing(self, opened):
        begun = rules.begin(opened, "one", "here", at(0), 30).course
        lost = rules.expire(begun, ENVELOPE, at(30)).course
        late = rules.finish(lost, "one", Outcome.SUCCEEDED, ENVELOPE, at(31))
        assert (late.accepted, late.course) == (False, lost)

    def test_three_workers_that_die_lock_it(self, opened):
        course, seconds = opened, 0.0
        for _ in range(3):
            course = rules.begin(course, "t", "here", at(seconds), 30).course
            step = rules.expire(course, ENVELOPE, at(seconds + 30))
            course, seconds = step.course, seconds + 300
        assert [told.event for told in step.told] == ["locked"]


class TestByHand:
    def test_an_order_runs_in_spite_of_lock_and_pause_and_costs_no_attempt(self, opened):
        course = opened
        for begins in (0, 61, 182):
            course = tried(course, begins)
        ordered = rules.order(course, "ann", "I restarted the host", at(190))
        assert decided(ordered, 190) is Action.ATTEMPT
        failed = tried(ordered, 190)
        assert (failed.attempts, failed.locked_at, failed.ordered) == (3, course.locked_at, None)
        done = tried(rules.order(course, "ann", "", at(190)), 190, Outcome.SUCCEEDED)
        assert (done.attempts, done.locked_at, done.opening) == (0, None, None)

    def test_unlocking_begins_anew(self, opened):
        course = opened
        for begins in (0, 61, 182):
            course = tried(course, begins)
        step = rules.unlock(course, at(200))
        assert (step.accepted, step.course.attempts, decided(step.course, 200)) == (True, 0, Action.ATTEMPT)
        assert not rules.unlock(Course(), at(0)).accepted


class TestGraphAndBudget:
    def test_the_farthest_parent_that_is_down_is_named(self):
        parents = {"shop": ("api",), "api": ("database",), "database": ()}
        assert graph.blocked_by("shop", parents, {"shop", "api", "database"}) == "database"
        assert graph.blocked_by("shop", parents, {"shop", "api"}) == "api"
        assert graph.blocked_by("api", parents, {"shop", "api"}) is None

    def test_a_circle_ends(self):
        assert graph.ancestors("a", {"a": ("b",), "b": ("a",)}) == ["b"]

    def test_parents_follow_from_checks_also_through_checks_of_no_service(self):
        found = graph.parents_of_services(
            {"shop": (), "database": (), "mail": ("shop",)},
            {"shop": "shop-http", "database": "mysql"},
            {"shop-http": ("network",), "network": ("mysql",)},
        )
        assert found == {"shop": ("database",), "database": (), "mail": ("shop",)}

    def test_the_budget_counts_what_runs_and_what_began_lately(self):
        limits = budget.Limits(concurrency=2, per_minute=5)
        assert budget.left(limits, running=0, begun=0) == 2
        assert budget.left(limits, running=1, begun=4) == 1
        assert budget.left(limits, running=0, begun=7) == 0
        assert "concurrency" in (budget.refusal(limits, running=2, begun=0) or "")
        assert "per_minute" in (budget.refusal(limits, running=0, begun=5) or "")
        assert budget.refusal(limits, running=1, begun=4) is None


class Life(RuleBasedStateMachine):
    """Anything may happen in any order; the envelope holds whatever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.course = Course()
        self.now = 0.0
        self.token = 0
        self.begun: list[float] = []
        self.ended: float | None = None
        self.openings = 0

    def seen(self, condition: Condition, by: str = "") -> None:
        before = self.course
        self.openings += 1
        sight = Seen(condition, at(self.now), f"breaker:x:{self.openings}", None, "breaker", "r", by)
        self.course = rules.observe(self.course, sight, ENVELOPE).course
        if before.opening != self.course.opening and self.course.attempts == 0:
            self.begun, self.ended = [], None

    @rule(seconds=st.floats(0.1, 200))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        step = rules.expire(self.course, ENVELOPE, at(self.now))
        if step.accepted:
            self.course, self.ended = step.course, self.now

    @rule(condition=st.sampled_from(list(Condition)), by=st.sampled_from(["", ACTOR, "ann"]))
    def look(self, condition: Condition, by: str) -> None:
        self.seen(condition, by)

    @precondition(lambda self: decided(self.course, self.now) is Action.ATTEMPT)
    @rule()
    def begin(self) -> None:
        self.token += 1
        if self.course.ordered is None:
            if self.begun and self.ended is not None:
                assert self.now - self.ended >= 60 - 1e-3
            self.begun.append(self.now)
        step = rules.begin(self.course, str(self.token), "here", at(self.now), 30)
        assert step.accepted
        self.course = step.course

    @precondition(lambda self: self.course.lease is not None)
    @rule(outcome=st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED]), late=st.booleans())
    def finish(self, outcome: Outcome, late: bool) -> None:
        token = str(self.token - 1) if late else str(self.token)
        step = rules.finish(self.course, token, outcome, ENVELOPE, at(self.now))
        assert step.accepted is not late
        self.course = step.course
        if step.accepted:
            self.ended = self.now

    @rule()
    def order(self) -> None:
        if self.course.lease is None:
            self.course = rules.order(self.course, "ann", "", at(self.now))

    @precondition(lambda self: self.course.lease is None)
    @rule()
    def unlock(self) -> None:
        self.course = rules.unlock(self.course, at(self.now)).course
        self.begun, self.ended = [], None

    @invariant()
    def never_more_attempts_than_allowed(self) -> None:
        assert 0 <= self.course.attempts <= ENVELOPE.max_attempts
        assert len(self.begun) <= ENVELOPE.max_attempts

    @invariant()
    def locked_means_a_person_is_wanted_for_what_is_down(self) -> None:
        if self.course.locked_at is not None:
            assert self.course.opening is not None
            assert self.course.attempts == ENVELOPE.max_attempts


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
