"""A monitored past: results written as a sweep writes them, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from regrow.database import Database
from regrow.engine import Engine
from regrow.health.rules import Result
from regrow.health.store import KeptResults
from regrow.settings import Settings
from tests.cli.conftest import cli  # noqa: F401 - a fixture

START = datetime(2026, 3, 10, 6, tzinfo=UTC)


class Past:
    """An engine whose clock stands where it is put."""

    def __init__(self, settings: Settings) -> None:
        self.now = START
        self.engine = Engine(settings, clock=lambda: self.now)

    def results(
        self, check: str, minutes: Iterable[float], status: str = "healthy", **told: float
    ) -> list[Result]:
        return [
            Result(
                check,
                status,  # type: ignore[arg-type]
                "",
                told.get("latency", 0.01),
                START + timedelta(minutes=minute),
                told.get("interval", 60.0),
            )
            for minute in minutes
        ]

    def write(self, results: list[Result]) -> None:
        KeptResults(self.engine.database).write(results)


@pytest.fixture
def settings_with(make_settings: Callable[..., Settings], tmp_path: Path) -> Callable[..., Settings]:
    """Settings of the production profile's intervals with this text over them."""

    def make(text: str = "", database_url: str = "", **environ: str) -> Settings:
        file = tmp_path / "slo.toml"
        file.write_text(text)
        return make_settings(database_url=database_url, REGROW_CONFIG=str(file), **environ)

    return make


@pytest.fixture
def past(settings_with: Callable[..., Settings]) -> Iterator[Past]:
    made = Past(settings_with(CHECKS))
    made.engine.database.upgrade()
    yield made
    made.engine.close()


@pytest.fixture
def each_past(
    settings_with: Callable[..., Settings], database: Database, database_url: str
) -> Iterator[Past]:
    made = Past(settings_with(CHECKS, database_url))
    yield made
    made.engine.close()


CHECKS = """
[health.checks.shop]
kind = "tcp"
host = "shop"
port = 80
interval = 60
severity = "critical"
[health.checks.mail]
kind = "tcp"
host = "mail"
port = 25
interval = 60
[slo]
lateness = 300
"""
