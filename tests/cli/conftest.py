"""Running the command line in this process, on the test's own stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from regrow.cli.main import main
from regrow.engine import Engine, set_engine


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """``cli("jobs", "--json")`` runs the command; there is nobody at the keyboard.

    Its log is kept from the output without being set up, which done twice in one process would deafen the
    ``capture_logs`` of other tests.
    """
    monkeypatch.setattr("regrow.cli.main._log_to_stderr", lambda: None)
    for name in ("REGROW_CONFIG", "REGROW_PROFILE"):
        monkeypatch.setenv(name, "")  # so that what --config and --profile set is put back
        monkeypatch.delenv(name)

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        with capture_logs():
            code = main(arguments)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return run


@pytest.fixture
def on_engine(engine: Engine) -> Iterator[Engine]:
    """The engine that the commands find: a real Valkey and a migrated SQLite."""
    set_engine(engine)
    yield engine
    set_engine(None)
