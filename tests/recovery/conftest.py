"""Engines whose settings declare recovery handlers, a service to bring up and down, and a sender that keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import BreakerConfig, Look, Report
from regrow.clock import utc_now
from regrow.database import Database
from regrow.database.tables import audit, recoveries, recovery_budget, recovery_courses, recovery_events
from regrow.engine import Engine
from regrow.settings import load_settings
from tests.conftest import new_mysql_database

_TABLES = (recoveries, recovery_budget, recovery_courses, recovery_events, audit)


@pytest.fixture(scope="module", params=["sqlite", "mysql"])
def _migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database for a whole module: to migrate one takes longer than all that is done in it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'regrow.sqlite3'}"
        _upgrade(url)
        yield url
        return
    for url in new_mysql_database(str(request.getfixturevalue("_mysql_server"))):
        _upgrade(url)
        yield url


def _upgrade(url: str) -> None:
    database = Database(url)
    database.upgrade()
    database.close()


@pytest.fixture
def database(_migrated: str) -> Iterator[Database]:
    """Each database in turn, with nothing in the tables of recovery."""
    database = Database(_migrated)
    with database.transaction() as connection:
        for table in _TABLES:
            connection.execute(sa.delete(table))
    yield database
    database.close()


class Backend:
    """An HTTP service on loopback that is well, or answers 500; it keeps what it was asked."""

    def __init__(self) -> None:
        self.well = True
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                backend.asked.append((self.command, self.path, dict(self.headers), body))
                self.send_response(200 if backend.well else 500)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


class Kept:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, task: str, kwargs: dict[str, Any], *, queue: str) -> None:
        assert (task, queue) == ("regrow.recovery.recover_service", "regrow.control")
        self.sent.append(kwargs["service"])

    def taken(self) -> list[str]:
        sent, self.sent = self.sent, []
        return sent


class Hands:
    """The clock of a test, which only goes when it is told to."""

    def __init__(self) -> None:
        self.now: datetime = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


MakeEngine = Callable[..., Engine]


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def recovering(tmp_path: Path, redis_url: str, clock: Hands) -> Iterator[MakeEngine]:
    """Engines on ``toml``, a real Valkey and, unless told otherwise, SQLite. Intervals are those of production."""
    made: list[Engine] = []

    def make(toml: str, database_url: str = "", **environ: str) -> Engine:
        file = tmp_path / f"regrow-{len(made)}.toml"
        file.write_text(toml)
        told = {
            "REGROW_PROFILE": "development",
            "REGROW_HOME": str(tmp_path / "home"),
            "REGROW_REDIS_URL": redis_url,
            "REGROW_DATABASE_URL": database_url or f"sqlite:///{tmp_path / 'regrow.sqlite3'}",
            **environ,
        }
        engine = Engine(load_settings(file, environ=told), sender=Kept(), clock=clock)  # type: ignore[arg-type]
        engine.database.upgrade()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


def trip(engine: Engine, name: str) -> int:
    """Five failures in a row; the epoch of the breaker that opened."""
    store, config = RedisStore(engine.redis), BreakerConfig()
    known = store.apply(name, None, Look()).breaker
    opened = store.apply(name, config, Report(known.epoch if known else 0, 0, 5, 5)).breaker
    assert opened is not None
    assert opened.state == "open"
    return opened.epoch


def state(engine: Engine, name: str) -> str:
    breaker = RedisStore(engine.redis).apply(name, None, Look()).breaker
    assert breaker is not None
    return str(breaker.state)
