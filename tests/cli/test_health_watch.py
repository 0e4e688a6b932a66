"""``regrow health watch``."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from regrow.cli.health_watch import Lines
from regrow.engine import Engine
from regrow.health import service
from regrow.health.checks import heartbeats
from regrow.health.keeping import keep
from regrow.health.rules import Declared, Result
from tests.cli.conftest import Cli

GRAPH = {
    "disk": Declared("disk", "disk", 2.0, 5.0, failures=2),
    "cpu": Declared("cpu", "cpu", 2.0, 5.0, failures=2, depends_on=("disk",)),
}


def found(engine: Engine, seconds: float, **statuses: str) -> None:
    at = engine.clock() - timedelta(seconds=seconds)
    results = [Result(name, status, f"{status}\x1b[2J", 0.01, at, 2.0) for name, status in statuses.items()]  # type: ignore[arg-type]
    keep(engine, results, GRAPH)


def test_once_shows_what_is_known_and_probes_nothing(cli: Cli, on_engine: Engine) -> None:
    found(on_engine, 3, disk="healthy")
    found(on_engine, 1, disk="unhealthy")
    shown = cli("health", "watch", "--once")
    assert shown.code == 0
    (disk,) = [line for line in shown.out.splitlines() if line.startswith("disk ")]
    assert re.search(r"healthy +\S+ \S+ +unhealthy", disk)  # confirmed, and what the last probe found
    assert "not confirmed yet: disk" in " ".join(shown.out.split())
    assert "\x1b" not in shown.out
    assert [result.status for result in service.history(on_engine, "cpu")] == []


def test_lines_tell_each_change_once(on_engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()

    def told() -> list[str]:
        lines.show(service.overview(on_engine))
        said = [line.partition("Z ")[2] for line in capsys.readouterr().out.splitlines()]
        return [line for line in said if line.startswith(("disk", "all"))]

    disk, everything = told()
    assert disk == "disk unknown: has never run"
    assert everything.startswith("all: unknown: no check has run yet; beat: no beat has given a sign of life")
    found(on_engine, 4, disk="healthy")
    assert told()[0].startswith("disk healthy")
    found(on_engine, 3, disk="unhealthy")
    assert told() == []
    found(on_engine, 2, disk="unhealthy")
    assert told()[0].startswith("disk unhealthy")
    assert told() == []
    now = on_engine.clock().timestamp()
    beat = {"at": now, "pid": 7, "node": "beat@one", "state": "running"}
    heartbeats.keep(on_engine.redis, "beat", "one", beat, now)
    (everything,) = told()
    assert everything.startswith("all: unknown: "), "told though the word is the same: beat is there"
    assert "beat: " not in everything


def test_options_of_watch_go_with_nothing_else(cli: Cli, on_engine: Engine) -> None:
    assert cli("health", "disk", "--once").code == 64
    assert cli("health", "watch", "--local").code == 64
