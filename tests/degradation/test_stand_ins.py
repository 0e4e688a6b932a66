"""What stands in: a memory for Redis, a queue for a call, reading for writing."""

from __future__ import annotations

import asyncio

import pytest
import redis
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import regrow
from regrow import fallbacks, later
from regrow.degradation import StandInCache
from regrow.errors import CircuitOpenError, DegradedError
from regrow.sqlalchemy import refuse_writes, writes
from tests.degradation.test_watch import tell


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


# A memory for Redis ---------------------------------------------------------------------------------------


def test_a_cache_goes_on_in_memory_and_brings_nothing_back_that_was_taken_out(own_redis):
    clock = Clock()
    cache = StandInCache(redis.Redis.from_url(own_redis.url, decode_responses=True), clock=clock)
    for key in ("kept", "changed", "removed"):
        cache.set(key, "old")
    assert cache.get("kept") == "old"
    with redis.Redis.from_url(own_redis.url) as client:
        client.save()
    own_redis.kill()
    clock.now = 2.0
    assert (cache.get("kept"), cache.get("unknown"), cache.away) == ("old", None, True)
    cache.set("changed", "new")
    cache.set("short", "lived", ttl=10)
    cache.delete("removed")
    assert (cache.get("changed"), cache.get("removed")) == ("new", None)
    clock.now = 13.0
    assert cache.get("short") is None
    clock.now = 303.0
    assert cache.get("changed") is None
    own_redis.start()
    with redis.Redis.from_url(own_redis.url, decode_responses=True) as client:
        client.mset({"kept": "old", "changed": "old", "removed": "old"})  # as a Redis with a disk has them
        clock.now = 400.0
        assert cache.get("kept") == "old"
        assert not cache.away
        assert (cache.get("changed"), cache.get("removed")) == (None, None)
        assert client.exists("changed", "removed") == 0


def test_a_redis_that_is_away_is_not_asked_at_every_call():
    asked = []

    class Away:
        def get(self, key):
            asked.append(key)
            raise redis.ConnectionError

    clock = Clock()
    cache = StandInCache(Away(), pause=1.0, clock=clock)
    for _ in range(100):
        assert cache.get("a") is None
    clock.now = 1.5
    cache.get("a")
    assert len(asked) == 2


def test_the_memory_is_bounded(redis_url):
    cache = StandInCache(redis.Redis.from_url(redis_url), entries=10)
    for number in range(50):
        cache.set(f"key-{number}", number)
    assert len(cache._memory) == 10


# A queue for a call ---------------------------------------------------------------------------------------


@pytest.fixture
def captured(monkeypatch):
    kept = []
    monkeypatch.setattr(
        regrow.dead_letters, "capture", lambda message, **given: kept.append((message, given)) or "event-1"
    )
    return kept


@pytest.fixture
def open_breaker(make_breaker):
    breaker = make_breaker("whatsapp")
    breaker.force_open(actor="ann")
    return breaker


@pytest.fixture
def make_breaker():
    from regrow.breakers.reporter import Reporter

    reporter = Reporter()
    yield lambda name: regrow.CircuitBreaker(name, reporter=reporter)
    reporter.close()


def test_a_call_that_a_breaker_refuses_becomes_a_dead_letter(captured, open_breaker):
    send = later.as_dead_letter(
        "shop.send", queue="shop", service="whatsapp", idempotency_key=lambda number, text: f"to-{number}"
    )
    assert open_breaker.call(print, 42, text="hello", fallback=send) == later.Queued("event-1")
    [(message, given_)] = captured
    assert message == {"task": "shop.send", "args": [42], "kwargs": {"text": "hello"}, "queue": "shop"}
    assert isinstance(given_.pop("error"), CircuitOpenError)
    assert given_ == {"service": "whatsapp", "idempotency_key": "to-42", "failure_class": "dependency_down"}


def test_among_the_registered_fallbacks_of_a_service(captured, open_breaker):
    whatsapp = fallbacks.Fallback("whatsapp")

    @whatsapp.register
    def broken(error):
        raise OSError

    whatsapp.register(later.as_dead_letter("shop.send", queue="shop", service="whatsapp"))
    assert open_breaker.call(print, 42, fallback=whatsapp).id == "event-1"
    assert captured[0][0]["args"] == [42]
    assert whatsapp.used == 1


def test_a_task_takes_the_call_that_the_level_does_not_permit(redis_url, this_process):
    tell(redis_url, "critical")
    this_process(redis_url)
    sent = []

    class Task:
        def apply_async(self, args, kwargs, **options):
            sent.append((args, kwargs, options))
            return type("Result", (), {"id": "task-1"})

    @regrow.requires("minor", fallback=later.as_task(Task(), queue="mails"))
    async def mail(address, text):
        raise AssertionError

    assert asyncio.run(mail("ann@example.com", text="hello")) == later.Queued("task-1")
    assert sent == [(("ann@example.com",), {"text": "hello"}, {"queue": "mails"})]


def test_what_could_not_be_kept_is_no_answer(monkeypatch, open_breaker):
    def fails(message, **given):
        raise regrow.StoreUnavailableError

    monkeypatch.setattr(regrow.dead_letters, "capture", fails)
    with pytest.raises(regrow.StoreUnavailableError):
        open_breaker.call(print, 1, fallback=later.as_dead_letter("t", queue="q", service="s"))


def test_without_a_call_there_is_nothing_to_keep():
    with pytest.raises(regrow.SettingsError, match="is a call"):
        later.as_task(None)(OSError())


# Reading for writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ("SELECT 1", False), ("  -- why\n select 1", False), ("/* a */ /* b */ SHOW TABLES", False),
        ("(SELECT 1) UNION (SELECT 2)", False), ("WITH a AS (SELECT 1) SELECT * FROM a", False),
        ("WITH a AS (SELECT 1) DELETE FROM b", True), ("insert into a values (1)", True), ("UPDATE a SET b=1", True),
        ("DROP TABLE a", True), ("CALL something()", True), ("", True), ("SAVEPOINT a", False),
    ],
)  # fmt: skip
def test_which_statements_write(statement, answer):
    assert writes(statement) is answer


@given(st.text(max_size=200))
def test_any_text_has_an_answer(text):
    assert writes(text) in {True, False}


def test_a_database_is_read_and_not_written(redis_url, this_process):
    tell(redis_url, "moderate")
    this_process(redis_url)
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    table = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert().values(id=1))
    refuse_writes(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(table)).scalars().all() == [1]
        with pytest.raises(DegradedError, match="database writes"):
            connection.execute(table.insert().values(id=2))
        with pytest.raises(DegradedError):
            connection.exec_driver_sql("delete from orders")
    engine.dispose()
