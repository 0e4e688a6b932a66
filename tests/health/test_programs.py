"""Checks that are programs: commands that hang, fork, shout and die; functions; processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from regrow.health.checks import load, probe_of
from regrow.health.checks.command import OUTPUT_LIMIT
from regrow.health.checks.process import Running, verdict
from regrow.settings.checks import CommandCheck, LoadCheck, ProcessCheck, PythonCheck
from tests.settings.test_errors import complaint
from tests.waiting import eventually


@pytest.fixture
def run(make_settings):
    """What a check of a program finds: ``run(code, **settings)`` runs Python code as a command."""
    settings = make_settings()

    def run(code, **declared):
        argv = [sys.executable, "-S", "-c", textwrap.dedent(code)]
        check = CommandCheck.model_validate({"kind": "command", "argv": argv, "timeout": 20, **declared})
        return probe_of(check, settings)()

    return run


def test_the_exit_code_is_the_verdict_and_the_first_line_the_message(run):
    found = run("print('42 files'); print('more')")
    assert (found.status, found.data["exit_code"]) == ("healthy", 0)
    assert found.message.endswith("ended with 0: 42 files")
    assert run("raise SystemExit(3)").status == "unhealthy"


def test_exit_codes_are_mapped_and_the_others_stay_as_they_are(run):
    codes = {"1": "degraded", "3": "unknown"}
    found = [run(f"raise SystemExit({code})", exit_codes=codes).status for code in range(4)]
    assert found == ["healthy", "degraded", "unhealthy", "unknown"]


def test_a_program_that_dies_by_a_signal_is_unhealthy_and_says_which(run):
    found = run("import os; os.kill(os.getpid(), 9)")
    assert (found.status, found.message) == (
        "unhealthy",
        f"{Path(sys.executable).name} was ended by signal 9",
    )


def test_the_timeout_kills_all_that_the_program_has_started(run, tmp_path):
    file = tmp_path / "pids"
    found = run(
        f"""
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        open({str(file)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(600)
        """,
        timeout=3,
    )
    assert (found.status, found.data["exit_code"]) == ("unhealthy", None)
    assert "did not end within 2.7 s and was killed" in found.message
    pids = [int(pid) for pid in file.read_text().split()]
    eventually(lambda: not any(_runs(pid) for pid in pids), what="both are gone")


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_left_behind_neither_holds_the_check_up_nor_stays(run, tmp_path):
    began = time.monotonic()
    found = run(
        """
        import subprocess, sys
        print(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]).pid, flush=True)
        """,
        timeout=120,
    )
    assert found.status == "healthy"
    assert time.monotonic() - began < 100
    eventually(lambda: not _runs(int(found.data["output"])), what="it is gone")


def test_no_more_of_the_output_is_kept_than_the_limit_and_secrets_are_hidden(run):
    found = run("print('password=hunter2 redis://me:hunter2@host'); print('x' * 10_000_000)")
    assert found.status == "healthy"
    assert len(found.data["output"]) <= OUTPUT_LIMIT
    assert "hunter2" not in repr(found)


def test_the_environment_of_the_worker_does_not_reach_it(run, monkeypatch):
    monkeypatch.setenv("API_KEY", "hunter2")
    found = run("import os; print(sorted(os.environ))", env={"MINE": "yes"})
    assert "API_KEY" not in found.data["output"]
    assert "MINE" in found.data["output"]


def test_arguments_reach_no_shell(make_settings, tmp_path):
    argv = ["/bin/echo", f"a; touch {tmp_path}/made", "$(id)"]
    found = probe_of(CommandCheck(kind="command", argv=argv), make_settings())()
    assert found.data["output"] == f"a; touch {tmp_path}/made $(id)\n"
    assert not (tmp_path / "made").exists()


def test_a_program_that_is_not_there_could_not_be_asked(make_settings):
    found = probe_of(CommandCheck(kind="command", argv=("/not/there",)), make_settings())()
    assert (found.status, "No such file" in found.message) == ("unknown", True)


# Functions


def healthy():
    return None


def said(answer):
    return answer


async def slow():
    import asyncio

    await asyncio.sleep(600)


async def fine(depth):
    return {"status": "degraded", "message": f"{depth} deep", "data": {"depth": depth}}


def fails():
    raise OSError("hunter2")


def call(make_settings, name, **declared):
    check = PythonCheck(kind="python", function=f"{__name__}:{name}", **declared)
    return probe_of(check, make_settings())()


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (True, "healthy", "found nothing wrong"),
        (False, "unhealthy", "said no"),
        ("degraded", "degraded", "said so"),
        ({"status": "unknown", "message": "who knows"}, "unknown", "who knows"),
        ("fine", "unknown", "returned str, which is none of what a check may return"),
        (1, "unknown", "returned int"),
        ({"status": "good"}, "unknown", "returned dict"),
        ({"status": "healthy", "data": 3}, "unknown", "returned dict"),
        ({"status": "healthy", "data": {"at": float("nan")}}, "healthy", "said so"),
    ],
)
def test_what_a_function_returns_is_the_finding(make_settings, answer, status, message):
    found = call(make_settings, "said", arguments={"answer": answer})
    assert (found.status, message in found.message) == (status, True)


def test_a_function_may_return_nothing_or_be_a_coroutine(make_settings):
    assert call(make_settings, "healthy").status == "healthy"
    found = call(make_settings, "fine", arguments={"depth": 7})
    assert (found.status, found.message, found.data) == ("degraded", "7 deep", {"depth": 7})
    assert call(make_settings, "slow", timeout=0.2).status == "unhealthy"


def test_data_that_are_no_json_or_too_many_are_left_out(make_settings):
    for data in ({"a": object()}, {"a": "x" * 100_000}):
        found = call(make_settings, "said", arguments={"answer": {"status": "healthy", "data": data}})
        assert found.status == "healthy"
        assert list(found.data) == ["data_left_out"]


def test_what_it_raises_is_a_probe_that_could_not_be_made(make_settings):
    with pytest.raises(OSError):
        call(make_settings, "fails")
    found = probe_of(PythonCheck(kind="python", function="not_there:f"), make_settings())()
    assert (found.status, found.message) == (
        "unknown",
        "not_there:f cannot be loaded: No module named 'not_there'",
    )
    assert call(make_settings, "ZZZ").status == "unknown"


# Processes


@pytest.fixture
def sleepers():
    marker = f"regrow-sleeper-{os.getpid()}"
    code = "import time; time.sleep(600)"
    started = [subprocess.Popen([sys.executable, "-S", "-c", code, marker]) for _ in range(2)]
    eventually(lambda: all(marker in psutil.Process(process.pid).cmdline() for process in started))
    yield marker, started
    for process in started:
        process.kill()
        process.wait()


def processes(make_settings, **declared):
    return probe_of(ProcessCheck.model_validate({"kind": "process", **declared}), make_settings())()


def test_processes_are_found_by_their_command_line_and_counted(make_settings, sleepers):
    marker, started = sleepers
    found = processes(make_settings, cmdline=f"{marker}$", name="python", at_least=2, at_most=2)
    assert (found.status, sorted(found.data["pids"])) == ("healthy", sorted(p.pid for p in started))
    assert found.data["memory_bytes"] > 1_000_000
    assert processes(make_settings, cmdline=marker, at_most=1).status == "unhealthy"
    assert processes(make_settings, cmdline=marker, min_age=3600).status == "degraded"
    assert processes(make_settings, cmdline=marker, memory_warning=1).status == "degraded"
    started[0].send_signal(signal.SIGKILL)
    eventually(lambda: not _runs(started[0].pid))  # a zombie is no process any more
    assert processes(make_settings, cmdline=marker, at_least=2).status == "unhealthy"


def test_a_pid_file_names_one_process(make_settings, sleepers, tmp_path):
    file = tmp_path / "pid"
    for content in (None, "", "word", "99999999", "-4"):
        if content is not None:
            file.write_text(content)
        assert processes(make_settings, pidfile=file).status == "unhealthy"
    file.write_text(f"{sleepers[1][0].pid}\n")
    assert processes(make_settings, pidfile=file).data["pids"] == [sleepers[1][0].pid]


@pytest.mark.parametrize(
    ("declared", "status"),
    [
        ({}, "healthy"),
        ({"at_least": 3}, "unhealthy"),
        ({"at_least": 0, "at_most": 1}, "unhealthy"),
        ({"memory_warning": 300}, "degraded"),
        ({"memory_critical": 300}, "unhealthy"),
        ({"min_age": 20}, "degraded"),
        ({"max_age": 20}, "degraded"),
        ({"min_age": 5, "max_age": 60, "memory_warning": 301}, "healthy"),
    ],
)
def test_number_memory_and_age_are_judged(declared, status):
    check = ProcessCheck.model_validate({"kind": "process", "name": "x", **declared})
    assert verdict(check, [Running(1, "x", 100, 10.0), Running(2, "x", 200, 50.0)]).status == status


# Load


@pytest.mark.parametrize(
    ("averages", "status"), [((9, 5.9, 9), "healthy"), ((0, 6, 0), "degraded"), ((0, 12, 0), "unhealthy")]
)
def test_the_load_is_shared_by_the_cores(averages, status):
    assert load.verdict(LoadCheck(kind="load"), averages, cores=4).status == status


def test_the_load_of_this_machine_is_read(make_settings):
    assert probe_of(LoadCheck(kind="load", minutes=1), make_settings())().data["per_core"] >= 0


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("kind = 'command'\nargv = []", "argv: Tuple should have at least 1 item"),
        ("kind = 'command'\nargv = 'rm -rf'", "argv = 'rm -rf': Input should be a valid tuple"),
        ("kind = 'command'\nargv = ['x']\nexit_codes = {1 = 'bad'}", "exit_codes.1 = 'bad': Input should be"),
        ("kind = 'python'\nfunction = 'shop'", "name a function as package.module:function"),
        ("kind = 'process'", "say how it is found: by pidfile, or by name, cmdline or both"),
        ("kind = 'process'\nname = 'x'\npidfile = '/x'", "say how it is found"),
        ("kind = 'load'\nminutes = 2", "minutes = 2: Input should be 1, 5 or 15"),
        ("kind = 'temp_files'\ncritical_bytes = 1", "warning_bytes (5e+08) must not be above critical_bytes"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path, toml, said):
    told = complaint(tmp_path, f"[health.checks.x]\n{toml}\n")
    assert told.startswith(f"{tmp_path}/regrow.toml: health.checks.x")
    assert said in told
