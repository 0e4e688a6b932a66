from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.waiting import eventually
from worker.stack import ports, valkey
from worker.stack.errors import StackError
from worker.stack.valkey import Server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Server], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin(server: Server) -> subprocess.Popen[str]:
        server.configure()
        started.append(
            subprocess.Popen(
                [valkey.binary(), str(server.configuration)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    folder = tmp_path / 'a "quoted" folder'  # a path that needs quoting in the configuration
    folder.mkdir()
    return Server(folder, ports.any_free(), "a-password")


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def test_data_outlives_a_kill_and_needs_the_password(
    server: Server, start: Callable[[Server], subprocess.Popen[str]]
) -> None:
    first = start(server)
    eventually(client(server.url).ping, 10)
    for number in range(100):
        client(server.url).set(f"key{number}", number)
    with pytest.raises(redis.AuthenticationError):
        client(server.url.replace("a-password", "another")).ping()
    first.kill()
    first.wait()
    start(server)
    assert eventually(client(server.url).dbsize, 10) == 100


def test_the_password_is_in_a_private_file_and_not_on_the_command_line(server: Server) -> None:
    server.configure()
    assert server.configuration.stat().st_mode & 0o777 == 0o600
    assert "a-password" in server.configuration.read_text()


def test_damaged_data_is_explained_with_the_folder_to_move_away(
    server: Server, start: Callable[[Server], subprocess.Popen[str]]
) -> None:
    first = start(server)
    eventually(client(server.url).ping, 10)
    client(server.url).set("key", "value" * 100)
    first.terminate()
    first.wait()
    (log,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*3\r\n$3\r\nSET\r\n$rubbish" + log.read_bytes()[20:])
    output, _ = start(server).communicate(timeout=20)
    told = valkey.explain(output.splitlines(), server)
    assert told is not None
    assert str(server.folder / "appendonlydir") in told
    assert "damaged" in told
    assert "Move that folder away" in told


def test_a_port_that_was_taken_meanwhile_is_explained(
    server: Server, start: Callable[[Server], subprocess.Popen[str]], tmp_path: Path
) -> None:
    start(server)
    eventually(client(server.url).ping, 10)
    other = Server(tmp_path, server.port, "pw")
    output, _ = start(other).communicate(timeout=20)
    assert f"port {server.port}" in str(valkey.explain(output.splitlines(), other))


def test_an_end_that_tells_nothing_is_not_explained(server: Server) -> None:
    assert valkey.explain(["Received SIGTERM scheduling shutdown..."], server) is None


def test_without_any_server_the_error_names_what_to_install_or_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(valkey, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"no Valkey or Redis server.*REGROW_REDIS_URL=redis://"):
        valkey.binary()


def test_a_server_on_the_path_serves_where_the_wheel_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = tmp_path / "redis-server"
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    monkeypatch.setattr(valkey, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert valkey.binary() == str(found)
