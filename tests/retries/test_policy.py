"""The retry policy as a value."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import RetryPolicy, SettingsError
from regrow.errors import CircuitOpenError
from regrow.retries.hints import retry_after

RNG = random.Random(7)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Answer(Exception):
    def __init__(self, **headers):
        self.response = SimpleNamespace(
            status_code=503, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


def delays(count=6, **settings):
    policy = RetryPolicy(max_retries=count, max_delay=1000, jitter="none", **settings)
    return [policy.decide(attempt, OSError(), 0, RNG) for attempt in range(1, count + 1)]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("exponential", [1, 2, 4, 8, 16, 32]),
        ("linear", [1, 2, 3, 4, 5, 6]),
        ("fixed", [1, 1, 1, 1, 1, 1]),
        ("fibonacci", [1, 1, 2, 3, 5, 8]),
    ],
)
def test_the_strategies_grow_as_their_names_say(strategy, expected):
    assert delays(strategy=strategy) == expected
    assert delays(strategy=strategy, base_delay=0.5) == [delay / 2 for delay in expected]


def test_it_stops_after_its_retries():
    policy = RetryPolicy(max_retries=2)
    assert policy.decide(2, OSError(), 0, RNG) is not None
    assert policy.decide(3, OSError(), 0, RNG) is None
    assert RetryPolicy(max_retries=0).decide(1, OSError(), 0, RNG) is None


def test_it_stops_where_the_next_try_would_begin_after_the_deadline():
    policy = RetryPolicy(jitter="none", deadline=10)
    assert policy.decide(1, OSError(), 9.0, RNG) == 1.0
    assert policy.decide(1, OSError(), 9.1, RNG) is None


def test_only_the_named_errors_are_retried():
    policy = RetryPolicy(on=(OSError, lambda error: "again" in str(error)), ignore=FileNotFoundError)
    tried = [OSError(), ConnectionResetError(), ValueError("again"), ValueError("no"), FileNotFoundError()]
    assert [policy.decide(1, error, 0, RNG) is not None for error in tried] == [
        True,
        True,
        True,
        False,
        False,
    ]


@given(
    st.integers(1, 2000),
    st.sampled_from(["exponential", "linear", "fixed", "fibonacci"]),
    st.sampled_from(["full", "equal", "decorrelated", "none"]),
    st.floats(0, 100),
    st.floats(0, 100),
    st.integers(),
    st.none() | st.floats(0, 100),
)
def test_no_delay_is_negative_or_above_the_maximum(attempt, strategy, jitter, base, most, seed, previous):
    policy = RetryPolicy(max_retries=5000, base_delay=base, max_delay=most, strategy=strategy, jitter=jitter)
    delay = policy.decide(attempt, OSError(), 0, random.Random(seed), previous=previous)
    assert 0 <= delay <= most


@given(st.integers(1, 10), st.integers())
def test_full_jitter_spreads_below_the_backoff_and_equal_jitter_over_its_upper_half(attempt, seed):
    full, equal = RetryPolicy(jitter="full"), RetryPolicy(jitter="equal")
    backoff = full.backoff(attempt)
    assert 0 <= full.spread(attempt, random.Random(seed)) <= backoff
    assert backoff / 2 <= equal.spread(attempt, random.Random(seed)) <= backoff


@given(st.floats(1, 30), st.integers())
def test_decorrelated_jitter_grows_from_the_pause_before(previous, seed):
    policy = RetryPolicy(jitter="decorrelated")
    delay = policy.spread(5, random.Random(seed), previous)
    assert 1 <= delay <= min(30, max(1, previous * 3))


def test_the_same_chance_gives_the_same_delay():
    policy = RetryPolicy()
    assert policy.decide(3, OSError(), 0, random.Random(1)) == policy.decide(
        3, OSError(), 0, random.Random(1)
    )


class TestRetryAfter:
    def test_never_sooner_than_asked_and_each_a_little_later_in_its_own_way(self):
        policy = RetryPolicy(base_delay=1)
        asked = [policy.decide(1, Answer(Retry_After="20"), 0, random.Random(seed)) for seed in range(50)]
        assert all(20 <= delay <= 21 for delay in asked)
        assert len(set(asked)) > 40

    def test_an_open_breaker_is_waited_for(self):
        policy = RetryPolicy(jitter="none", max_delay=5)
        assert policy.decide(1, CircuitOpenError("payments", 42.0), 0, RNG) == 42.0

    def test_what_would_take_too_long_is_given_up(self):
        policy = RetryPolicy(max_retry_after=60)
        assert policy.decide(1, Answer(Retry_After="61"), 0, RNG) is None
        assert RetryPolicy(deadline=30).decide(1, Answer(Retry_After="31"), 0, RNG) is None

    def test_it_can_be_left_unheard(self):
        policy = RetryPolicy(honour_retry_after=False, jitter="none")
        assert policy.decide(1, Answer(Retry_After="20"), 0, RNG) == 1.0

    def test_a_date_is_measured_by_the_servers_own_clock(self):
        then = format_datetime(NOW + timedelta(seconds=90), usegmt=True)
        here = format_datetime(NOW, usegmt=True)
        wrong = NOW + timedelta(hours=1)
        assert retry_after(Answer(Retry_After=then, Date=here), wrong) == 90
        assert retry_after(Answer(Retry_After=then), NOW) == 90
        assert retry_after(Answer(Retry_After=here), NOW + timedelta(seconds=5)) == 0

    @pytest.mark.parametrize("said", ["soon", "", "-5", "inf", "nan", "Mon, 99 Foo"])
    def test_nonsense_is_no_hint(self, said):
        assert retry_after(Answer(Retry_After=said), NOW) is None

    def test_an_error_without_a_response_has_no_hint(self):
        assert retry_after(OSError(), NOW) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("base_delay", -0.1),
        ("max_delay", float("inf")),
        ("deadline", float("nan")),
        ("strategy", "quadratic"),
        ("jitter", "some"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name):
        RetryPolicy(**{name: value})
