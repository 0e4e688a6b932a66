"""How fast letters go home: never above the rate, yielding to the service, slowly after an outage."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from regrow.dead_letters import fairness, leasing, paces, pacing, service
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.pacing import Gate, Limits, Paced, Seen
from regrow.engine import Engine
from tests.dead_letters.conftest import Clock, Post, call, free

NOW = datetime(2026, 5, 4, tzinfo=UTC)
LIMITS = Limits(rate=100, burst=50, slow_start=60, recovery=30)
CLOSED = Gate()


def _later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 200)), max_size=60))
def test_never_more_goes_than_rate_and_burst_allow(asked: list[tuple[float, int]]) -> None:
    paced, at = pacing.first(CLOSED, LIMITS, NOW), 0.0
    spent: list[tuple[float, int]] = []
    for pause, wanted in asked:
        at += pause
        given_ = pacing.grant(paced, CLOSED, LIMITS, wanted, _later(at))
        paced = given_.paced
        spent.append((at, given_.granted))
        assert given_.granted <= wanted
        assert wanted == 0 or given_.granted or given_.wait > 0
    for start, (begin, _) in enumerate(spent):
        total = 0
        for moment, granted in spent[start:]:
            total += granted
            assert total <= LIMITS.burst + LIMITS.rate * (moment - begin) + 1


def test_an_open_breaker_lets_nothing_go_and_the_rate_begins_small_when_it_closes() -> None:
    paced = pacing.first(CLOSED, LIMITS, NOW)
    held = pacing.grant(paced, Gate("open", 30.0), LIMITS, 50, _later(1))
    assert (held.granted, held.wait) == (0, 30.0)
    begun = pacing.grant(held.paced, Gate(since=_later(100)), LIMITS, 500, _later(100))
    assert begun.granted <= 5, "a tenth of the burst"
    paced, went = begun.paced, []
    for tick in range(1, 1200):
        given_ = pacing.grant(paced, Gate(since=_later(100)), LIMITS, 500, _later(100 + tick / 10))
        paced = given_.paced
        went.append((tick / 10, given_.granted))
    per_ten_seconds = Counter[int]()
    for at, granted in went:
        per_ten_seconds[int(at // 10)] += granted
    assert per_ten_seconds[0] < 250
    assert all(before < after for before, after in pairwise(per_ten_seconds[n] for n in range(6)))
    assert 950 <= per_ten_seconds[8] <= 1050


def test_an_outage_between_two_looks_is_known_by_the_breakers_own_time() -> None:
    paced = pacing.first(CLOSED, LIMITS, NOW)
    given_ = pacing.grant(paced, Gate(since=_later(500)), LIMITS, 500, _later(501))
    assert given_.granted < 20
    assert given_.paced.resumed_at == _later(500)


def test_half_open_sends_one_canary_in_each_recovery_interval() -> None:
    paced = pacing.first(CLOSED, LIMITS, NOW)
    sent = []
    for second in range(120):
        given_ = pacing.grant(paced, Gate("half_open"), LIMITS, 50, _later(second))
        paced = given_.paced
        sent.append(given_.granted)
    assert sum(sent) == 4
    assert [at for at, granted in enumerate(sent) if granted] == [0, 30, 60, 90]


def _adapted(paced: Paced, *seen: Seen, gate: Gate = CLOSED) -> Paced:
    for number, one in enumerate(seen, start=1):
        paced = pacing.adapt(paced, one, gate, LIMITS, _later(number))
    return paced


def test_the_rate_falls_on_strain_and_rises_on_success_within_its_bounds() -> None:
    paced = pacing.first(CLOSED, LIMITS, NOW)
    assert _adapted(paced, Seen(80, 20)).rate == 50
    assert _adapted(paced, Seen(95, 5)).rate == 100, "a few failures are daily life"
    floor = _adapted(paced, *[Seen(0, 9)] * 50)
    assert floor.rate == 2
    assert _adapted(floor, Seen(10)).rate == 7
    assert _adapted(floor, *[Seen(10)] * 50).rate == 100
    assert _adapted(floor, Seen()).rate == 2, "nothing seen proves nothing"


def test_live_traffic_that_fails_slows_redrive_down_before_any_letter_does() -> None:
    assert _adapted(pacing.first(CLOSED, LIMITS, NOW), Seen(50), gate=Gate(failing=0.2)).rate == 50


def test_slow_answers_slow_redrive_down_and_a_service_that_stays_slow_is_accepted() -> None:
    usual = _adapted(pacing.first(CLOSED, LIMITS, NOW), *[Seen(10, 0, 1.0)] * 3)
    assert (usual.rate, usual.latency) == (100, 1.0)
    assert _adapted(usual, Seen(10, 0, 4.0)).rate == 80
    assert _adapted(usual, Seen(10, 0, 2.0)).rate == 100
    assert _adapted(usual, *[Seen(10, 0, 4.0)] * 100).rate == 100


@given(st.integers(1, 50), st.integers(1, 40))
def test_every_service_has_its_turn(size: int, services: int) -> None:
    names, owed = [f"s{number}" for number in range(services)], dict[str, float]()
    served = Counter[str]()
    rounds = 2 * services
    for _ in range(rounds):
        shares, owed = fairness.share_out(size, names, owed)
        assert 1 <= sum(shares.values()) <= size
        served.update(shares)
    fair = size * rounds / services
    assert all(abs(served[name] - fair) <= size / services + 2 for name in names)


def test_workers_share_one_pace(letters: Engine, clock: Clock) -> None:
    service.capture_many(letters, [call(n) for n in range(10)])
    burst = letters.settings.dead_letters.burst
    granted = [paces.take(letters, "payments", CLOSED, 400).granted for _ in range(5)]
    assert sum(granted) == burst
    paces.give_back(letters, "payments", 7)
    clock.advance(0.0001)
    assert paces.take(letters, "payments", CLOSED, 7).granted in {7, 0}


def test_strain_that_was_told_slows_the_service_down_and_no_other(
    letters: Engine, clock: Clock, post: Post
) -> None:
    service.capture_many(letters, [call(n) for n in range(20)] + [call(n, service="mail") for n in range(20)])
    clock.advance(60)
    service.process_batch(letters, held=free)
    for attempt, (_, message) in zip(post.attempts, post.home, strict=True):
        letter = service.show(letters, message.headers["regrow-letter"].partition(":")[0]).letter
        clock.advance(0.001)
        if letter.service == "mail":
            service.settle(letters, attempt)
        else:
            service.record_failure(letters, attempt, "busy", Cause(("TimeoutError",)))
    clock.advance(2)
    for name in ("payments", "mail"):
        paces.take(letters, name, CLOSED, 1)
    with letters.database.snapshot() as connection:
        rates = {name: paces._read(connection, name).rate for name in ("payments", "mail")}
    full = letters.settings.dead_letters.rate
    assert rates == {"payments": full / 2, "mail": full}


def test_a_run_waits_for_tokens_within_its_budget_and_leaves_the_rest(
    make_settings, sqlite_url: str, clock: Clock, post: Post
) -> None:
    slow = {"REGROW_DEAD_LETTERS__RATE": "10", "REGROW_DEAD_LETTERS__BURST": "5"}
    engine = Engine(make_settings(database_url=sqlite_url, **slow), sender=post, clock=clock)
    engine.database.upgrade()
    service.capture_many(engine, [call(n) for n in range(100)])
    clock.advance(60)
    done = service.process_batch(engine, held=free, pause=clock.advance, elapsed=lambda: clock().timestamp())
    budget = engine.settings.dead_letters.drain_budget
    assert 10 * budget - 10 <= done["dispatched"] <= 10 * budget + 5
    with engine.database.snapshot() as connection:
        assert leasing.any_due(connection, "payments", clock.now)
    engine.close()
