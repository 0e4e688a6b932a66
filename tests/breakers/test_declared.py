"""``[breakers.NAME]`` of the worker's regrow.toml reaches processes whose code says nothing else."""

from __future__ import annotations

import logging

import pytest

from regrow.breakers import show
from regrow.breakers.declared import differing, read, settled, table_for, written
from regrow.breakers.history import monitor
from regrow.breakers.redis_store import RedisStore, state_key
from regrow.breakers.rules import BreakerConfig
from regrow.breakers.service import CircuitBreaker
from regrow.engine import Engine, set_engine
from regrow.errors import SettingsError
from tests.waiting import eventually
from worker import lifecycle


@pytest.fixture
def worker(make_settings, redis_url, tmp_path):
    """A worker's engine with this regrow.toml."""
    made = []

    def make(toml=""):
        path = tmp_path / f"{len(made)}.toml"
        # The testing profile has defaults of its own, which would be declared too.
        path.write_text(f"{toml}\n[profiles.testing.breakers.default]\nrecovery_timeout = 60.0\n")
        made.append(Engine(make_settings(redis_url, REGROW_CONFIG=str(path))))
        made[-1].database.upgrade()
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def process(make_reporter, redis_url):
    """A breaker as an application's process holds it, once it has heard of the fleet."""

    def make(name="payments", **settings):
        breaker = CircuitBreaker(name, reporter=make_reporter(redis_url), **settings)
        breaker.call(int)
        eventually(lambda: breaker._cell.gate.heard, 5)
        return breaker

    return make


PAYMENTS = "[breakers.payments]\nfailure_threshold = 2\nwindow_size = 40"


def test_a_process_that_says_nothing_lives_by_the_file(worker, process):
    assert monitor(worker(PAYMENTS))["declared"] == 1
    breaker = process()
    assert breaker.config == BreakerConfig(failure_threshold=2, window_size=40)
    assert process("mail").config == BreakerConfig()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            breaker.call(lambda: 1 / 0)
    eventually(lambda: breaker.state == "open", 5)


def test_what_the_code_says_is_stronger_setting_by_setting_and_told_once(worker, process, caplog):
    engine = worker(PAYMENTS)
    monitor(engine)
    with caplog.at_level(logging.WARNING, logger="regrow.breakers"):
        breaker = process(failure_threshold=7, timeout=9)
        breaker.call(int)
        eventually(lambda: show(engine.redis, "payments").successes == 2, 5)
    assert breaker.config == BreakerConfig(failure_threshold=7, timeout=9, window_size=40)
    told = [record for record in caplog.records if "settings_differ" in record.message]
    assert [record.differences for record in told] == [{"failure_threshold": "7, regrow.toml says 2"}]
    status = show(engine.redis, "payments")
    assert (status.config.failure_threshold, status.declared["failure_threshold"]) == (7, 2)
    CircuitBreaker("payments", failure_threshold=7, timeout=9, reporter=breaker._reporter)
    with pytest.raises(SettingsError, match="failure_threshold is 7, not 8"):
        CircuitBreaker("payments", failure_threshold=8, timeout=9, reporter=breaker._reporter)


def test_a_change_of_the_file_reaches_processes_that_run_and_its_end_too(worker, process):
    breaker = process()
    assert breaker.config == BreakerConfig()
    monitor(worker(PAYMENTS))
    eventually(lambda: breaker.config.failure_threshold == 2, 5, what="the next look tells it")
    monitor(worker())
    eventually(lambda: breaker.call(int) == 0 and breaker.config == BreakerConfig(), 5)


def test_a_redis_that_forgot_changes_nothing_and_is_told_again(worker, process):
    engine = worker(PAYMENTS)
    monitor(engine)
    breaker = process()
    engine.redis.flushdb()
    breaker.call(int)
    eventually(lambda: show(engine.redis, "payments"), 5)
    assert breaker.config.failure_threshold == 2
    assert monitor(engine)["declared"] == 1
    assert show(engine.redis, "payments").declared == {"failure_threshold": 2, "window_size": 40}


def test_keys_have_the_settings_of_their_breaker_whenever_these_change(worker, process):
    breaker = process()
    tenant = breaker.for_key("tenant-7")
    tenant.call(int)
    monitor(worker(f"{PAYMENTS}\n[breakers.default]\nfailure_threshold = 9"))
    eventually(lambda: [breaker.call(int), tenant.call(int)] and tenant.config.failure_threshold == 2, 5)
    assert breaker.for_key("tenant-8").config == tenant.config


def test_the_default_table_reaches_breakers_that_have_none(worker, process):
    breaker, engine = process("mail"), worker("[breakers.default]\nfailure_threshold = 9")
    eventually(lambda: show(engine.redis, "mail"), 5, what="the fleet knows it")  # of others nobody is told
    monitor(engine)
    eventually(lambda: breaker.call(int) == 0 and breaker.config.failure_threshold == 9, 5)


def test_a_breaker_that_is_only_declared_is_not_in_use_and_not_kept_for_ever(worker):
    engine = worker(PAYMENTS)
    assert (monitor(engine)["breakers"], monitor(engine)["declared"]) == (0, 0)
    assert show(engine.redis, "payments") is None
    assert 0 < engine.redis.ttl(state_key("payments")) <= 24 * 3600


def test_a_worker_that_starts_tells_at_once_and_starts_without_redis_too(worker, process, make_settings):
    breaker = process()
    set_engine(worker(PAYMENTS))
    try:
        lifecycle.tell_settings()
        eventually(lambda: breaker.call(int) == 0 and breaker.config.failure_threshold == 2, 5)
        set_engine(Engine(make_settings()))
        lifecycle.tell_settings()
    finally:
        set_engine(None)


def test_nonsense_from_elsewhere_is_logged_and_left(redis_url, process, caplog):
    RedisStore.from_url(redis_url).declare("payments", {"failure_threshold": -1})
    with caplog.at_level(logging.WARNING, logger="regrow.breakers"):
        assert process().config == BreakerConfig()
    assert any("settings_refused" in record.message for record in caplog.records)


def test_only_what_differs_from_the_defaults_is_declared():
    assert differing({**BreakerConfig(timeout=None).as_dict(), "kind": "ai"}) == {"timeout": None}
    assert read(written({"timeout": None, "of_a_later_version": 1})) == {"timeout": None}
    assert read("") is None
    assert settled("payments", {"timeout": 5}, None) == BreakerConfig(timeout=5)


def test_a_key_belongs_to_the_table_of_the_nearest_breaker_above_it():
    tables = {"default": 0, "http": 1, "http:shop": 2}
    names = ("http", "http:shop", "http:shop:eu", "http:bank:eu", "mail", "mail:a")
    assert [table_for(name, tables) for name in names] == [1, 2, 2, 1, 0, 0]
