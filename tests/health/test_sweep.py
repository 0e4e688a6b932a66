"""Sweeps: everything at once, each probe bounded, and what hangs is left behind, counted and capped."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from regrow.clock import utc_now
from regrow.health.rules import Declared, finding
from regrow.health.sweep import Sweeper, Task
from tests.waiting import eventually


def task(name, probe, timeout=2.0):
    return Task(Declared(name, "tcp", 60.0, timeout), probe)


def sweep(sweeper, tasks, budget=30.0):
    return {result.check: result for batch in sweeper.sweep(tasks, utc_now, budget) for result in batch}


def fine():
    return finding("healthy", "fine")


@pytest.fixture
def gate():
    """What hanging probes wait for; opened at the end, so that no thread outlives its test."""
    event = threading.Event()
    yield event
    event.set()


def test_probes_run_at_once(gate):
    together = threading.Barrier(8, timeout=10)

    def meet():
        together.wait()
        return fine()

    found = sweep(Sweeper(8), [task(f"c{n}", meet, timeout=15) for n in range(8)])
    assert {result.status for result in found.values()} == {"healthy"}


def test_a_probe_that_hangs_is_unhealthy_after_its_own_timeout_and_delays_nobody(gate):
    def hang():
        gate.wait()
        return fine()

    # It comes to an end, though nobody opens the gate.
    found = sweep(Sweeper(2), [task("hangs", hang, 0.3), *(task(f"c{n}", fine, 60) for n in range(20))])
    assert found["hangs"].status == "unhealthy"
    assert "0.3 s" in found["hangs"].message
    assert [found[f"c{n}"].status for n in range(20)] == ["healthy"] * 20


def test_a_check_that_still_hangs_is_not_probed_again_until_it_comes_back(gate):
    calls = []

    def hang():
        calls.append(1)
        gate.wait()
        return fine()

    sweeper = Sweeper(4)
    sweep(sweeper, [task("hangs", hang, 0.1)])
    again = sweep(sweeper, [task("hangs", hang, 0.1)])
    assert len(calls) == 1
    assert again["hangs"].status == "unhealthy"
    assert sweeper.hanging == 1

    gate.set()
    eventually(lambda: sweeper.hanging == 0, 5)
    assert sweep(sweeper, [task("hangs", hang)])["hangs"].status == "healthy"


def test_threads_that_hang_are_capped_and_what_cannot_be_probed_is_unknown(gate):
    begun = []

    def hang():
        begun.append(1)
        gate.wait()
        return fine()

    sweeper = Sweeper(2)
    for _ in range(2):
        found = sweep(sweeper, [task(f"h{n}", hang, 0.1) for n in range(10)])
    # Two at once, and one more that began when only one of them had been given up.
    assert len(begun) == sweeper.hanging <= 3
    statuses = [result.status for result in found.values()]
    assert statuses.count("unhealthy") == len(begun)
    assert statuses.count("unknown") == 10 - len(begun)


def test_many_silent_services_do_not_hold_up_the_others(monkeypatch, gate):
    """They are silent until the last in the line has had its turn: two at a time they would never let it."""
    monkeypatch.setattr("regrow.health.sweep.SLOW_AFTER", 0.1)

    def silent():
        assert gate.wait(40)
        return fine()

    def quick():
        gate.set()
        return fine()

    found = sweep(Sweeper(2), [*(task(f"s{n}", silent, 60) for n in range(8)), task("quick", quick, 60)])
    assert {result.status for result in found.values()} == {"healthy"}


def test_a_probe_that_fails_by_itself_found_nothing_out_and_quotes_no_secret():
    def broken():
        raise ValueError("token=s3cr3t")

    found = sweep(Sweeper(1), [task("broken", broken)])["broken"]
    assert (found.status, found.message) == ("unknown", "could not be probed: ValueError")


def test_a_late_answer_does_not_change_the_verdict(gate):
    def late():
        gate.wait(5)
        return fine()

    sweeper = Sweeper(2)
    found = sweep(sweeper, [task("late", late, 0.1), task("slow", lambda: time.sleep(0.4) or fine())])
    assert found["late"].status == "unhealthy"
    gate.set()
    eventually(lambda: sweeper.hanging == 0, 5)
    assert found["late"].status == "unhealthy"


def test_what_the_budget_does_not_reach_has_no_result():
    found = sweep(Sweeper(1), [task(f"c{n}", lambda: time.sleep(0.2) or fine()) for n in range(20)], 1.0)
    assert 1 <= len(found) < 20


def test_slow_probes_do_not_hold_back_what_others_found(monkeypatch, gate):
    monkeypatch.setattr("regrow.health.sweep.WRITE_EVERY", 0.1)
    batches = []
    for batch in Sweeper(4).sweep(
        [task("slow", lambda: gate.wait(60) and fine(), 90), task("quick", fine, 90)], utc_now, 30
    ):
        batches.append([result.check for result in batch])
        gate.set()  # only now the slow one gets on
    assert batches == [["quick"], ["slow"]]


def test_a_result_is_dated_when_its_probe_began():
    before, began = utc_now(), []

    def slow():
        began.append(utc_now())
        time.sleep(0.1)
        return fine()

    found = sweep(Sweeper(1), [task("slow", slow, 60)])["slow"]
    assert before <= found.at <= began[0]
    assert found.latency >= 0.1


# Probes that are awaited


def awaited(name, probe, timeout=2.0):
    async def run(clients):
        return await probe()

    return Task(Declared(name, "http", 60.0, timeout), awaits=run)


async def well():
    return fine()


async def for_ever():
    await asyncio.Event().wait()


def test_hundreds_of_awaited_probes_hang_and_delay_no_other():
    """They hang until the others, which are behind them in the line, have had their turn: long before their time."""
    others = [f"c{n}" for n in range(20)]
    had_turn = []
    all_had = asyncio.Event()

    async def quick():
        had_turn.append(1)
        if len(had_turn) == len(others):
            all_had.set()
        return fine()

    async def hangs():
        await all_had.wait()
        return fine()

    hanging = [awaited(f"h{n}", hangs, 60.0) for n in range(200)]
    found = sweep(Sweeper(2), [*hanging, *(awaited(name, quick, 60.0) for name in others)])
    assert len(found) == 220
    assert {result.status for result in found.values()} == {"healthy"}


def test_awaited_probes_that_hang_are_cut_off_at_their_time_and_leave_nothing_behind(monkeypatch):
    monkeypatch.setattr("regrow.health.lane._CUT_OFF", float("inf"))  # whoever had the CPU meanwhile
    sweeper = Sweeper(2)
    found = sweep(sweeper, [awaited(f"h{n}", for_ever, 0.2) for n in range(40)])
    assert {(result.status, result.message) for result in found.values()} == {
        ("unhealthy", "no answer within 0.2 s")
    }
    assert sweeper.hanging == 0  # what is awaited can be ended


def test_awaited_probes_and_threads_are_of_one_sweep(gate):
    found = sweep(
        Sweeper(2),
        [task("thread", fine), awaited("loop", well), task("hangs", lambda: gate.wait(9) or fine(), 0.2)],
    )
    assert {name: result.status for name, result in found.items()} == {
        "thread": "healthy",
        "loop": "healthy",
        "hangs": "unhealthy",
    }


def test_an_awaited_probe_that_fails_by_itself_found_nothing_out_and_quotes_no_secret():
    async def broken():
        raise ValueError("token=s3cr3t")

    found = sweep(Sweeper(1), [awaited("broken", broken)])["broken"]
    assert (found.status, found.message) == ("unknown", "could not be probed: ValueError")


def test_awaited_probes_that_the_budget_does_not_reach_have_no_result(monkeypatch):
    monkeypatch.setattr("regrow.health.lane.LANES", 1)

    async def slow():
        await asyncio.sleep(0.2)
        return fine()

    found = sweep(Sweeper(1), [awaited(f"c{n}", slow) for n in range(20)], 1.0)
    assert 1 <= len(found) < 20


def test_a_probe_that_blocks_the_event_loop_is_told_and_the_next_sweep_has_a_loop_of_its_own(
    monkeypatch, gate
):
    monkeypatch.setattr("regrow.health.sweep._STANDSTILL", 0.3)

    async def blocks():
        gate.wait(20)
        return fine()

    sweeper = Sweeper(1)
    found = sweep(sweeper, [awaited("blocks", blocks, 0.2), awaited("other", well, 0.2)])
    assert {result.status for result in found.values()} == {"unknown"}
    assert sweep(sweeper, [awaited("other", well)])["other"].status == "healthy"


def test_a_forked_child_has_an_event_loop_of_its_own():
    sweeper = Sweeper(1)
    sweep(sweeper, [awaited("first", well)])
    pid = os.fork()
    if not pid:
        found = sweep(sweeper, [awaited("second", well)])
        os._exit(0 if found["second"].status == "healthy" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_when_this_process_gets_no_cpu_a_service_that_seems_silent_is_unknown_and_not_down():
    async def starve():
        for _ in range(12):
            time.sleep(0.15)  # somebody else has the CPU
            await asyncio.sleep(0)
        return fine()

    found = sweep(Sweeper(1), [awaited("starving", starve, 5.0), awaited("silent", for_ever, 0.6)])
    assert (found["silent"].status, found["silent"].message) == (
        "unknown",
        "not judged: this process got too little CPU to wait for the answer",
    )
