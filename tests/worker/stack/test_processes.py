from __future__ import annotations

import os
import signal

import psutil

from tests.waiting import eventually
from tests.worker.stack.programs import python
from worker.stack.processes import TAIL, Child, Process, describe


def unheard(_name: str, _line: str) -> None:
    pass


def ended(process: Process) -> int:
    eventually(lambda: process.exit_code() is not None, 20)
    code = process.exit_code()
    assert code is not None
    return code


def test_every_line_of_both_streams_is_heard_with_the_child_s_name() -> None:
    heard: list[tuple[str, str]] = []
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); print(); print('\\udc80', end='')"
    child = python("web", f"import sys; sys.stdout.reconfigure(errors='surrogateescape'); {code}")
    process = Process(child, lambda name, line: heard.append((name, line)))
    ended(process)
    process.last_words()
    assert heard == [("web", "out"), ("web", "err"), ("web", "\ufffd")]


def test_the_last_lines_are_kept_to_the_very_end() -> None:
    process = Process(python("web", "for n in range(1000): print('line', n)\nraise SystemExit(3)"), unheard)
    assert ended(process) == 3
    assert process.last_words() == [f"line {n}" for n in range(1000 - TAIL, 1000)]


def test_noise_is_neither_shown_nor_kept() -> None:
    heard: list[str] = []
    command = python("valkey", "print('advice: tune your kernel'); print('an error')").command
    process = Process(Child("valkey", command, {}, noise=("tune your",)), lambda _, line: heard.append(line))
    ended(process)
    assert process.last_words() == heard == ["an error"]


def test_a_child_that_was_killed_leaves_nothing_of_its_group() -> None:
    code = "import os, signal, sys\nif os.fork(): print('up', flush=True)\nsignal.pause()"
    heard: list[str] = []
    process = Process(python("worker", code), lambda _, line: heard.append(line))
    eventually(lambda: heard, 20)
    (pool,) = psutil.Process(process.pid).children()
    process.signal(signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL
    eventually(lambda: not pool.is_running() or pool.status() == psutil.STATUS_ZOMBIE, 10)


def test_a_child_hears_nothing_of_ctrl_c_at_the_terminal() -> None:
    process = Process(python("web", "import signal; signal.pause()"), unheard)
    try:
        assert os.getpgid(process.pid) == os.getsid(process.pid) == process.pid != os.getpgid(0)
    finally:
        process.kill()


def test_exit_statuses_are_told_in_words() -> None:
    assert describe(1) == "exit status 1"
    assert describe(-9) == "SIGKILL"
    assert describe(-250) == "signal 250"
