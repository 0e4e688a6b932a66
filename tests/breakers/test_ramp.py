"""Slow start: the share of the load that is right so long after a recovery, and how it is spent."""

from __future__ import annotations

import contextlib
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from regrow.breakers import admission, show
from regrow.breakers.ramp import Pace, Ramp, TokenBucket
from regrow.breakers.rules import State
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError, SettingsError
from tests.waiting import eventually

NOW = 1_000.0


def test_the_share_goes_evenly_from_the_first_to_all():
    ramp = Ramp(10, first=0.2)
    assert [round(ramp.share(elapsed), 6) for elapsed in (-1, 0, 5, 10, 99)] == [0.2, 0.2, 0.6, 1, 1]
    assert Ramp(0).share(0) == 1


@given(st.floats(0.1, 600), st.floats(0.01, 1), st.floats(0, 1))
def test_a_share_is_reached_when_it_is_said_to_be(seconds, first, share):
    ramp = Ramp(seconds, first)
    assert ramp.share(ramp.reaches(share)) == pytest.approx(max(share, first))


@given(st.floats(0, 100), st.floats(-50, 200), st.lists(st.floats(0, 60), min_size=1, max_size=8))
def test_what_a_time_is_worth_does_not_depend_on_how_it_is_cut(seconds, begin, pieces):
    ramp, cut, total = Ramp(seconds), begin, 0.0
    for piece in pieces:
        total += ramp.worth(cut, cut + piece)
        cut += piece
    assert total == pytest.approx(ramp.worth(begin, cut), abs=1e-6)
    assert total <= cut - begin + 1e-6


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30)), max_size=60), st.floats(0, 30))
def test_no_more_is_granted_than_the_ramp_is_worth_and_the_burst(steps, seconds):
    pace, now, bucket, granted = Pace(10, burst=5, ramp=Ramp(seconds)), NOW, None, 0
    for passed, wanted in steps:
        now += passed
        grant = pace.take(bucket, wanted, now=now, since=NOW)
        bucket = grant.bucket
        granted += grant.granted
        assert 0 <= grant.granted <= wanted
        assert granted <= 5 + 10 * pace.ramp.worth(0, now - NOW) + 1e-6


def test_a_rate_grows_from_a_tenth_to_all_and_then_stays():
    pace, bucket, a_second = Pace(10, burst=1, ramp=Ramp(10)), None, []
    for second in range(14):
        count = 0
        for tick in range(100):
            grant = pace.take(bucket, 1, now=NOW + second + tick / 100, since=NOW)
            bucket, count = grant.bucket, count + grant.granted
        a_second.append(count)
    assert a_second[0] <= 3
    assert all(later >= earlier - 1 for earlier, later in pairwise(a_second))  # a token may fall on an edge
    assert set(a_second[10:]) <= {9, 10, 11}


@given(st.floats(0.1, 50), st.floats(0, 20), st.floats(0, 0.99))
def test_after_the_wait_there_is_one_more(per_second, elapsed, tokens):
    pace = Pace(per_second, ramp=Ramp(10))
    none = pace.take(TokenBucket(tokens, NOW + elapsed), 1, now=NOW + elapsed, since=NOW)
    assert none.granted == 0
    later = NOW + elapsed + none.wait + 1e-6
    assert pace.take(none.bucket, 1, now=later, since=NOW).granted == 1


def test_without_a_recovery_the_whole_burst_is_there():
    assert Pace(5, burst=20, ramp=Ramp(60)).take(None, 50, now=NOW, since=None).granted == 20


def test_long_after_a_recovery_the_rate_is_the_full_one():
    pace = Pace(5, burst=20, ramp=Ramp(60))
    assert pace.take(TokenBucket(0, NOW), 50, now=NOW + 2, since=None).granted == 10


def test_a_clock_that_was_set_back_gives_nothing_and_takes_nothing():
    pace = Pace(10, burst=5)
    before = pace.take(TokenBucket(0.5, NOW), 1, now=NOW - 3_600, since=None)
    assert (before.granted, before.bucket.tokens) == (0, 0.5)


@pytest.mark.parametrize(
    "make", [lambda: Ramp(-1), lambda: Ramp(1, first=0), lambda: Pace(0), lambda: Pace(1, burst=0.5)]
)
def test_values_that_make_no_sense_are_refused(make):
    with pytest.raises(SettingsError):
        make()


