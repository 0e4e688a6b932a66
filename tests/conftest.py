"""Fixtures that every room of the tests shares: private real servers, fresh stores, engines on them."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
import redis
import sqlalchemy as sa
import structlog

from regrow.database import Database, migrating
from regrow.engine import Engine
from regrow.redis import connect
from regrow.settings import Settings, load_settings
from tests.copies import Copies
from tests.order import in_turn
from tests.servers import (
    WITHOUT_DISK,
    MariaServer,
    Missing,
    RabbitServer,
    RedisCluster,
    RedisSentinel,
    RedisServer,
    forget_installed_maria,
)

_REQUIRED = {name.strip() for name in os.environ.get("REGROW_TEST_REQUIRE", "").split(",") if name.strip()}
_numbers = itertools.count(1)

# A run in the background (nohup, some CI) ignores Ctrl-C, and every process it starts inherits that; ours
# are started as from a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no error: no example of a property has to be quick.
hypothesis.settings.register_profile(
    "however slow",
    parent=hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("however slow")

# The settings of the machine the tests run on must not reach the tests.
for _name in list(os.environ):
    if _name.startswith("REGROW_") and not _name.startswith("REGROW_TEST_"):
        del os.environ[_name]

# Each process that a test starts would compile all of us anew, which takes longer than all else it does.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A make that a test runs is not one of the `make test` that runs the test.
for _name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(_name, None)


def lacking(what: str, reason: str) -> None:
    """Skip for want of a server, or fail where ``REGROW_TEST_REQUIRE`` names it."""
    if what in _REQUIRED:
        pytest.fail(
            f"{what} is required here (REGROW_TEST_REQUIRE) and cannot be had: {reason}", pytrace=False
        )
    pytest.skip(f"{_WANT}{what}: {reason}")


_WANT = "for want of "


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    missing = Counter(reason.partition(_WANT)[2] for reason in reasons if _WANT in reason)
    for reason, count in sorted(missing.items()):
        terminalreporter.write_line(f"SKIPPED {_WANT}{reason} ({count} tests)", yellow=True)


@pytest.hookimpl(optionalhook=True)  # pytest runs without xdist too, in one process
def pytest_xdist_auto_num_workers() -> int:
    """A process a core and one more, each with servers of its own: half of the time they wait for these.

    A server that was given is one for all: then one process.
    """
    given = any(os.environ.get(f"REGROW_TEST_{name}_URL") for name in ("REDIS", "MYSQL", "RABBITMQ"))
    return 0 if given else min((os.cpu_count() or 1) + 1, 5)


def pytest_unconfigure() -> None:
    forget_installed_maria()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_turn(items)


Server = TypeVar("Server", RedisServer, RedisCluster, RedisSentinel, MariaServer, RabbitServer)


def _shared(variable: str, server: Server, address: Callable[[Server], str]) -> Iterator[str]:
    """The address that ``variable`` names, else that of a private server; ``missing:REASON`` without either."""
    if given := os.environ.get(variable):
        yield given
        return
    try:
        yield address(server.start())
    except Missing as reason:
        yield f"missing:{reason}"
    finally:
        server.close()


def _present(what: str, address: str) -> str:
    if address.startswith("missing:"):
        lacking(what, address.removeprefix("missing:"))
    return address


def _own(what: str, server: Server) -> Iterator[Server]:
    """A server of one test alone, to be frozen, killed and started again."""
    try:
        server.start()
    except Missing as reason:
        lacking(what, str(reason))
    yield server
    server.close()


_configure = structlog.configure


def _configure_for_one_test(*args: Any, **options: Any) -> None:
    """A logger that is cached would keep, in all later tests, what the first that used it had configured."""
    _configure(*args, **{**options, "cache_logger_on_first_use": False})


structlog.configure = _configure_for_one_test


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    """A command that a test runs configures logging, as it does for people; the next test has its own."""
    root, found = logging.getLogger(), structlog.get_config()
    handlers, level, where = root.handlers[:], root.level, logging._srcfile
    yield
    structlog.configure(**found)
    for added in set(root.handlers) - set(handlers):
        if not type(added).__module__.startswith("_pytest"):
            root.removeHandler(added)
    root.setLevel(level)
    logging._srcfile = where


@pytest.fixture(autouse=True)
def _reporters_end() -> Iterator[None]:
    """Whoever begins a breakers' reporter ends it: one that stays would speak to the Redis of other tests."""
    before = _live_reporters()
    yield
    left = _live_reporters() - before
    for reporter in left:
        reporter.close()
    assert not left, f"reporters that the test has not closed: {sorted(one.name for one in left)}"


