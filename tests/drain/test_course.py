"""The drain of a process, in this process: its phases, its clean-up, what is told of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from regrow import drain as process
from regrow.drain import Drain, record
from regrow.drain.callbacks import CleanUp
from regrow.drain.record import Course
from regrow.errors import SettingsError
from regrow.intake import Intake
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _in_an_app_with_a_log_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regrow.log_events._structured", lambda: False)


@pytest.fixture
def intake() -> Intake:
    return Intake()


@pytest.fixture
def make(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.delenv("REGROW_REDIS_URL", raising=False)
    threads: list[threading.Thread] = []

    def drain(**times: float) -> Drain:
        return Drain(intakes=[intake], **{"timeout": 5.0, "linger": 0.0, **times})

    drain.start = lambda one: threads.append(threading.Thread(target=one.run)) or threads[-1].start()
    yield drain
    for thread in threads:
        thread.join(10)


def test_it_says_that_it_leaves_then_turns_away_then_ends(make, intake):
    drain = make(notice=0.2)
    assert drain.status() == {
        "draining": False,
        "phase": "serving",
        "in_hand": 0,
        "since": None,
        "timed_out": False,
    }
    assert intake.enter()
    make.start(drain)
    eventually(lambda: drain.phase == "leaving")
    assert intake.leaving
    assert not intake.draining, "for the length of the notice"
    eventually(lambda: drain.phase == "draining")
    assert not intake.enter()
    assert (drain.status()["in_hand"], drain.status()["draining"]) == (1, True)
    intake.leave()
    eventually(lambda: drain.ended)
    assert not drain.status()["timed_out"]


def test_what_is_in_hand_when_time_is_up_is_told(make, intake, caplog):
    intake.enter()
    drain = make(timeout=0.05)
    with caplog.at_level(logging.INFO, "regrow.drain"):
        assert not drain.run("SIGTERM")
    assert drain.status()["timed_out"]
    assert [line.getMessage().split()[0] for line in caplog.records] == ["drain.started", "drain.timed_out"]
    assert not drain.run(), "the second who asks learns the same"


def test_somebody_in_a_hurry_waits_for_nothing(make, intake):
    intake.enter()
    drain = make(timeout=60.0)
    make.start(drain)
    eventually(lambda: drain.phase == "draining")
    drain.hurry()
    eventually(lambda: drain.ended, 5)


@pytest.mark.parametrize("value", ["soon", "-1", "inf"])
def test_times_that_are_none_are_refused_by_name(monkeypatch, value):
    monkeypatch.setenv("SHUTDOWN_TIMEOUT", value)
    with pytest.raises(SettingsError, match="SHUTDOWN_TIMEOUT"):
        Drain()


def test_every_intake_of_the_process_is_waited_for_and_the_times_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("SHUTDOWN_TIMEOUT", "7")
    monkeypatch.setenv("REGROW_SHUTDOWN__NOTICE", "0.5")
    drain = Drain()
    one = Intake()
    one.enter()
    assert (drain.timeout, drain.notice, drain.linger) == (7.0, 0.5, 1.0)
    assert drain.in_hand >= 1
    one.leave(0.25)
    assert drain.traffic().longest >= 0.25
    of_one = Drain(intakes=[one]).traffic().as_dict()
    assert of_one == {
        "taken": 1,
        "in_hand": 0,
        "turned_away": 0,
        "ended": 1,
        "mean_seconds": 0.25,
        "longest_seconds": 0.25,
    }
    assert Drain(intakes=[]).traffic().as_dict()["mean_seconds"] is None


class TestCleanUp:
    def test_the_last_one_registered_goes_first_and_none_holds_up_another(self, caplog):
        called: list[str] = []
        clean_up = CleanUp()
        clean_up.add(lambda: called.append("first"), name="first")
        clean_up.add(lambda: time.sleep(30), name="hangs", timeout=0.1)
        clean_up.add(lambda: 1 / 0, name="fails")

        async def coroutine() -> None:
            await asyncio.sleep(0)
            called.append("coroutine")

        clean_up.add(coroutine)
        with caplog.at_level(logging.ERROR, "regrow.drain"):
            outcomes = dict(clean_up.run())
        assert called == ["coroutine", "first"]
        assert [*outcomes.values()] == ["done", "failed", "too long", "done"]
        told = " ".join(line.getMessage() for line in caplog.records)
        assert "drain.callback_failed callback=fails" in told
        assert "drain.callback_timed_out callback=hangs" in told
        assert clean_up.run() == [], "each is called once"

    def test_coroutines_run_on_the_servers_loop_while_it_turns(self):
        seen: list[object] = []
        clean_up = CleanUp()

        async def note() -> None:
            seen.append(asyncio.get_running_loop())

        clean_up.add(note)

        async def serve() -> asyncio.AbstractEventLoop:
            loop = asyncio.get_running_loop()
            await asyncio.to_thread(clean_up.run, loop)
            return loop

        loop = asyncio.run(serve())
        assert seen == [loop]


class TestRecord:
    def test_a_drain_is_told_while_it_lasts_and_when_it_ended(self, make, intake, redis_url, monkeypatch):
        monkeypatch.setenv("REGROW_REDIS_URL", redis_url)
        client = redis.Redis.from_url(redis_url, decode_responses=True)
        intake.enter()
        drain = make()
        make.start(drain)
        (course,) = eventually(lambda: record.read(client, time.time())[0])
        assert (course.in_hand_at_start, course.limit, course.ended) == (1, 5.0, None)
        intake.leave()
        (ended,) = eventually(lambda: record.read(client, time.time())[1])
        assert (ended.timed_out, ended.in_hand) == (False, 0)
        assert record.read(client, time.time())[0] == []

    def test_one_that_was_killed_in_the_middle_is_told_once_as_timed_out(self, redis_url):
        client = redis.Redis.from_url(redis_url, decode_responses=True)
        course = Course("web", "host", 7, "SIGTERM", since=1000.0, limit=30.0, in_hand_at_start=2, in_hand=2)
        record.keep(client, course)
        assert record.read(client, 1080.0) == ([course], [])
        for _ in range(2):
            under_way, (ended,) = record.read(client, 1091.0)
            assert under_way == []
            assert (ended.timed_out, ended.in_hand, ended.ended) == (True, 2, 1030.0)

    def test_a_redis_that_is_away_delays_no_end(self, make, monkeypatch):
        monkeypatch.setenv("REGROW_REDIS_URL", "redis://127.0.0.1:1/0")
        drain = make()
        make.start(drain)
        eventually(lambda: drain.ended, 10)


def test_outside_the_main_thread_the_signals_are_left_alone_and_that_is_said(caplog):
    def install() -> None:
        process.install()

    with caplog.at_level(logging.WARNING, "regrow.drain"):
        thread = threading.Thread(target=install)
        thread.start()
        thread.join()
    assert "drain.no_signals" in caplog.text