# Behind a breaker --------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of callers, to be moved by hand; the reporter's is its own."""
    moved = [0.0]
    ahead = SimpleNamespace(monotonic=lambda: time.monotonic() + moved[0])
    monkeypatch.setattr(admission, "timer", ahead)
    return moved


@pytest.fixture
def closed(make_reporter):
    """A breaker that was open a moment ago, with a ramp of 100 s; local to this process."""

    def make(**settings):
        breaker = CircuitBreaker(
            "payments",
            ramp_seconds=100,
            recovery_timeout=0.05,
            success_threshold=1,
            reporter=make_reporter(),
            **settings,
        )
        for _ in range(5):
            with contextlib.suppress(ZeroDivisionError):
                breaker.call(lambda: 1 / 0)
        assert breaker.state != "closed"
        assert eventually(lambda: probed(breaker), 5)
        assert breaker.state == "closed"
        return breaker

    return make


def probed(breaker):
    try:
        return breaker.call(lambda: True)
    except CircuitOpenError:
        return None


def let_through(breaker, calls=2000):
    """How many of so many calls were let through, and what the others were told."""
    refused = []
    for _ in range(calls):
        try:
            breaker.admit().release()
        except CircuitOpenError as error:
            refused.append(error.retry_after)
    return calls - len(refused), refused


def test_after_it_has_closed_calls_come_back_little_by_little(closed, clock):
    breaker = closed()
    shares = []
    for second in (0, 50, 99.9):
        clock[0] = second
        shares.append(let_through(breaker)[0] / 2000)
    assert shares == pytest.approx([0.1, 0.55, 1], abs=0.06)
    clock[0] = 101
    assert let_through(breaker, 50)[0] == 50
    assert breaker._cell.gate.admits, "and then the closed path is the short one again"


def test_who_is_turned_away_is_told_to_come_back_some_time_within_the_ramp(closed):
    _, told = let_through(closed())
    assert 0 < min(told) < 15
    assert 85 < max(told) <= 100
    assert sum(told) / len(told) == pytest.approx(50, abs=6)


def test_failures_while_calls_come_back_open_it_as_ever(closed):
    breaker, failed = closed(), 0
    for _ in range(2000):
        try:
            breaker.call(lambda: 1 / 0)
        except ZeroDivisionError:
            failed += 1
        except CircuitOpenError:
            if breaker._cell.gate.state is not State.CLOSED:
                break
    assert failed == 5


def test_a_person_who_resets_a_closed_breaker_ends_the_ramp(closed):
    breaker = closed()
    breaker.reset(actor="ann")
    assert let_through(breaker, 50)[0] == 50


def test_every_process_of_a_fleet_takes_part_in_the_ramp_and_it_is_shown(make_reporter, redis_url):
    settings = {"ramp_seconds": 100, "recovery_timeout": 0.2, "success_threshold": 1}
    first, second = (
        CircuitBreaker("payments", reporter=make_reporter(redis_url), **settings) for _ in range(2)
    )
    second.call(int)
    for _ in range(5):
        with contextlib.suppress(ZeroDivisionError, CircuitOpenError):
            first.call(lambda: 1 / 0)
    eventually(lambda: second.state != "closed", 5)
    eventually(lambda: probed(first), 5)
    eventually(lambda: first.state == second.state == "closed", 5)
    for breaker in (first, second):
        assert let_through(breaker)[0] / 2000 == pytest.approx(0.1, abs=0.08)
    with redis.Redis.from_url(redis_url) as client:
        assert show(client, "payments").ramp == pytest.approx(0.1, abs=0.08)


def test_a_redis_that_was_flushed_in_the_middle_of_a_ramp_is_told_of_it(make_reporter, redis_url):
    breaker = CircuitBreaker(
        "payments",
        reporter=make_reporter(redis_url),
        ramp_seconds=100,
        recovery_timeout=0.2,
        success_threshold=1,
    )
    with contextlib.suppress(CircuitOpenError):
        while True:
            with contextlib.suppress(ZeroDivisionError):
                breaker.call(lambda: 1 / 0)
    eventually(lambda: probed(breaker), 10)
    eventually(lambda: breaker.state == "closed", 10)
    epoch = breaker.epoch
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        eventually(lambda: show(client, "payments"), 10, what="the process has told it")
        assert 0 < show(client, "payments").ramp < 1
    newcomer = CircuitBreaker("payments", reporter=make_reporter(redis_url), ramp_seconds=100)
    eventually(lambda: newcomer.state == "closed" and newcomer.epoch == epoch, 10)
    assert let_through(newcomer)[0] < 1_900, "who comes later takes part in what is left of it"
