from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from regrow.breakers import process as this_process
from regrow.breakers import push
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.reporter import Reporter
from regrow.breakers.service import CircuitBreaker
from regrow.breakers.store import BreakerStore, MemoryStore
from tests.breakers.callers import breaker_threads
from tests.waiting import eventually


@pytest.fixture(params=["memory", "fakeredis", "valkey", "cluster"])
def store(request: pytest.FixtureRequest) -> BreakerStore:
    """One suite, every store."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "fakeredis":
        import fakeredis

        return RedisStore(fakeredis.FakeRedis())
    address = "cluster_url" if request.param == "cluster" else "redis_url"
    return RedisStore.from_url(request.getfixturevalue(address))


@pytest.fixture
def make_reporter() -> Iterator[Callable[..., Reporter]]:
    """Reporters that stand for processes: on a Redis, or local without a URL."""
    made: list[Reporter] = []

    def make(url: str | None = None, host: str | None = None) -> Reporter:
        made.append(Reporter(RedisStore.from_url(url) if url else None, host=host))
        return made[-1]

    yield make
    for reporter in made:
        reporter.close()


@pytest.fixture
def no_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breakers of tests before have left has ended, the process's own reporter included."""
    monkeypatch.setattr(push, "WAIT", 0.05)
    own, this_process._reporter = this_process._reporter, None
    if own is not None:  # which a test of another room may have put on a Redis
        own.close()
    eventually(lambda: not breaker_threads(), 30, what="the threads of other tests have ended")


@pytest.fixture
def process(make_reporter: Callable[..., Reporter], redis_url: str) -> Callable[..., CircuitBreaker]:
    """A breaker as another process would hold it."""

    def make(name: str = "payments", **settings: Any) -> CircuitBreaker:
        return CircuitBreaker(name, reporter=make_reporter(redis_url), **settings)

    return make


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client
