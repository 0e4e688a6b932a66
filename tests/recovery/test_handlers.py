"""What each kind of handler does: for real, bounded, and without telling secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from regrow.dead_letters.signature import verify
from regrow.recovery import Recovery, handlers, warden
from regrow.recovery.handlers import command
from regrow.settings.recovery import CommandHandler, DatabaseHandler, HttpHandler, PythonHandler
from tests.waiting import eventually

RECOVERY = Recovery("0198c0de", "bank", 2, "breaker", "it is open", None)


def run(engine, *argv, **options):
    return handlers.act(CommandHandler(kind="command", argv=argv, **options), RECOVERY, engine)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


class TestCommand:
    def test_what_ends_with_zero_is_done_and_its_output_is_kept(self, engine):
        acted = run(engine, "echo", "restarted; $HOME `id`")
        assert (acted.ok, acted.evidence["exit"]) == (True, 0)
        assert acted.evidence["output"] == "restarted; $HOME `id`\n"
        assert acted.message == "exit code 0: restarted; $HOME `id`"

    def test_what_ends_otherwise_is_not(self, engine):
        acted = run(engine, "sh", "-c", "echo no such unit >&2; exit 5")
        assert (acted.ok, acted.message) == (False, "exit code 5: no such unit")
        acted = run(engine, "sh", "-c", "kill -9 $$")
        assert (acted.ok, acted.message) == (False, "ended by signal 9")

    def test_its_arguments_are_counted_and_never_told(self, engine):
        acted = run(engine, "true", "--password", "hunter2")
        assert (acted.evidence["argv"], acted.evidence["arguments"]) == (["true"], 2)
        handler = CommandHandler(kind="command", argv=("true", "--password", "hunter2"))
        assert handlers.target(handler) == "run true with 2 arguments"

    def test_a_program_that_is_not_there_is_told(self, engine):
        acted = run(engine, "/no/such/program")
        assert not acted.ok
        assert acted.message.startswith("could not be started: FileNotFoundError")

    def test_it_sees_what_it_was_given_and_nothing_of_the_workers_environment(self, engine, monkeypatch):
        monkeypatch.setenv("REGROW_DATABASE_URL", "mysql://root:hunter2@db/x")
        acted = run(engine, "env", env={"UNIT": SecretStr("shop.service")})
        seen = dict(line.split("=", 1) for line in acted.evidence["output"].splitlines())
        assert seen["REGROW_RECOVERY_SERVICE"] == "bank"
        assert seen["REGROW_RECOVERY_ATTEMPT"] == "2"
        assert "REGROW_DATABASE_URL" not in seen
        assert seen["UNIT"] == "***"

    def test_secrets_are_hidden_in_what_is_kept(self, engine):
        acted = run(engine, "sh", "-c", 'echo "token=$T via $T"', env={"T": SecretStr("s3cr3t-value")})
        assert "s3cr3t" not in json.dumps(dict(acted.evidence)) + acted.message

    def test_only_the_end_of_a_long_output_is_kept(self, engine):
        acted = run(engine, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' 'x'; echo; echo the end")
        assert acted.ok
        assert len(acted.evidence["output"]) <= command.KEEP
        assert acted.message.endswith("the end")

    def test_its_time_over_the_whole_group_is_ended(self, engine, tmp_path):
        pids = tmp_path / "pids"
        acted = run(
            engine,
            "sh",
            "-c",
            f"trap '' TERM; sleep 100 & echo $! >> {pids}; echo $$ >> {pids}; wait; sleep 100",
            timeout=1.0,
        )
        assert (acted.ok, acted.evidence["end"]) == (False, "timed_out")
        assert "not done within 1 s" in acted.message
        for pid in map(int, pids.read_text().split()):
            eventually(lambda pid=pid: not alive(pid), 5)

    def test_a_server_that_it_starts_outlives_it(self, engine, tmp_path):
        pids = tmp_path / "pids"
        acted = run(engine, "sh", "-c", f"sleep 30 >/dev/null 2>&1 & echo $! > {pids}; echo up", timeout=20.0)
        pid = int(pids.read_text())
        try:
            assert (acted.ok, acted.message, alive(pid)) == (True, "exit code 0: up", True)
        finally:
            os.kill(pid, signal.SIGKILL)

    @pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
    def test_a_command_whose_worker_is_killed_is_ended_with_all_it_started(self, tmp_path):
        pids = tmp_path / "pids"
        script = f"sleep 100 & echo $! > {pids}; echo $$ >> {pids}; wait"
        program = (
            "from regrow.recovery.handlers import command;"
            f"command.run(['sh', '-c', {script!r}], timeout=90, cwd='/', env={{'PATH': '/usr/bin:/bin'}})"
        )
        worker = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
        try:
            written = eventually(lambda: pids.exists() and pids.read_text().split(), 20)
            eventually(lambda: len(pids.read_text().split()) == 2, 5)
            written = [int(pid) for pid in pids.read_text().split()]
            assert all(map(alive, written))
        finally:
            worker.kill()
            worker.wait()
        for pid in written:
            eventually(lambda pid=pid: not alive(pid), 10)

    def test_a_warden_that_says_nothing_is_given_up(self, engine, monkeypatch, tmp_path):
        silent = tmp_path / "silent.py"
        silent.write_text("import time; time.sleep(100)")
        monkeypatch.setattr(warden, "__file__", str(silent))
        monkeypatch.setattr(command, "GRACE", 0.0)
        began = time.monotonic()
        acted = run(engine, "true", timeout=0.1)
        assert (acted.ok, "nobody told" in acted.message) == (False, True)
        assert time.monotonic() - began < 60


class TestPython:
    def call(self, engine, function, **options):
        handler = PythonHandler(kind="python", function=f"tests.recovery.functions:{function}", **options)
        return handlers.act(handler, RECOVERY, engine)

    def test_it_is_called_with_the_attempt_in_a_process_of_its_own(self, engine):
        acted = self.call(engine, "tell")
        assert acted.ok
        service, attempt, pid = acted.message.removeprefix("exit code 0: ").split()
        assert (service, attempt) == ("bank", "2")
        assert int(pid) != os.getpid()

    def test_false_and_errors_mean_not_done(self, engine):
        assert not self.call(engine, "no").ok
        acted = self.call(engine, "broken")
        assert (acted.ok, acted.message) == (False, "exit code 1: RuntimeError: the host is gone")
        assert "Traceback" in acted.evidence["output"]
        assert not self.call(engine, "not_there").ok

    def test_it_is_ended_with_its_time(self, engine):
        acted = self.call(engine, "hang", timeout=1.5)
        assert (acted.ok, acted.evidence["end"]) == (False, "timed_out")


class TestHttp:
    def call(self, engine, backend, **options):
        handler = HttpHandler(kind="http", url=f"{backend.url}/restart?key=hidden", **options)
        return handlers.act(handler, RECOVERY, engine)

    def test_a_signed_request_with_headers_and_the_attempt(self, engine, backend):
        key = "0123456789abcdef"
        acted = self.call(
            engine, backend, signing_keys=(SecretStr(key),), headers={"X-Token": SecretStr("abc")}
        )
        assert acted.ok
        assert acted.message == f"{backend.url}/restart answered 200"
        ((method, path, headers, body),) = backend.asked
        assert (method, path, headers["X-Token"]) == ("POST", "/restart?key=hidden", "abc")
        assert headers["Idempotency-Key"] == "0198c0de"
        assert json.loads(body)["service"] == "bank"
        assert verify(headers["Regrow-Signature"], body, [key], engine.clock().timestamp())

    def test_another_answer_or_none_is_not_done(self, engine, backend):
        backend.well = False
        assert self.call(engine, backend).message == f"{backend.url}/restart answered 500"
        backend.close()
        acted = self.call(engine, backend)
        assert (acted.ok, "ConnectError" in acted.message) == (False, True)


class TestDatabase:
    def test_the_pool_is_emptied_and_a_new_connection_answers(self, engine, mysql_url):
        with engine.database.snapshot():
            pass
        before = engine.database.engine.pool
        for handler in (
            DatabaseHandler(kind="database"),
            DatabaseHandler(kind="database", url=SecretStr(mysql_url)),
        ):
            acted = handlers.act(handler, RECOVERY, engine)
            assert (acted.ok, acted.message) == (True, "a new connection answers SELECT 1")
        assert engine.database.engine.pool is not before

    def test_one_that_is_away_is_told_without_its_password(self, engine):
        handler = DatabaseHandler(
            kind="database", url=SecretStr("mysql+pymysql://root:hunter2@127.0.0.1:1/x"), timeout=3.0
        )
        acted = handlers.act(handler, RECOVERY, engine)
        assert not acted.ok
        assert "hunter2" not in acted.message + handlers.target(handler)
