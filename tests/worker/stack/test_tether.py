"""No child outlives its supervisor: the kernel's way (Linux) and the way that works anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.waiting import eventually
from worker.stack import tether

TETHER = str(Path(tether.__file__))
SLEEP = (sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)")

linux = pytest.param(
    (), marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux has prctl"), id="kernel"
)
anywhere = pytest.param(("--watch",), id="watching")
both_ways = pytest.mark.parametrize("way", [linux, anywhere])


def tied(way: tuple[str, ...], *command: str, supervisor: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", TETHER, str(supervisor or os.getpid()), *way, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@both_ways
def test_a_child_dies_with_a_supervisor_that_was_killed(way: tuple[str, ...]) -> None:
    supervisor = textwrap.dedent(f"""
        import os, subprocess, sys, time
        command = [sys.executable, "-I", "-S", {TETHER!r}, str(os.getpid()), *{way!r}, *{SLEEP!r}]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    family = [child, *(process.pid for process in psutil.Process(child).children(recursive=True))]
    parent.kill()
    parent.communicate()
    eventually(lambda: not any(map(is_alive, family)), 10, what="the child and its own children are gone")


@both_ways
def test_a_child_never_begins_when_its_supervisor_is_gone_already(way: tuple[str, ...]) -> None:
    # Started by us in the name of another one, which is what an adopted orphan looks like.
    process = tied(way, *SLEEP, supervisor=2**22 + 1)
    process.communicate(timeout=20)
    assert process.returncode in {tether.ORPHANED, -signal.SIGKILL}


@both_ways
def test_the_exit_status_is_the_child_s(way: tuple[str, ...]) -> None:
    process = tied(way, sys.executable, "-c", "raise SystemExit(7)")
    process.communicate(timeout=20)
    assert process.returncode == 7


@both_ways
def test_a_child_that_was_killed_is_seen_as_killed(way: tuple[str, ...]) -> None:
    process = tied(way, sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL


@both_ways
def test_sigterm_reaches_the_child_which_may_end_in_its_own_way(way: tuple[str, ...]) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(3)); print('begun', flush=True); signal.pause()"
    process = tied(way, sys.executable, "-c", code)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(20) == 3


@both_ways
def test_a_program_that_does_not_exist_is_named(way: tuple[str, ...]) -> None:
    process = tied(way, "/no/such/program")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 127
    assert "cannot start /no/such/program: No such file or directory" in output
