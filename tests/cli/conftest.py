"""Running the command line in this process, on the test's own stores."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

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
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """``cli("jobs", "--json")`` runs the command; there is nobody at the keyboard."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for name in ("REGROW_CONFIG", "REGROW_PROFILE"):
        monkeypatch.setenv(name, "")  # so that what --config and --profile set is put back
        monkeypatch.delenv(name)

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def on_engine(engine: Engine) -> Iterator[Engine]:
    """The engine that the commands find: a real Valkey and a migrated SQLite."""
    set_engine(engine)
    yield engine
    set_engine(None)
