"""The supervisor on small real programs; the pauses of its rules are shortened, its code is not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest

from tests.waiting import eventually
from tests.worker.stack.programs import deaf, python, server
from worker.stack.console import Console
from worker.stack.errors import StackError, StopRequested
from worker.stack.home import Home
from worker.stack.processes import Child, Process
from worker.stack.rules import RestartPolicy
from worker.stack.supervisor import GaveUpError, Post, Supervisor

HASTY = RestartPolicy(attempts=2, first_pause=0.05, pause=0.1, stable_after=60)


class Stage:
    """A supervisor, its console, and the person who may ask it to stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out, self.err = StringIO(), StringIO()
        self.stops_asked = 0
        self.seen_enough: Callable[[], object] = lambda: False
        self.home = Home(folder / "var")
        self.home.prepare()
        console = Console(self.out, self.err)
        self.supervisor = Supervisor(self.home, console, "token", self.asked, HASTY)

    def file(self, name: str) -> Path:
        return self.folder / name

    def post(self, child: Child, **more: Callable[[list[str]], str | None]) -> Post:
        """A post whose probe is the file that the stand-in writes its pid into."""

        def probe(process: Process) -> str | None:
            file = self.file(child.name)
            return None if file.exists() and file.read_text() == str(process.pid) else "no pid yet"

        return Post(child, probe, **more)

    def watch(self, until: Callable[[], object]) -> None:
        """Let the supervisor work until something holds."""
        deadline = time.monotonic() + 20

        def seen_enough() -> object:
            assert time.monotonic() < deadline, "the supervisor was watched for 20 s in vain"
            return until()

        self.seen_enough = seen_enough
        with pytest.raises(StopRequested):
            self.supervisor.watch()
        self.seen_enough = lambda: False

    def asked(self) -> int:
        return max(self.stops_asked, int(bool(self.seen_enough())))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.stops_asked += 2
    made.supervisor.stop()


def test_children_start_are_waited_for_and_said_to_be_up(stage: Stage) -> None:
    stage.supervisor.start([stage.post(server(name, stage.file(name))) for name in ("worker", "web")])
    stage.supervisor.wait_until_up(["worker", "web"], 20)
    assert "worker is up" in stage.out.getvalue()
    assert "web is up" in stage.out.getvalue()


def test_a_killed_child_returns_as_another_process(stage: Stage) -> None:
    stage.supervisor.start([stage.post(server("web", stage.file("web")))])
    stage.supervisor.wait_until_up(["web"], 20)
    first = stage.file("web").read_text()
    os.kill(int(first), signal.SIGKILL)
    stage.watch(until=lambda: stage.file("web").read_text() != first)


def test_a_crash_loop_ends_in_giving_up_with_exits_and_last_lines(stage: Stage) -> None:
    child = python("beat", "print('no schedule'); raise SystemExit(4)")
    stage.supervisor.start([stage.post(child)])
    with pytest.raises(GaveUpError) as caught:
        stage.supervisor.wait_until_up(["beat"], 20)
    assert caught.value.headline == "giving up: beat ended 3 times in a row"
    told = "\n".join(caught.value.details)
    assert told.count("exit status 4") == 3
    assert "no schedule" in told


def test_a_cause_that_another_start_would_not_mend_is_told_at_once(stage: Stage) -> None:
    child = python("valkey", "print('data is damaged'); raise SystemExit(1)")
    began = time.monotonic()
    stage.supervisor.start(
        [stage.post(child, explain=lambda lines: "move it away" if "data is damaged" in lines else None)]
    )
    with pytest.raises(GaveUpError, match="valkey cannot run") as caught:
        stage.supervisor.wait_until_up(["valkey"], 20)
    assert caught.value.details == ["move it away"]
    assert time.monotonic() - began < 5


def test_a_child_that_never_comes_up_is_named_with_what_is_amiss(stage: Stage) -> None:
    stage.supervisor.start([stage.post(python("web", "import signal; signal.pause()"))])
    with pytest.raises(StackError, match=r"not up within 0\.5 s: web: no pid yet.*STARTUP_TIMEOUT"):
        stage.supervisor.wait_until_up(["web"], 0.5)


def test_a_stop_asked_for_while_starting_is_obeyed(stage: Stage) -> None:
    stage.supervisor.start([stage.post(python("web", "import signal; signal.pause()"))])
    stage.stops_asked = 1
    with pytest.raises(StopRequested):
        stage.supervisor.wait_until_up(["web"], 20)


def test_children_stop_in_the_order_of_their_need(stage: Stage) -> None:
    names = ["valkey", "web", "worker", "beat"]
    stage.supervisor.start([stage.post(server(name, stage.file(name))) for name in names])
    stage.supervisor.wait_until_up(names, 20)
    stage.stops_asked = 1
    stage.supervisor.stop()
    assert stage.file("stops").read_text().split() == ["beat", "worker", "web", "valkey"]
    assert not stage.home.leftovers.exists()


def test_a_child_that_outstays_its_patience_is_killed(stage: Stage) -> None:
    stage.supervisor.start([stage.post(deaf("worker", stage.file("worker"), patience=0.3))])
    stage.supervisor.wait_until_up(["worker"], 20)
    stage.stops_asked = 1
    began = time.monotonic()
    stage.supervisor.stop()
    assert 0.3 <= time.monotonic() - began < 5


def test_asking_a_second_time_does_not_wait_for_the_drain(stage: Stage) -> None:
    stage.supervisor.start([stage.post(deaf("worker", stage.file("worker"), patience=60))])
    stage.supervisor.wait_until_up(["worker"], 20)
    stage.stops_asked = 2
    began = time.monotonic()
    stage.supervisor.stop()
    assert time.monotonic() - began < 10


def test_haste_does_not_cost_valkey_its_data(stage: Stage) -> None:
    stage.supervisor.start([stage.post(deaf("valkey", stage.file("valkey"), patience=2.5))])
    stage.supervisor.wait_until_up(["valkey"], 20)
    stage.stops_asked = 2
    began = time.monotonic()
    stage.supervisor.stop()
    assert time.monotonic() - began >= 2.5


def test_running_children_are_written_down_for_the_next_start(stage: Stage) -> None:
    stage.supervisor.start([stage.post(server(name, stage.file(name))) for name in ("worker", "web")])
    stage.supervisor.wait_until_up(["worker", "web"], 20)
    written = stage.home.leftovers.read_text()
    assert stage.file("worker").read_text() in written
    assert stage.file("web").read_text() in written


def test_an_ended_child_is_not_waited_for_when_stopping(stage: Stage) -> None:
    stage.supervisor.start([stage.post(server("web", stage.file("web"), patience=60))])
    stage.supervisor.wait_until_up(["web"], 20)
    pid = int(stage.file("web").read_text())
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: stage.supervisor.stop() is None, 10)
    assert time.monotonic() - began < 5
