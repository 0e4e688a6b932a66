from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import eventually
from worker.stack.errors import StackError
from worker.stack.starter import STARTED_BY, still_wanted

ROOT = Path(__file__).resolve().parents[3]

# Says "wanted" until it is not wanted any more, as the supervisor would.
PROGRAM = """
import os, sys, time
from worker.stack.starter import still_wanted
wanted = still_wanted(os.environ)
print("wanted" if wanted() else "unwanted", flush=True)
while wanted():
    time.sleep(0.05)
print("unwanted", flush=True)
"""


@pytest.fixture
def makefile(tmp_path: Path) -> Path:
    """A make that starts the program the way ours starts the supervisor."""
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    (tmp_path / "program.py").write_text(PROGRAM)
    file = tmp_path / "Makefile"
    file.write_text(
        f"run:\n\t@exec env {STARTED_BY}=$$PPID PYTHONPATH={ROOT} {sys.executable} {tmp_path}/program.py\n"
    )
    return file


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what another process blocks")
def test_an_interrupt_that_reaches_make_alone_ends_both(makefile: Path) -> None:
    make = subprocess.Popen(["make", "-f", str(makefile)], stdout=subprocess.PIPE, text=True)
    assert make.stdout is not None
    assert make.stdout.readline() == "wanted\n"
    make.send_signal(signal.SIGINT)
    assert make.stdout.readline() == "unwanted\n"
    make.wait(20)


def test_a_killed_make_is_noticed(makefile: Path) -> None:
    make = subprocess.Popen(["make", "-f", str(makefile)], stdout=subprocess.PIPE, text=True)
    assert make.stdout is not None
    assert make.stdout.readline() == "wanted\n"
    make.kill()
    assert make.stdout.readline() == "unwanted\n"
    make.wait(20)


def test_started_by_nobody_in_particular_it_is_always_wanted() -> None:
    assert still_wanted({})()


def test_a_living_parent_wants_us() -> None:
    wanted = still_wanted({STARTED_BY: str(os.getppid())})
    assert eventually(wanted, 1)


def test_a_starter_that_is_no_process_id_is_refused() -> None:
    with pytest.raises(StackError, match=f"{STARTED_BY} is 'make', not a process id"):
        still_wanted({STARTED_BY: "make"})
