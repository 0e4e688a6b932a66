"""How the fleet measurement counts what reached the backend."""

from __future__ import annotations

import math

import pytest

from benchmarks.fleet import WATCHED, _leaked, _probes, _until_all_reject
from benchmarks.peers import CONTENDERS, Missing, Policy, contender
from benchmarks.peers.backend import Arrival


def failed(at: float, took: float = 0.1) -> Arrival:
    return Arrival(0, at, ok=False, answered=at + took)


def answered(at: float, took: float = 0.1) -> Arrival:
    return Arrival(0, at, ok=True, answered=at + took)


def test_what_fails_within_the_time_watched_has_leaked_and_a_later_probe_has_not() -> None:
    calls = [answered(9.9), failed(10.0), failed(10.5), failed(10 + WATCHED + 0.1)]
    assert _leaked(calls, 10.0) == 2


def test_all_reject_from_the_first_failure_seen_to_the_last_call_let_through() -> None:
    assert _until_all_reject([failed(10.0), failed(10.05), failed(10.3)], 10.0) == pytest.approx(0.2)


def test_a_fleet_that_still_calls_at_the_end_never_rejects_and_has_no_probes() -> None:
    calls = [failed(10 + step / 10) for step in range(30)]
    assert _until_all_reject(calls, 10.0) == math.inf
    assert _probes(calls, 10.0, healed=13.0, successes=1) == 0


def test_probes_that_overlap_are_counted_until_the_breaker_has_closed() -> None:
    opened, after = [failed(10.0)], 10 + WATCHED
    in_turn = [failed(after), answered(after + 0.2), answered(after + 0.3)]
    then_all = [answered(after + 0.41) for _ in range(8)]
    assert _probes([*opened, *in_turn, *then_all], 10.0, healed=after + 0.1, successes=2) == 1
    together = [answered(after + 0.2), answered(after + 0.25)]
    assert _probes([*opened, *together, *then_all], 10.0, healed=after + 0.1, successes=2) == 2


def test_a_library_that_cannot_be_made_is_missing_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_url: str, _policy: Policy) -> None:
        raise ImportError("No module named 'breakers_of_others'")

    monkeypatch.setitem(CONTENDERS, "other", broken)
    with pytest.raises(Missing, match="ImportError: No module named 'breakers_of_others'"):
        contender("other")("redis://127.0.0.1:1", Policy())
