"""The containers' health check: cheap, and true."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.containers.conftest import ROOT


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(ROOT / "worker/probe.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture
def page() -> Iterator[int]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/well" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_fresh_heartbeat_is_alive(tmp_path: Path) -> None:
    file = tmp_path / "worker.heartbeat"
    file.write_text("{}")
    assert probe("heartbeat", str(file), "30").returncode == 0


def test_an_old_heartbeat_is_not_and_its_age_is_told(tmp_path: Path) -> None:
    file = tmp_path / "worker.heartbeat"
    file.write_text("{}")
    old = time.time() - 45
    os.utime(file, (old, old))
    found = probe("heartbeat", str(file), "30")
    assert found.returncode == 1
    assert "45 s old" in found.stdout


def test_no_heartbeat_is_not_alive(tmp_path: Path) -> None:
    found = probe("heartbeat", str(tmp_path / "none"), "30")
    assert found.returncode == 1
    assert "no heartbeat yet" in found.stdout


def test_a_page_that_answers_200_is_alive(page: int) -> None:
    assert probe("http", str(page), "/well").returncode == 0


def test_a_page_that_answers_anything_else_is_not(page: int) -> None:
    found = probe("http", str(page), "/ill")
    assert found.returncode == 1
    assert "503" in found.stdout


def test_a_page_that_does_not_listen_is_not_alive(page: int) -> None:
    del page
    assert probe("http", "1", "/").returncode == 1


@pytest.mark.parametrize(
    "arguments", [[], ["heartbeat"], ["http", "x", "/"], ["heartbeat", "/etc/hosts", "soon"]]
)
def test_a_wrong_call_is_never_healthy_and_never_exits_2_which_docker_keeps(arguments: list[str]) -> None:
    found = probe(*arguments)
    assert found.returncode == 1
    assert "usage" in found.stdout


def test_it_loads_nothing_of_ours_and_nothing_heavy() -> None:
    listed = [
        sys.executable,
        "-I",
        "-S",
        "-X",
        "importtime",
        str(ROOT / "worker/probe.py"),
        "heartbeat",
        "/",
        "9e9",
    ]
    loaded = subprocess.run(listed, capture_output=True, text=True, timeout=20, check=True).stderr
    for heavy in ("regrow", "celery", "json", "argparse", "pathlib", "urllib", "socket"):
        assert f" {heavy}\n" not in loaded
