"""``python -m regrow.web`` as a process: it waits, serves, drains and ends well."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers import RedisServer, child_options, free_port
from tests.waiting import eventually
from tests.web.conftest import KEY

Start = subprocess.Popen[str]


class WebProcess:
    def __init__(self, folder: Path, redis_url: str, **environ: str) -> None:
        self.port = free_port()
        told = {
            "PATH": os.environ["PATH"],
            "REGROW_PROFILE": "testing",
            "REGROW_HOME": str(folder / "home"),
            "REGROW_PORT": str(self.port),
            "REGROW_REDIS_URL": redis_url,
            "API_KEY": KEY,
            **environ,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "regrow.web"],
            env={name: value for name, value in told.items() if value},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **child_options(),  # type: ignore[call-overload]
        )
        self.lines: list[str] = []
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=10)

    def ends(self, timeout: float = 20) -> int:
        code = self.process.wait(timeout)
        self._listening.join(5)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[WebProcess]]:
    made: list[WebProcess] = []
    yield made
    for web in made:
        web.close()


def test_it_serves_and_a_signal_ends_it_with_0(
    started: list[WebProcess], tmp_path: Path, redis_url: str
) -> None:
    web = WebProcess(tmp_path, redis_url)
    started.append(web)
    eventually(lambda: web.get("/health/ready").status_code == 200, 30, what="ready")
    answer = web.get("/health/live")
    assert "server" not in answer.headers
    assert web.get("/").status_code == 200
    assert web.get("/metrics", Authorization=f"Bearer {KEY}").status_code == 200
    assert web.get("/", **{"X-Forwarded-For": "203.0.113.9"}).status_code == 401
    assert web.get("/health/live", **{"X-API-Key": "guess-the-key"}).status_code == 200
    assert web.get("/status", **{"X-API-Key": "guess-the-key"}).status_code == 401

    web.process.send_signal(signal.SIGTERM)
    assert web.ends() == 0
    assert "web.stopped" in web.log
    assert KEY not in web.log
    assert "guess-the-key" not in web.log
    assert "/health/live" not in web.log  # no line a request


def test_ctrl_c_ends_it_with_0_too(started: list[WebProcess], tmp_path: Path, redis_url: str) -> None:
    web = WebProcess(tmp_path, redis_url)
    started.append(web)
    eventually(lambda: web.get("/health/live").status_code == 200, 30, what="alive")
    web.process.send_signal(signal.SIGINT)
    assert web.ends() == 0
    assert "Traceback" not in web.log


def test_it_waits_for_redis_and_goes_on_by_itself_when_it_comes(
    started: list[WebProcess], tmp_path: Path, own_redis: RedisServer
) -> None:
    own_redis.kill()
    web = WebProcess(tmp_path, own_redis.url, DEPENDENCY_CHECK_INTERVAL="0.2")
    started.append(web)
    eventually(lambda: "startup.waiting" in web.log and "redis" in web.log, 30, what="says what it waits for")
    own_redis.start()
    eventually(lambda: web.get("/health/ready").status_code == 200, 30, what="goes on")


def test_it_can_be_stopped_while_it_waits(started: list[WebProcess], tmp_path: Path) -> None:
    web = WebProcess(tmp_path, "redis://127.0.0.1:1/0", DEPENDENCY_CHECK_INTERVAL="0.2")
    started.append(web)
    eventually(lambda: "startup.waiting" in web.log, 30, what="says what it waits for")
    web.process.send_signal(signal.SIGTERM)
    assert web.ends() == 0
    assert "Traceback" not in web.log


def test_it_gives_up_with_a_reason(started: list[WebProcess], tmp_path: Path) -> None:
    web = WebProcess(
        tmp_path, "redis://127.0.0.1:1/0", STARTUP_TIMEOUT="0.5", DEPENDENCY_CHECK_INTERVAL="0.2"
    )
    started.append(web)
    assert web.ends() == 69
    assert "STARTUP_TIMEOUT" in web.log
    assert "Traceback" not in web.log


def test_settings_that_cannot_be_used_are_told_in_words(started: list[WebProcess], tmp_path: Path) -> None:
    web = WebProcess(tmp_path, "http://not-redis")
    started.append(web)
    assert web.ends() == 1
    assert "redis.url" in web.log
    assert "Traceback" not in web.log


def test_a_port_that_is_taken_is_told_and_is_no_success(
    started: list[WebProcess], tmp_path: Path, redis_url: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        web = WebProcess(tmp_path, redis_url, REGROW_PORT=str(taken.getsockname()[1]))
        started.append(web)
        assert web.ends() == 1
    assert "already in use" in web.log
    assert "REGROW_PORT" in web.log
    assert "Traceback" not in web.log


def test_without_a_key_it_says_so_at_the_start(
    started: list[WebProcess], tmp_path: Path, redis_url: str
) -> None:
    web = WebProcess(tmp_path, redis_url, API_KEY="")
    started.append(web)
    eventually(lambda: "API_KEY_FILE" in web.log, 30, what="says how to set one")
    eventually(lambda: web.get("/status").status_code == 403, 30)


def test_a_frozen_redis_costs_a_page_seconds_not_the_process(
    started: list[WebProcess], tmp_path: Path, own_redis: RedisServer
) -> None:
    web = WebProcess(tmp_path, own_redis.url)
    started.append(web)
    eventually(lambda: web.get("/health/ready").status_code == 200, 30, what="ready")
    own_redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert web.get("/").status_code == 200
    assert time.monotonic() - began < 15
    assert web.get("/health/live").elapsed.total_seconds() < 2
    web.process.send_signal(signal.SIGTERM)
    assert web.ends() == 0
    assert time.monotonic() - began < 30
