"""The command line as a whole: exit codes, one clear line for an error, nothing loaded that is not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from regrow.cli import main as entry
from regrow.version import __version__
from tests.cli.conftest import Cli
from tests.servers import free_port


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "regrow.cli.main", *arguments],
        cwd=cwd,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", list(entry.COMMANDS))
def test_every_command_in_the_table_exists_and_explains_itself(cli: Cli, name: str) -> None:
    result = cli(name, "--help")
    assert result.code == 0
    assert "Usage: regrow" in result.out


def test_the_help_names_every_command_without_loading_one(tmp_path: Path) -> None:
    script = (
        "import sys; from regrow.cli.main import main; main(['--help']); "
        "loaded = [m for m in sys.modules if m.startswith(('regrow.cli.', 'sqlalchemy', 'pydantic', 'rich'))]; "
        "print(loaded, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    for name in entry.COMMANDS:
        assert name in done.stdout
    assert done.stderr.strip() == "['regrow.cli.main']"


def test_the_version_is_the_packages(cli: Cli) -> None:
    assert cli("--version").out == f"regrow {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("jobs", "--no-such-option"),
        ("jobs", "--limit", "many"),
        ("jobs", "--job", "no_such_job"),
        ("dead-letters", "discard", "some-id"),
        ("breakers", "reset", "some-name"),
        ("reports", "show"),
        ("--profile", "holiday", "jobs"),
    ],
)
def test_a_wrong_command_line_exits_64_and_says_what_is_wrong(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)
    assert result.code == 64
    assert result.out == ""
    assert "Error:" in result.err


def test_an_error_is_one_line_on_stderr_and_exit_code_1(tmp_path: Path) -> None:
    done = run("--config", "nowhere.toml", "jobs", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("regrow: nowhere.toml: cannot be read")


def test_a_redis_that_is_away_is_one_line_that_says_so(tmp_path: Path) -> None:
    done = run(
        "breakers",
        "list",
        cwd=tmp_path,
        REGROW_PROFILE="testing",
        REGROW_REDIS_URL=f"redis://:hunter2@127.0.0.1:{free_port()}/0",
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Redis" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_database_without_tables_names_the_remedy(tmp_path: Path) -> None:
    done = run("jobs", cwd=tmp_path, REGROW_PROFILE="testing", REGROW_REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "regrow db upgrade" in line


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "regrow.cli.main", "config", "show"],
        cwd=tmp_path,
        env={**os.environ, "REGROW_PROFILE": "testing", "REGROW_REDIS_URL": "redis://127.0.0.1:1/0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 1


def test_what_services_log_goes_to_stderr_and_leaves_json_alone(tmp_path: Path) -> None:
    script = (
        "from regrow.cli.main import main; import structlog; main(['config', 'check', '--json']); "
        "structlog.get_logger('x').info('not.heard'); structlog.get_logger('x').warning('is.heard')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert json.loads(done.stdout)["ok"] is False
    assert "is.heard" in done.stderr
    assert "not.heard" not in done.stderr


def test_no_colour_where_there_is_no_terminal(tmp_path: Path) -> None:
    environ = {"REGROW_PROFILE": "testing", "REGROW_REDIS_URL": "redis://127.0.0.1:1/0", "TERM": "xterm"}
    assert run("db", "upgrade", cwd=tmp_path, **environ).returncode == 0
    assert run("reports", "now", cwd=tmp_path, **environ).returncode == 0
    listed = run("reports", "list", cwd=tmp_path, **environ)
    assert "HEADLINE" in listed.stdout
    assert "\x1b" not in listed.stdout


def test_the_config_option_is_the_file_that_counts(cli: Cli, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'home = "elsewhere"\n[redis]\nurl = "redis://example/0"\n[database]\nurl = "sqlite:///x.db"\n'
    )
    result = cli("--config", str(mine), "--profile", "testing", "config", "show", "--json")
    assert result.json["settings"]["home"] == "elsewhere"
    assert result.json["settings"]["profile"] == "testing"