def _live_reporters() -> set[Any]:
    """Those of this process that run, but for the process's own."""
    reporters = getattr(sys.modules.get("regrow.breakers.reporter"), "_reporters", ())
    own = getattr(sys.modules.get("regrow.breakers.process"), "_reporter", None)
    return {one for one in list(reporters) if one is not own and one._thread is not None and not one._closed}


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[str]:
    yield from _shared("REGROW_TEST_REDIS_URL", RedisServer(), lambda server: server.url)


@pytest.fixture
def redis_url(_redis_server: str) -> str:
    """A real Valkey or Redis, empty."""
    url = _present("redis", _redis_server)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def _redis_cluster() -> Iterator[str]:
    yield from _shared("REGROW_TEST_REDIS_CLUSTER_URL", RedisCluster(), lambda cluster: cluster.url)


@pytest.fixture
def cluster_url(_redis_cluster: str) -> str:
    """A real cluster of three nodes, empty."""
    url = _present("redis", _redis_cluster)
    with connect(url) as client:
        client.flushall()
    return url


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """A cluster of this test alone: three masters, each with a replica."""
    yield from _own("redis", RedisCluster(replicas=True))


@pytest.fixture
def own_sentinel() -> Iterator[RedisSentinel]:
    """A master, its replica and a Sentinel, of this test alone."""
    yield from _own("redis", RedisSentinel())


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Valkey of this test alone."""
    yield from _own("redis", RedisServer())


@pytest.fixture(scope="session")
def _mysql_server() -> Iterator[str]:
    server = MariaServer(WITHOUT_DISK)
    yield from _shared("REGROW_TEST_MYSQL_URL", server, lambda server: server.url())


@pytest.fixture
def own_mysql() -> Iterator[MariaServer]:
    """A MariaDB of this test alone."""
    yield from _own("mysql", MariaServer(WITHOUT_DISK))


@pytest.fixture
def mysql_url(_mysql_server: str) -> Iterator[str]:
    """A fresh, empty database on a real MySQL or MariaDB, dropped afterwards."""
    yield from new_mysql_database(_mysql_server)


def new_mysql_database(server: str) -> Iterator[str]:
    """The address of a database of its own on the session's server, as fixtures of a room or a module want it."""
    server = _present("mysql", server)
    name = f"regrow_test_{os.getpid()}_{next(_numbers)}"
    admin = sa.create_engine(
        sa.make_url(server).set(database=""), isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def _rabbitmq_server() -> Iterator[str]:
    yield from _shared("REGROW_TEST_RABBITMQ_URL", RabbitServer(), lambda server: server.url)


@pytest.fixture
def rabbitmq_url(_rabbitmq_server: str) -> str:
    """A real RabbitMQ. Queues are shared by the session: name yours so that no other test has them."""
    return _present("rabbitmq", _rabbitmq_server)


@pytest.fixture
def own_rabbitmq() -> Iterator[RabbitServer]:
    """A RabbitMQ of this test alone."""
    yield from _own("rabbitmq", RabbitServer())


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'regrow.sqlite3'}"


@pytest.fixture(params=["sqlite", "mysql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """One suite, every database."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session", autouse=True)
def copies() -> Iterator[Copies]:
    """Whoever brings an empty database up to date gets a copy of one that the migrations made."""
    made = Copies(migrating.upgrade)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrating, "upgrade", made.upgrade)
        yield made


@pytest.fixture
def real_migrations(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copies: for tests that are about the migrations."""
    monkeypatch.setattr(migrating, "upgrade", copies.migrate)


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
