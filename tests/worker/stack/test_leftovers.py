from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from worker.stack import leftovers
from worker.stack.leftovers import TOKEN, Mark, sweep, write_down

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


class Sleepers:
    """Processes that only sleep, ended with the test."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(SLEEP, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        self.started.append(process)
        return process


@pytest.fixture
def sleeper() -> Iterator[Sleepers]:
    sleepers = Sleepers()
    yield sleepers
    for process in sleepers.started:
        process.kill()
        process.communicate()


def test_children_that_were_written_down_are_ended(sleeper: Sleepers, tmp_path: Path) -> None:
    child, stranger = sleeper(), sleeper()
    write_down(tmp_path / "stack.json", "token", [Mark.of(child.pid)])
    (told,) = sweep(tmp_path / "stack.json")
    assert f"pid {child.pid}" in told
    assert not psutil.pid_exists(child.pid)
    assert stranger.poll() is None
    assert not (tmp_path / "stack.json").exists()


def test_their_own_children_are_known_by_the_stack_s_token(sleeper: Sleepers, tmp_path: Path) -> None:
    pool, other_stack = sleeper(**{TOKEN: "ours"}), sleeper(**{TOKEN: "theirs"})
    write_down(tmp_path / "stack.json", "ours", [])
    assert len(sweep(tmp_path / "stack.json")) == 1
    assert not psutil.pid_exists(pool.pid)
    assert other_stack.poll() is None


def test_a_stranger_that_got_the_pid_of_a_child_is_spared(sleeper: Sleepers, tmp_path: Path) -> None:
    stranger = sleeper()
    created = psutil.Process(stranger.pid).create_time()
    write_down(tmp_path / "stack.json", "token", [Mark(stranger.pid, created - 3600)])
    assert sweep(tmp_path / "stack.json") == []
    assert stranger.poll() is None


@pytest.mark.parametrize("written", ["", "{}", "not json", json.dumps({"token": "", "children": []})])
def test_a_list_that_proves_nothing_ends_nothing(written: str, sleeper: Sleepers, tmp_path: Path) -> None:
    bystander = sleeper(**{TOKEN: ""})
    (tmp_path / "stack.json").write_text(written)
    assert sweep(tmp_path / "stack.json") == []
    assert bystander.poll() is None


def test_after_a_clean_stop_there_is_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep(tmp_path / "stack.json") == []


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_GRACE", 0.3)
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    write_down(tmp_path / "stack.json", "token", [Mark.of(child.pid)])
    sweep(tmp_path / "stack.json")
    assert not psutil.pid_exists(child.pid)
    child.communicate()
