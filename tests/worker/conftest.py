"""Brokers and surroundings for real workers; servers are shared, homes are not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kombu import Connection

from regrow.database import Database
from tests.worker.processes import Surroundings

MakeSurroundings = Callable[..., Surroundings]


@pytest.fixture
def surroundings(tmp_path: Path, redis_url: str) -> MakeSurroundings:
    """Surroundings on the shared Valkey, or on the broker given; keyword arguments are environment."""

    def make(broker_url: str = "", redis: str = "", **more: str) -> Surroundings:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        made = Surroundings(home, redis or redis_url, broker_url or redis or redis_url, redis_url, more)
        # What a worker would do when it starts, made at once. (On MariaDB, and in `make run`, they do it.)
        with contextlib.closing(Database(made.environment()["REGROW_DATABASE_URL"])) as database:
            if database.is_sqlite:
                database.upgrade()
        return made

    return make


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest, redis_url: str) -> Iterator[str]:
    """Each broker in turn, with our queues empty."""
    if request.param == "redis":
        yield redis_url
        return
    url = str(request.getfixturevalue("rabbitmq_url"))
    _delete_queues(url)
    yield url
    _delete_queues(url)


def _delete_queues(url: str) -> None:
    with Connection(url) as connection:
        for queue in ("regrow.control", "regrow.capture", "regrow.redrive"):
            connection.channel().queue_delete(queue)
