"""``regrow health``: exit codes that a container platform can act on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from regrow.cli.health import health
from regrow.cli.main import main
from tests.servers import free_port


@pytest.fixture
def environ(monkeypatch, tmp_path, redis_url):
    given = {
        "REGROW_PROFILE": "testing",
        "REGROW_HOME": str(tmp_path / "home"),
        "REGROW_REDIS_URL": redis_url,
        "REGROW_DATABASE_URL": f"sqlite:///{tmp_path / 'none.sqlite3'}",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def ask(*arguments):
    return CliRunner().invoke(health, arguments)


def test_a_healthy_component_is_exit_code_0(environ):
    answer = ask("redis")
    assert (answer.exit_code, answer.output) == (0, "redis: healthy: takes writes\n")


def test_an_unhealthy_one_is_exit_code_1_and_names_no_password(environ):
    environ.setenv("REGROW_REDIS_URL", f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    answer = ask("redis")
    assert answer.exit_code == 1
    assert answer.output.startswith("redis: unhealthy: ")
    assert "hunter2" not in answer.output


def test_an_unknown_one_is_exit_code_1(environ):
    answer = ask("celery-worker")
    assert (answer.exit_code, answer.output[:23]) == (1, "celery-worker: unknown:")


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_a_degraded_one_says_so_and_is_0_unless_strict(environ, strict, code):
    environ.setenv("REGROW_HEALTH__CHECKS__DISK__WARNING", "0.001")
    environ.setenv("REGROW_HEALTH__CHECKS__DISK__CRITICAL", "100")
    answer = ask("disk", *strict)
    assert (answer.exit_code, answer.output[:15]) == (code, "disk: degraded:")


def test_json_tells_all(environ):
    told = json.loads(ask("redis", "--json").output)
    assert (told["status"], told["kind"], told["required"]) == ("healthy", "redis", True)
    assert told["data"]["used_bytes"] > 0
    assert told["latency"] > 0


@pytest.mark.parametrize(
    ("alias", "kind"),
    [
        ("mysql", "database"),
        ("database", "database"),
        ("broker", "queue"),
        ("celery-beat", "celery_beat"),
        ("memory", "memory"),
        ("temp-files", "temp_files"),
    ],
)
def test_aliases_name_their_kind_of_check(environ, alias, kind):
    assert json.loads(ask(alias, "--json").output)["kind"] == kind


def test_all_is_a_table_and_a_verdict(environ):
    answer = ask("all")
    assert answer.exit_code == 1
    lines = answer.output.splitlines()
    assert lines[0].split() == ["CHECK", "STATUS", "MESSAGE"]
    assert lines[-1].startswith("all: unhealthy: unhealthy: database")
    told = json.loads(ask("all", "--json").output)
    assert (told["status"], len(told["checks"])) == ("unhealthy", 9)


def test_a_wrong_command_line_is_64_and_lists_what_is_known(environ, capsys):
    assert main(["health", "nothing"]) == 64
    assert "celery-worker" in capsys.readouterr().err
    assert main(["health"]) == 64
    assert main(["health", "redis", "--local"]) == 64
    assert main(["health", "celery-worker", "--max-age", "5"]) == 64


def test_settings_that_are_wrong_are_1_and_say_where(environ, capsys):
    environ.setenv("REGROW_REDIS_URL", "http://nonsense")
    assert main(["health", "redis"]) == 1
    assert "REGROW_REDIS_URL" in capsys.readouterr().err


# The heartbeat file of this container


@pytest.fixture
def heartbeat(environ, tmp_path):
    def write(state="running", age=0.0, name="worker"):
        file = tmp_path / "home" / "run" / f"{name}.heartbeat"
        file.parent.mkdir(parents=True, exist_ok=True)
        at = time.time() - age
        file.write_text(json.dumps({"at": at, "pid": 1, "node": "w@here", "state": state}) + "\n")
        os.utime(file, (at, at))

    return write


@pytest.mark.parametrize(
    ("state", "age", "code", "status"),
    [
        ("running", 1, 0, "healthy"),
        ("broker_away", 1, 0, "degraded"),  # a restart would not bring the broker back
        ("draining", 1, 0, "healthy"),
        ("running", 120, 1, "unhealthy"),
    ],
)
def test_the_heartbeat_file_tells_whether_the_loop_turns(heartbeat, state, age, code, status):
    heartbeat(state, age)
    answer = ask("celery-worker", "--local")
    assert (answer.exit_code, answer.output.split(": ")[1]) == (code, status)


def test_without_a_heartbeat_file_a_worker_is_unknown(environ):
    answer = ask("celery-beat", "--local")
    assert (answer.exit_code, answer.output.split(": ")[1]) == (1, "unknown")


def test_the_greatest_age_can_be_given(heartbeat):
    heartbeat(age=20, name="beat")
    assert ask("celery-beat", "--local").exit_code == 0
    assert ask("celery-beat", "--local", "--max-age", "10").exit_code == 1


def test_looking_at_the_file_loads_no_driver_and_no_settings(heartbeat):
    heartbeat()
    code = (
        "import sys\n"
        "from regrow.cli.health import health\n"
        "health(['celery-worker', '--local'], standalone_mode=False)\n"
        "heavy = {'redis', 'sqlalchemy', 'pydantic', 'celery', 'httpx', 'rich', 'psutil'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
