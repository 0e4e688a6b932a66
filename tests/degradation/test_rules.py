"""The rules of the level, against what must hold of any course of scores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.degradation.levels import LEVELS, Level
from regrow.degradation.rules import NOTHING_KNOWN, Course, Reading, Rules, Score, score_of, step

RULES = Rules()
NO_MARGIN = Rules(margin=0.0, worsen_after=0, improve_after=0)
STATUSES = ("healthy", "degraded", "unhealthy", "unknown")

readings = st.lists(
    st.builds(
        Reading,
        name=st.text(min_size=1, max_size=3),
        status=st.sampled_from(STATUSES),
        weight=st.sampled_from([0.0, 0.5, 1.0, 5.0]),
        required=st.booleans(),
    ),
    max_size=12,
)


def certain(value):
    return Score(value, value)


def after(*told, begin=None, every=10_000, rules=RULES):
    """The courses that scores lead through, one every ten seconds."""
    course, courses = begin, []
    for number, score in enumerate(told):
        score = score if isinstance(score, Score) else certain(score)
        course = step(course, score, rules, 1_000_000 + number * every)
        courses.append(course)
    return courses


def levels(*told, **options):
    return [str(course.level) for course in after(*told, **options)]


# The score ------------------------------------------------------------------------------------------------


def test_degraded_is_half_and_required_weighs_what_it_is_given():
    score = score_of(
        [
            Reading("db", "degraded", 5, required=True),
            Reading("disk", "unhealthy", 1),
            Reading("cpu", "healthy", 4),
        ]
    )
    assert score.low == score.high == 65.0
    assert score.pulls == (("db", "degraded", 25.0), ("disk", "unhealthy", 10.0))
    assert not score.required_down


@given(readings)
def test_the_score_lies_between_its_ends_and_is_certain_without_unknowns(told):
    score = score_of(told)
    assert 0 <= score.low <= score.high <= 100
    counted = [reading for reading in told if reading.weight]
    if counted:
        assert (score.low == score.high) == all(reading.status != "unknown" for reading in counted)
    else:
        assert score == NOTHING_KNOWN


@given(readings, st.sampled_from([None, *LEVELS]))
def test_what_is_unknown_is_never_better_than_what_is_healthy(told, begin):
    """Whoever stops measuring a healthy check gets no better level for it, now or after any time."""
    begin = begin and Course(begin, 0)
    unknown = [
        Reading(one.name, "unknown" if one.status == "healthy" else one.status, one.weight, one.required)
        for one in told
    ]
    known, doubted = begin, begin
    for number in range(30):
        now = (number + 1) * 10_000
        known, doubted = step(known, score_of(told), RULES, now), step(doubted, score_of(unknown), RULES, now)
        assert doubted.level >= known.level


@given(readings)
def test_normal_is_only_what_is_known_to_be(told):
    """Where the level ends is normal only if the score would be good with every unknown check down."""
    course = None
    for number in range(30):
        course = step(course, score_of(told), RULES, number * 10_000)
    if course.level is Level.NORMAL:
        assert score_of(told).low > 95 - RULES.margin


def test_a_silent_monitor_is_not_normal_and_not_critical_either():
    assert levels(100, *[NOTHING_KNOWN] * 30)[-1] == "minor"
    assert levels(*[NOTHING_KNOWN] * 30)[-1] == "minor"
    begin = Course(Level.SEVERE, 990_000)
    assert levels(*[NOTHING_KNOWN] * 100, begin=begin)[-1] == "severe"


def test_a_required_check_that_is_down_is_not_outvoted_by_many_others():
    many = [Reading(f"check-{number}", "healthy") for number in range(500)]
    score = score_of([*many, Reading("db", "unhealthy", 5, required=True)])
    assert score.low > 95
    assert levels(*[score] * 10)[-1] == "moderate"
    doubtful = score_of([*many, Reading("db", "unknown", 5, required=True)])
    assert levels(*[doubtful] * 10)[-1] == "minor"


# The level ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "level"),
    [(100, "normal"), (95.1, "normal"), (95, "minor"), (80.1, "minor"), (80, "moderate"), (60.1, "moderate"),
     (60, "severe"), (40.1, "severe"), (40, "critical"), (0, "critical")],
)  # fmt: skip
def test_the_thresholds(score, level):
    assert levels(score) == [level]
    assert levels(score, score, begin=Course(Level.NORMAL, 990_000), rules=NO_MARGIN)[-1] == level


def test_a_short_dip_changes_nothing_and_a_lasting_one_does():
    assert set(levels(100, 0, 0, 0, 100, 0, 0, 0, 100)) == {"normal"}
    assert levels(100, 0, 0, 0, 0) == ["normal"] * 4 + ["critical"]


def test_it_gets_better_later_than_it_gets_worse():
    course = levels(0, *[100] * 13)
    assert course[:13] == ["critical"] * 13
    assert course[13] == "normal"


def test_the_level_goes_as_far_as_the_score_was_beyond_all_the_time():
    assert levels(100, 70, 30, 30, 30) == ["normal"] * 4 + ["moderate"]
    assert levels(100, 70, 30, 30, 30, 30)[-1] == "critical"


def test_a_score_near_a_boundary_moves_nothing_in_either_direction():
    for level in ("normal", "minor"):
        course = levels(*[94.5, 95.5] * 50, begin=Course(Level(level), 990_000))
        assert set(course) == {level}


def test_a_pause_of_the_monitor_counts_for_no_time():
    began = after(100, 0)[-1]
    late = step(began, certain(0), RULES, began.at + 3_600_000)
    assert late.level == "normal"
    assert step(late, certain(0), RULES, late.at + 30_000).level == "critical"


def test_a_clock_that_jumps_back_counts_for_no_time():
    began = after(100, 0)[-1]
    assert step(began, certain(0), RULES, began.at - 50_000).level == "normal"


scores = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda ends: Score(min(ends), max(ends))),
    min_size=1,
    max_size=60,
)


@given(scores, st.lists(st.integers(1, 90_000), min_size=60, max_size=60))
def test_no_level_is_left_before_its_time(told, pauses):
    """Whatever the scores and the ticks: worse only after ``worsen_after``, better only after ``improve_after``
    of scores that were all beyond the boundary that was crossed."""
    now, course, past = 0, None, []
    for score, pause in zip(told, pauses, strict=False):
        now += pause
        before, course = course, step(course, score, RULES, now)
        past.append((now, score))
        if before is None or course.level is before.level:
            continue
        worse = course.level > before.level
        boundary = course.level.rank - 1 if worse else course.level.rank
        long = RULES.worsen_after if worse else RULES.improve_after
        threshold = RULES.thresholds[boundary]
        lately = [score for at, score in past if at >= now - long]
        if worse:
            ends = [score.low if boundary < RULES.when_unknown.rank else score.high for score in lately]
            assert all(end <= threshold - RULES.margin for end in ends)
        else:
            assert all(score.low > threshold + RULES.margin for score in lately)


@given(scores)
def test_a_score_that_stays_reaches_its_level_and_stays_there(told):
    last = told[-1]
    course = after(*told, *[last] * 40)[-1]
    assert step(course, last, RULES, course.at + 10_000).level is course.level
    if last.low == last.high and all(abs(last.low - edge) > 1 for edge in RULES.thresholds):
        assert course.level is step(None, last, RULES, 0).level


def test_levels_compare_by_how_bad_they_are():
    assert Level.NORMAL < "minor" < Level.CRITICAL
    assert max(Level.SEVERE, Level.MINOR) is Level.SEVERE
    assert Level.MODERATE == "moderate"
    assert sorted([Level.SEVERE, Level.CRITICAL, Level.NORMAL]) == ["normal", "severe", "critical"]
