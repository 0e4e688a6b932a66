"""What answers when a service cannot, and who is told when a breaker changes."""

from __future__ import annotations

import asyncio

import pytest

import regrow
from regrow.breakers import Change, listen
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError
from regrow.fallbacks import Fallback
from tests.waiting import eventually


@pytest.fixture
def make(make_reporter):
    reporter = make_reporter()

    def breaker(name="ai", **settings):
        settings = {"failure_threshold": 2, "recovery_timeout": 0.1, "success_threshold": 1, **settings}
        return CircuitBreaker(name, reporter=reporter, **settings)

    return breaker


def broken(*_, **__):
    raise OSError("no answer")


async def broken_later():
    raise OSError("no answer")


async def canned_later(error):
    return f"canned: {type(error).__name__}"


@pytest.fixture(params=["own", "of a key"])
def breaker(request, make):
    own = make(recovery_timeout=60)
    return own if request.param == "own" else own.for_key("tenant-7")


def canned(error):
    return f"canned: {type(error).__name__}"


SHAPES = {
    "call": lambda breaker: breaker.call(broken, fallback=canned),
    "decorator": lambda breaker: breaker(fallback=canned)(broken)(),
    "call_async": lambda breaker: asyncio.run(breaker.call_async(broken_later, fallback=canned)),
    "async decorator": lambda breaker: asyncio.run(breaker(fallback=canned)(broken_later)()),
    "async fallback": lambda breaker: asyncio.run(breaker.call_async(broken_later, fallback=canned_later)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fallback_answers_for_failures_and_then_for_refusals_and_hides_neither_from_the_breaker(
    breaker, shape
):
    answers = [SHAPES[shape](breaker) for _ in range(3)]
    assert answers == ["canned: OSError", "canned: OSError", "canned: CircuitOpenError"]
    assert breaker.state == "open"


def test_a_value_answers_too_and_a_good_answer_needs_none(make):
    breaker = make()
    assert breaker.call(broken, fallback=None) is None
    assert breaker.call(int, "7", fallback=0) == 7
    assert breaker(fallback=[])(broken)() == []


def test_errors_that_do_not_count_are_the_callers_own(make):
    breaker = make(ignore=ValueError)
    with pytest.raises(ValueError):
        breaker.call(int, "x", fallback=0)
    with pytest.raises(KeyboardInterrupt):
        breaker(fallback=0)(interrupted)()


def interrupted():
    raise KeyboardInterrupt


def test_a_function_that_has_a_fallback_of_its_own_keeps_it_when_decorated(make):
    breaker = make()

    @breaker
    def ask(fallback):
        return fallback

    assert ask(fallback="mine") == "mine"
    breaker.force_open(actor="ann")
    with pytest.raises(CircuitOpenError):
        ask(fallback="mine")


class TestTheRegistry:
    def test_the_same_name_is_the_same_fallback_and_is_found_when_it_is_needed(self, make):
        ai = regrow.fallback_for("test-ai")
        ask = make()(fallback=ai)(broken)

        @regrow.fallback_for("test-ai").register
        def later(error):
            return "later"

        assert ask() == "later"
        assert (ai.used, regrow.fallback_for("test-ai") is ai) == (1, True)

    def test_the_next_one_answers_where_one_fails(self):
        fallback = Fallback("ai")
        fallback.register(broken)
        fallback.register("a fixed answer")
        assert fallback(CircuitOpenError("ai", 1)) == "a fixed answer"

    def test_without_any_the_error_goes_on(self, make):
        with pytest.raises(OSError, match="no answer"):
            make().call(broken, fallback=Fallback("ai"))


class TestListeners:
    def test_hear_each_change_once_with_its_reason(self, make):
        heard = []
        breaker = make(on_transition=heard.append)
        for _ in range(2):
            breaker.call(broken, fallback=None)
        eventually(lambda: breaker.call(int, fallback=None) == 0, 5)
        assert [(change.from_state, change.to_state) for change in heard] == [
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "closed"),
        ]
        assert heard[0] == Change("ai", "closed", "open", heard[0].epoch, "2 failures in a row")
        breaker.disable(actor="ann")
        assert len(heard) == 3, "it was closed and is closed"

    def test_of_all_breakers_hear_until_they_are_ended(self, make):
        heard = []
        stop = listen(heard.append)
        make().force_open(actor="ann", reason="moving")
        assert [(change.name, change.actor) for change in heard] == [("ai", "ann")]
        stop()
        stop()
        make().reset(actor="ann")
        assert len(heard) == 1

    def test_that_raise_are_logged_and_hurt_nobody(self, make, caplog):
        heard = []
        breaker = make(on_transition=broken)
        stop = listen(heard.append)
        breaker.force_open(actor="ann")
        stop()
        assert [change.to_state for change in heard] == ["open"]
        assert any("listener_failed" in line.message for line in caplog.records)

    def test_hear_what_another_process_did(self, make_reporter, redis_url):
        here, there = (CircuitBreaker("far", reporter=make_reporter(redis_url)) for _ in range(2))
        heard = []
        here._cell.listeners.append(heard.append)
        here.call(int)
        there.force_open(actor="ann")
        eventually(lambda: here.state == "open" and heard, 10)
        assert [(change.to_state, change.here, change.epoch) for change in heard] == [
            ("open", False, there.epoch)
        ]
