"""Tasks that meet an open breaker: they come back, burn no attempt, and are not kept waiting for ever."""

from __future__ import annotations

import base64
import itertools
import json
import random

import celery
import pytest
import redis

import regrow.celery
from regrow.breakers import order
from regrow.celery.breakers import LONGEST_COUNTDOWN, Refusals, countdown
from regrow.dead_letters.captured import from_wire
from regrow.errors import CircuitOpenError
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Program, Surroundings, ready, running

NEVER = float("inf")
numbers = itertools.count()


class TestTheDecision:
    def test_is_never_sooner_than_the_breaker_said_and_spreads_the_longer_it_lasts(self):
        rng = random.Random(7)
        first = [countdown(5, Refusals(0), 0, NEVER, rng) for _ in range(500)]
        later = [countdown(5, Refusals(0, 4), 0, NEVER, rng) for _ in range(500)]
        assert (min(first), max(first)) == (pytest.approx(5, abs=0.1), pytest.approx(6, abs=0.1))
        assert (min(later), max(later)) == (pytest.approx(5, abs=1), pytest.approx(21, abs=1))
        assert min(first + later) >= 5
        assert countdown(5, Refusals(0, 10_000), 0, NEVER, rng) <= 65

    def test_is_to_stop_when_it_would_be_too_late(self):
        assert countdown(5, Refusals(0), 100, 104.9, random.Random(7)) is None

    def test_asks_again_well_before_a_broker_delivers_twice(self):
        assert countdown(1e9, Refusals(0), 0, NEVER, random.Random(7)) <= LONGEST_COUNTDOWN + 1

    @pytest.mark.parametrize("header", [None, "", "x;1", "1", "1;x", 7, "nan;1", "1e9;1"])
    def test_begins_anew_with_a_header_that_makes_no_sense(self, header):
        assert Refusals.read(header, 50.0) == Refusals(50.0)

    def test_a_clock_ahead_gives_no_time_beyond_the_deadline(self):
        assert Refusals.read("99.000;3", 50.0) == Refusals(50.0, 3)
        assert Refusals.read(Refusals(1.5, 2).another().header(), 50.0) == Refusals(1.5, 3)


def test_outside_a_worker_the_refusal_is_raised_at_once():
    @regrow.celery.breaker_aware
    def refused():
        raise CircuitOpenError("payments", 1.0)

    app = celery.Celery("eager", set_as_current=False, task_cls=regrow.celery.BreakerAwareTask)
    task = app.task(name="eager.refused")(refused)
    for act in (refused, task, lambda: task.apply(throw=True)):
        with pytest.raises(CircuitOpenError):
            act()


def test_a_refused_task_comes_back_until_it_is_through_or_too_late_and_burns_no_attempt(
    surroundings: MakeSurroundings, redis_url: str
) -> None:
    around = surroundings(redis_url)
    program = Program(
        around,
        ["-A", "tests.worker.guarded", "worker", "-n", "guarded@test", "-c", "1", "--loglevel=INFO"],
        around.home / "guarded.log",
    )
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, running(program):
        ready(program)
        for task, breaker in (("guarded.pay", "payments"), ("guarded.keep", "archive")):
            assert not refuses(around, program, task)
            eventually(lambda name=breaker: order(client, name, "force_open", actor="ann"), 5)
            eventually(lambda task=task: refuses(around, program, task), 10, what="the order is heard")

        around.send("guarded.pay", "bill", queue="guarded", headers={"own": "travels"})
        around.send("guarded.pay_soon", "late", queue="guarded")
        around.send("guarded.keep", "expiring", queue="guarded", expires=30)

        eventually(lambda: len(captured(client)) == 2, 30, what="two that would come too late are letters")
        assert captured(client) == ["expiring", "late"]
        assert around.began("late") >= 2, "it was tried again before its deadline"
        assert around.began("expiring") == 1, "its message expires before the breaker says to come back"
        eventually(lambda: around.began("bill") >= 2, 20)
        assert around.ended("bill") == 0
        order(client, "payments", "reset", actor="ann")
        eventually(lambda: around.ended("bill") == 1, 40)
        tries = client.lrange("began:bill", 0, -1)
        assert set(tries) == {"0 travels"}, "no retry is burnt, and what else the message carried is kept"
        assert len(captured(client)) == 2


def refuses(around: Surroundings, program: Program, task: str) -> bool:
    """Whether the worker's breaker refuses, found out by a task of its own."""
    name = f"ask-{next(numbers)}"
    sent = around.send(task, name, queue="guarded")
    eventually(lambda: around.ended(name) or program.says(f"[{sent}] retry"), 10)
    return not around.ended(name)


def captured(client: redis.Redis) -> list[str]:
    """The names that the failures on their way to the dead letters carry."""
    names = []
    for message in client.lrange("regrow.capture", 0, -1):
        _args, told, _embed = json.loads(base64.b64decode(json.loads(message)["body"]))
        args, *_ = json.loads(from_wire(told["capture"]).body)
        names.append(args[0])
    return sorted(names)
