"""Fixtures that every room of the tests shares: private real servers, fresh stores, engines on them."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from regrow.database import Database
from regrow.engine import Engine
from regrow.settings import Settings, load_settings
from tests.servers import MariaServer, Missing, RabbitServer, RedisServer

_REQUIRED = {name.strip() for name in os.environ.get("REGROW_TEST_REQUIRE", "").split(",") if name.strip()}
_missing: Counter[str] = Counter()
_numbers = itertools.count(1)

# A run in the background (nohup, some CI) ignores Ctrl-C, and every process it starts inherits that; ours
# are started as from a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The settings of the machine the tests run on must not reach the tests.
for _name in list(os.environ):
    if _name.startswith("REGROW_") and not _name.startswith("REGROW_TEST_"):
        del os.environ[_name]


def lacking(what: str, reason: str) -> None:
    """Skip for want of a server, or fail where ``REGROW_TEST_REQUIRE`` names it."""
    if what in _REQUIRED:
        pytest.fail(
            f"{what} is required here (REGROW_TEST_REQUIRE) and cannot be had: {reason}", pytrace=False
        )
    _missing[f"{what}: {reason}"] += 1
    pytest.skip(f"{what}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, count in sorted(_missing.items()):
        terminalreporter.write_line(f"SKIPPED for want of {reason} ({count} tests)", yellow=True)


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[str]:
    if given := os.environ.get("REGROW_TEST_REDIS_URL"):
        yield given
        return
    server = RedisServer()
    try:
        yield server.start().url
    except Missing as reason:
        yield f"missing:{reason}"
    finally:
        server.close()


@pytest.fixture
def redis_url(_redis_server: str) -> str:
    """A real Valkey or Redis, empty."""
    if _redis_server.startswith("missing:"):
        lacking("redis", _redis_server.removeprefix("missing:"))
    with redis.Redis.from_url(_redis_server) as client:
        client.flushdb()
    return _redis_server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Valkey of this test alone, to be frozen, killed and started again."""
    server = RedisServer()
    try:
        server.start()
    except Missing as reason:
        lacking("redis", str(reason))
    yield server
    server.close()


@pytest.fixture(scope="session")
def _mysql_server() -> Iterator[str]:
    if given := os.environ.get("REGROW_TEST_MYSQL_URL"):
        yield given.rsplit("/", 1)[0] + "/" if given.count("/") > 2 else f"{given}/"
        return
    server = MariaServer()
    try:
        yield server.install().start().url()
    except Missing as reason:
        yield f"missing:{reason}"
    finally:
        server.close()


@pytest.fixture
def own_mysql() -> Iterator[MariaServer]:
    """A MariaDB of this test alone, to be killed and started again."""
    server = MariaServer()
    try:
        server.install().start()
    except Missing as reason:
        lacking("mysql", str(reason))
    yield server
    server.close()


@pytest.fixture
def mysql_url(_mysql_server: str) -> Iterator[str]:
    """A fresh, empty database on a real MySQL or MariaDB, dropped afterwards."""
    if _mysql_server.startswith("missing:"):
        lacking("mysql", _mysql_server.removeprefix("missing:"))
    name = f"regrow_test_{os.getpid()}_{next(_numbers)}"
    admin = sa.create_engine(_mysql_server, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield f"{_mysql_server}{name}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def _rabbitmq_server() -> Iterator[str]:
    if given := os.environ.get("REGROW_TEST_RABBITMQ_URL"):
        yield given
        return
    server = RabbitServer()
    try:
        yield server.start().url
    except Missing as reason:
        yield f"missing:{reason}"
    finally:
        server.close()


@pytest.fixture
def rabbitmq_url(_rabbitmq_server: str) -> str:
    """A real RabbitMQ. Queues are shared by the session: name yours so that no other test has them."""
    if _rabbitmq_server.startswith("missing:"):
        lacking("rabbitmq", _rabbitmq_server.removeprefix("missing:"))
    return _rabbitmq_server


@pytest.fixture
def own_rabbitmq() -> Iterator[RabbitServer]:
    """A RabbitMQ of this test alone, to be killed and started again."""
    server = RabbitServer()
    try:
        server.start()
    except Missing as reason:
        lacking("rabbitmq", str(reason))
    yield server
    server.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'regrow.sqlite3'}"


@pytest.fixture(params=["sqlite", "mysql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """One suite, every database."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An up-to-date database, once per kind."""
    database = Database(database_url)
    database.upgrade()
    yield database
    database.close()


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of the testing profile; environment names as keyword arguments override."""

    def make(redis_url: str = "redis://127.0.0.1:1/0", database_url: str = "", **environ: str) -> Settings:
        return load_settings(
            environ={
                "REGROW_PROFILE": "testing",
                "REGROW_HOME": str(tmp_path / "home"),
                "REGROW_REDIS_URL": redis_url,
                "REGROW_DATABASE_URL": database_url or f"sqlite:///{tmp_path / 'regrow.sqlite3'}",
                **environ,
            }
        )

    return make


@pytest.fixture
def engine(make_settings: Callable[..., Settings], redis_url: str, sqlite_url: str) -> Iterator[Engine]:
    """An engine on a real Valkey and a migrated SQLite: for services that are not about the database."""
    engine = Engine(make_settings(redis_url, sqlite_url))
    engine.database.upgrade()
    yield engine
    engine.close()


@pytest.fixture
def each_engine(
    make_settings: Callable[..., Settings], redis_url: str, database_url: str
) -> Iterator[Engine]:
    """An engine on a real Valkey and, in turn, SQLite and MariaDB."""
    engine = Engine(make_settings(redis_url, database_url))
    engine.database.upgrade()
    yield engine
    engine.close()
