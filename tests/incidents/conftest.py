"""Engines on a clock of the test's own, with checks that stand on each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from regrow.engine import Engine, set_engine
from regrow.settings import load_settings
from regrow.web.app import create_app
from tests.cli.conftest import cli
from tests.incidents.history import Clock, History

__all__ = ["cli"]

TOML = """
[health]
interval = 30.0

[health.checks]
redis = { kind = "redis", enabled = false }
database = { kind = "database", enabled = false }
broker = { kind = "queue", enabled = false }
celery-worker = { kind = "celery_worker", enabled = false }
celery-beat = { kind = "celery_beat", enabled = false }
disk = { kind = "disk", enabled = false }
memory = { kind = "memory", enabled = false }
cpu = { kind = "cpu", enabled = false }
temp-files = { kind = "temp_files", enabled = false }

[health.checks.db]
kind = "tcp"
host = "127.0.0.1"
port = 1
severity = "critical"

[health.checks.mail]
kind = "tcp"
host = "127.0.0.1"
port = 1
severity = "low"
"""


def children(count: int) -> str:
    return "".join(
        f'\n[health.checks.app{number}]\nkind = "tcp"\nhost = "127.0.0.1"\nport = 1\ndepends_on = ["db"]\n'
        for number in range(count)
    )


MakeHistory = Callable[..., History]
KEY = "a key that is long enough"
WEB = f'\n[web]\napi_key = "{KEY}"\n'


@pytest.fixture
def make_history(tmp_path: Path, redis_url: str) -> Iterator[MakeHistory]:
    """Histories on ``TOML`` and what is added to it, probed ``every`` so many seconds, on real stores."""
    made: list[Engine] = []

    def make(more: str = "", database_url: str = "", every: float = 30.0, **environ: str) -> History:
        file = tmp_path / f"regrow-{len(made)}.toml"
        file.write_text(TOML.replace("interval = 30.0", f"interval = {every}") + more)
        told = {
            "REGROW_PROFILE": "production",
            "REGROW_HOME": str(tmp_path / "home"),
            "REGROW_REDIS_URL": redis_url,
            "REGROW_DATABASE_URL": database_url or f"sqlite:///{tmp_path / 'regrow.sqlite3'}",
            **environ,
        }
        engine = Engine(load_settings(file, environ=told), clock=Clock())
        engine.database.upgrade()
        made.append(engine)
        return History(engine, every)

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def on_stage() -> Iterator[Callable[[History], History]]:
    """Makes the engine of a history the one that tasks and commands find."""

    def put(history: History) -> History:
        set_engine(history.engine)
        return history

    yield put
    set_engine(None)


@pytest.fixture
def client(failed: History) -> Iterator[TestClient]:
    """A browser, or a program, before the page of a history that has ``failed``; it asks from this machine."""
    app = create_app(failed.engine)
    with TestClient(app, "http://127.0.0.1:8000", client=("127.0.0.1", 5), follow_redirects=False) as client:
        yield client


def sign_in(client: TestClient) -> None:
    client.post("/sign-in", content=f"key={KEY.replace(' ', '+')}&then=/")
    client.cookies = dict(client.cookies.items())  # type: ignore[assignment]


def token_of(page: str) -> str:
    """What the form of a page must bear."""
    (token,) = re.findall(r'name="token" value="([0-9a-f]{64})"', page)
    return str(token)
