"""Load shedding: the rules of the limit, and a process that is really late."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.degradation import Shedding
from regrow.degradation.overload import HOPELESS, Load, adjust, admits
from regrow.errors import SettingsError
from tests.waiting import eventually

RULES = {"target": 0.1, "least": 4, "most": 100}


def after(load, *measured):
    for lag, peak in measured:
        load = adjust(load, lag, peak, **RULES)
    return load


@given(st.floats(4, 100), st.lists(st.tuples(st.floats(0, 10), st.integers(0, 1000)), max_size=80))
def test_the_limit_stays_within_its_bounds_and_moves_with_the_lag(limit, measured):
    load = Load(limit)
    for lag, peak in measured:
        before, load = load, adjust(load, lag, peak, **RULES)
        assert 4 <= load.limit <= 100
        assert load.limit <= before.limit if lag > 0.1 else load.limit >= before.limit


def test_a_late_process_is_given_less_than_it_has_and_recovers_when_it_is_used():
    late = after(Load(100.0), (0.5, 30))
    assert late.limit == pytest.approx(27)
    assert after(late, *[(0.0, 1)] * 100).limit == late.limit  # nobody tried it
    assert after(late, *[(0.0, 90)] * 100).limit == 100


def test_the_less_important_is_turned_away_first():
    load = Load(10.0)
    let_in = {
        priority: [n for n in range(12) if admits(load, priority, n, target=0.1)][-1] + 1
        for priority in ("high", "normal", "low")
    }
    assert let_in == {"high": 10, "normal": 9, "low": 6}
    assert admits(Load(1.0), "low", 0, target=0.1)  # one is always begun


def test_where_nothing_is_in_time_only_the_most_important_is_begun():
    hopeless = Load(100.0, lag=0.1 * HOPELESS + 0.01)
    assert [admits(hopeless, priority, 0, target=0.1) for priority in ("high", "normal", "low")] == [
        True, False, False,
    ]  # fmt: skip


def test_priorities_of_paths():
    shedding = Shedding(
        priorities={"/": "low", "/checkout": "high", "/checkout/ads": "low", "/orders": "normal"}
    )
    told = [shedding.priority_of(path) for path in ("/checkout", "/checkout/ads/1", "/orders/1", "/other")]
    assert told == ["high", "low", "normal", "low"]


@pytest.mark.parametrize(
    "given_",
    [{"most": 0}, {"most": 3}, {"lag": 0}, {"lag": float("nan")}, {"priorities": {"/a": "huge"}}, {"priorities": {"a": "low"}}],
)  # fmt: skip
def test_what_cannot_be(given_):
    with pytest.raises(SettingsError):
        Shedding(**given_)


def test_a_loop_that_is_held_up_is_noticed_and_the_limit_falls():
    shedding = Shedding(100)

    async def busy():
        loop = asyncio.get_running_loop()
        for _ in range(200):
            shedding.admits("/", 20, loop)
            time.sleep(0.3)  # what nobody should do in a loop
            await asyncio.sleep(0)
            if shedding.load.limit < 20:
                return True
        return False

    assert asyncio.run(busy())
    assert not shedding.admits("/", 20)


def test_measurements_stop_when_nobody_asks_and_begin_again(monkeypatch):
    from regrow.degradation import overload

    monkeypatch.setattr(overload, "IDLE", 0.2)
    shedding = Shedding()
    shedding.admits("/", 1)
    thread = shedding._thread
    assert thread in threading.enumerate()
    eventually(lambda: not thread.is_alive(), 10)
    shedding.admits("/", 1)
    assert shedding._thread is not thread
