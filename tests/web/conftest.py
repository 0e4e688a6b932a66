"""Applications on real stores, clients that come from where a test says, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser

from regrow.engine import Engine
from regrow.settings import load_settings
from regrow.web.app import create_app
from tests.conftest import lacking
from tests.web import scene
from tests.web.browsing import chromium

KEY = scene.KEY

MakeEngine = Callable[..., Engine]
MakeClient = Callable[..., TestClient]


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[MakeEngine]:
    """Engines with the scene's checks; environment names as keyword arguments override."""
    made: list[Engine] = []

    def make(redis_url: str, database_url: str, **environ: str) -> Engine:
        told = {
            "REGROW_PROFILE": "development",
            "REGROW_HOME": str(tmp_path / "home"),
            "REGROW_REDIS_URL": redis_url,
            "REGROW_DATABASE_URL": database_url,
            "API_KEY": KEY,
            **environ,
        }
        chosen = {name: value for name, value in told.items() if value}
        made.append(Engine(load_settings(scene.settings_file(tmp_path), environ=chosen)))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def make_client(make_engine: MakeEngine, redis_url: str, sqlite_url: str) -> Iterator[MakeClient]:
    """Clients of applications on migrated, empty stores; ``address`` is where they ask from."""
    with ExitStack() as stack:

        def make(address: str = "127.0.0.1", engine: Engine | None = None, **environ: str) -> TestClient:
            engine = engine or make_engine(redis_url, sqlite_url, **environ)
            engine.database.upgrade()
            client = TestClient(
                create_app(engine), "http://127.0.0.1:8000", client=(address, 50000), follow_redirects=False
            )
            return stack.enter_context(client)

        yield make


@pytest.fixture
def painted(make_engine: MakeEngine, redis_url: str, sqlite_url: str) -> Engine:
    """An engine whose stores hold the scene."""
    engine = make_engine(redis_url, sqlite_url)
    engine.database.upgrade()
    scene.paint(engine)
    return engine


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    """A client on this machine, without a key, of an application on empty stores."""
    return make_client()


@pytest.fixture
def holder(make_client: MakeClient, painted: Engine) -> TestClient:
    """A client that holds the key, of an application that shows the scene."""
    client = make_client(engine=painted)
    client.headers["X-API-Key"] = KEY
    return client


# Of a module, not of the session: while playwright runs, its thread has an event loop that others trip over.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with ExitStack() as stack:
        try:
            found = stack.enter_context(chromium())
        except LookupError as reason:
            lacking("chromium", str(reason))
        yield found
