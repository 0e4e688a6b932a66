"""The start-up gate: it waits for what is required, says for what, and ends with the reason."""

from __future__ import annotations

import asyncio
import http.server
import logging
import signal
import threading

import pytest

import regrow
from regrow.dependencies import wait_for_dependencies
from regrow.engine import Engine
from regrow.errors import SettingsError
from regrow.startup import DependencyMissingError
from tests.servers import MariaServer, RedisServer, free_port


@pytest.fixture(autouse=True)
def _in_an_app_with_a_log_of_its_own(monkeypatch):
    monkeypatch.setattr("regrow.log_events._structured", lambda: False)


@pytest.fixture
def http_port():
    """A server that answers 503 until it is told otherwise."""

    class Answer(http.server.BaseHTTPRequestHandler):
        status = 503

        def do_GET(self):
            self.send_response(type(self).status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, Answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_returns_when_all_that_is_required_is_there(redis_url, mysql_url, http_port, caplog):
    port, answer = http_port
    asked = iter([False, ValueError("not yet"), True])

    def schema():
        told = next(asked)
        if isinstance(told, Exception):
            raise told
        if told:
            answer.status = 204
        return told

    async def coroutine():
        await asyncio.sleep(0)

    with caplog.at_level(logging.INFO, "regrow.startup"):
        found = regrow.wait_for(
            {
                "cache": redis_url,
                "books": mysql_url,
                "model": f"http://127.0.0.1:{port}/health",
                "queue": f"tcp://127.0.0.1:{port}",
                "schema": schema,
                "coroutine": coroutine,
            },
            optional={"search": f"tcp://127.0.0.1:{free_port()}"},
            timeout=20,
            interval=0.1,
        )
    assert {name for name, there in found.items() if not there} == {"search"}
    told = [line.getMessage() for line in caplog.records]
    assert any("startup.waiting dependency=schema answer=ValueError: not yet" in line for line in told)
    assert any("startup.waiting dependency=model answer=it answers 503" in line for line in told)
    assert any("startup.optional_missing dependency=search" in line for line in told)
    assert any(line.startswith("startup.ready") for line in told)


def test_in_vain_it_says_for_what_and_what_the_last_answer_was_without_passwords():
    url = f"redis://app:hunter2@127.0.0.1:{free_port()}/0"

    def leaky():
        raise ConnectionError(f"cannot reach {url}")

    with pytest.raises(DependencyMissingError) as missing:
        regrow.wait_for({"cache": url, "leaky": leaky, "there": lambda: None}, timeout=0.3, interval=0.1)
    assert "waited 0.3 s for cache and leaky, in vain" in str(missing.value)
    assert "STARTUP_TIMEOUT" in str(missing.value)
    assert "hunter2" not in str(missing.value)


def test_a_frozen_server_hangs_nothing_and_is_found_when_it_thaws(own_redis: RedisServer):
    own_redis.signal(signal.SIGSTOP)
    with pytest.raises(DependencyMissingError, match="no answer for"):  # the driver has more patience
        regrow.wait_for({"cache": own_redis.url}, timeout=1.0, interval=0.3)
    thaw = threading.Timer(0.5, own_redis.signal, [signal.SIGCONT])
    thaw.start()
    assert regrow.wait_for({"cache": own_redis.url}, timeout=30, interval=0.3) == {"cache": True}
    thaw.join()


def test_a_frozen_database_does_not_hang_the_workers_gate(own_mysql: MariaServer, make_settings, redis_url):
    own_mysql.process.send_signal(signal.SIGSTOP)
    settings = make_settings(redis_url, own_mysql.url("mysql"), STARTUP_TIMEOUT="1")
    with pytest.raises(DependencyMissingError, match="for database, in vain"):
        wait_for_dependencies(Engine(settings))


def test_the_settings_name_further_dependencies_and_the_broker_is_optional(
    make_settings, redis_url, sqlite_url, caplog
):
    port = free_port()
    settings = make_settings(
        redis_url,
        sqlite_url,
        STARTUP_TIMEOUT="0.5",
        REGROW_STARTUP__REQUIRED='["shop"]',
        REGROW_HEALTH__CHECKS__SHOP__KIND="tcp",
        REGROW_HEALTH__CHECKS__SHOP__HOST="127.0.0.1",
        REGROW_HEALTH__CHECKS__SHOP__PORT=str(port),
        CELERY_BROKER_URL=f"amqp://guest:guest@127.0.0.1:{free_port()}//",
    )
    with caplog.at_level(logging.INFO, "regrow.startup"), pytest.raises(DependencyMissingError, match="shop"):
        wait_for_dependencies(Engine(settings))
    optional = settings.model_copy(
        update={"startup": settings.startup.model_copy(update={"required": (), "optional": ("shop",)})}
    )
    with caplog.at_level(logging.INFO, "regrow.startup"):
        wait_for_dependencies(Engine(optional))
    assert "startup.optional_missing dependency=shop" in caplog.text
    assert "startup.optional_missing dependency=broker" in caplog.text


def test_dependencies_that_are_no_checks_are_refused_by_name(make_settings):
    with pytest.raises(SettingsError, match=r"startup\.required names 'shop', which is no check"):
        make_settings(REGROW_STARTUP__REQUIRED='["shop"]')
    with pytest.raises(
        SettingsError, match=r"startup\.optional names 'disk', which startup\.required names too"
    ):
        make_settings(REGROW_STARTUP__REQUIRED='["disk"]', REGROW_STARTUP__OPTIONAL='["disk"]')


@pytest.mark.parametrize("url", ["localhost:6379", "tcp://nowhere", "nosuch://x/y", "tcp://host:port"])
def test_what_is_no_dependency_is_refused_at_once(url):
    with pytest.raises(SettingsError):
        regrow.wait_for({"it": url}, timeout=5)


def test_an_application_waits_in_its_lifespan_and_may_be_stopped_meanwhile(redis_url):
    async def starts():
        assert await regrow.wait_for_async({"cache": redis_url}, timeout=5) == {"cache": True}
        waiting = asyncio.create_task(
            regrow.wait_for_async({"never": lambda: False}, timeout=60, interval=0.1)
        )
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(starts())  # which waits for its threads
