"""What a crash means, on a clock made of numbers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.stack.rules import RUNNING, STARTING, TESTING, Exit, GiveUp, Restart, RestartPolicy, decide, pause


def crashes(*lasted: float) -> list[Exit]:
    """Exits of children that were started the moment the one before had ended."""
    ends = list(itertools.accumulate(lasted))
    return [Exit(end - run, end, 1) for end, run in zip(ends, lasted, strict=True)]


def test_the_first_crash_is_answered_within_a_second() -> None:
    (crash,) = crashes(5)
    assert decide(RUNNING, [crash]) == Restart(at=crash.ended + 1, number=1, of=5)


def test_further_crashes_wait_thirty_seconds_and_then_twice_as_long_each_time() -> None:
    exits = crashes(1, 1, 1, 1, 1)
    waits = [decide(RUNNING, exits[:n]).at - exits[n - 1].ended for n in range(1, 6)]
    assert waits == [1, 30, 60, 120, 240]


def test_after_five_restarts_in_a_row_it_gives_up_and_says_for_what() -> None:
    exits = crashes(1, 2, 3, 4, 5, 6)
    assert isinstance(decide(RUNNING, exits[:5]), Restart)
    assert decide(RUNNING, exits) == GiveUp(tuple(exits))


def test_a_child_that_ran_for_ten_minutes_starts_afresh() -> None:
    exits = crashes(1, 1, 1, 1, 1, 600)
    assert decide(RUNNING, exits) == Restart(at=exits[-1].ended + 1, number=1, of=5)


def test_a_stable_run_in_the_past_ends_the_row_but_counts_itself() -> None:
    exits = crashes(1, 1, 1, 1, 700, 1)
    assert decide(RUNNING, exits) == Restart(at=exits[-1].ended + 30, number=2, of=5)


def test_just_under_ten_minutes_is_not_stable() -> None:
    assert isinstance(decide(RUNNING, crashes(1, 1, 1, 1, 1, 599.9)), GiveUp)


def test_before_the_stack_was_ever_ready_two_restarts_must_do() -> None:
    assert isinstance(decide(STARTING, crashes(1, 1)), Restart)
    assert isinstance(decide(STARTING, crashes(1, 1, 1)), GiveUp)


def test_the_testing_profile_has_the_same_shape_in_seconds() -> None:
    assert TESTING.attempts == RUNNING.attempts
    assert sum(pause(TESTING, number) for number in range(1, 6)) < 20


policies = st.builds(
    RestartPolicy,
    attempts=st.integers(1, 8),
    first_pause=st.floats(0, 2),
    pause=st.floats(0.1, 60),
    factor=st.floats(1, 4),
    stable_after=st.floats(1, 1000),
)


@given(policies, st.lists(st.floats(0.01, 2000), min_size=1, max_size=20))
def test_it_gives_up_exactly_when_too_many_unstable_runs_came_in_a_row(
    policy: RestartPolicy, lasted: list[float]
) -> None:
    row = len(list(itertools.takewhile(lambda run: run < policy.stable_after, reversed(lasted))))
    row = min(row + 1, len(lasted))  # the stable run before them counts as the first of the row
    decision = decide(policy, [Exit(0, run, 1) for run in lasted])
    assert isinstance(decision, GiveUp) == (row > policy.attempts)
    if isinstance(decision, Restart):
        assert decision.number == row
        assert decision.at >= lasted[-1]


@pytest.mark.parametrize("number", range(2, 8))
def test_no_pause_is_shorter_than_the_one_before(number: int) -> None:
    assert pause(RUNNING, number) > pause(RUNNING, number - 1)
