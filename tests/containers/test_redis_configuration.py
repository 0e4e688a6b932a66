"""The Redis of the container stack, with its real configuration and its real users, on a real server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from tests.conftest import lacking
from tests.containers.conftest import ROOT
from tests.servers import Missing, child_options, free_port, redis_binary
from tests.waiting import eventually
from worker.container_secrets import NAMES, files

PASSWORD = "made-up-for-this-test"


class ContainerRedis:
    """As in docker-compose.yml, but for what a container gives it: addresses and folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        acl = next(file for file in files(dict.fromkeys(NAMES, PASSWORD)) if file.name == "users.acl")
        (folder / "users.acl").write_text(acl.text, encoding="utf-8")

    def client(self, user: str | None = None, password: str | None = None) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            username=user,
            password=password,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
        )

    def start(self, *options: str) -> None:
        given = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command = [redis_binary(), str(ROOT / "config/redis/redis.conf"), *given]
        self.process = subprocess.Popen(
            [*command, "--aclfile", str(self.folder / "users.acl"), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **child_options(),
        )
        with self.client("health", "none") as health:
            eventually(health.ping, 20, what="Redis answers the health check's user")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ContainerRedis]:
    server = ContainerRedis(tmp_path)
    try:
        server.start()
    except Missing as reason:
        lacking("redis", str(reason))
    yield server
    server.kill()


def test_what_was_written_in_a_transaction_is_there_after_a_kill(server: ContainerRedis) -> None:
    """The file is replayed as the user ``default``: with its rights gone, so are all transactions."""
    with server.client("regrow", PASSWORD) as client:
        with client.pipeline(transaction=True) as transaction:
            transaction.lpush("regrow.control", "a task")
            transaction.zadd("regrow:{beat}::schedule", {"a job": 1})
            transaction.execute()
        eventually(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0, 5)
    server.kill()
    server.start()
    with server.client("regrow", PASSWORD) as client:
        assert client.lrange("regrow.control", 0, -1) == ["a task"]
        assert client.zcard("regrow:{beat}::schedule") == 1


def test_nobody_gets_in_without_the_password(server: ContainerRedis) -> None:
    for user, password in ((None, None), ("default", ""), ("default", PASSWORD), ("regrow", "wrong")):
        with server.client(user, password) as client, pytest.raises(redis.AuthenticationError):
            client.get("anything")


def test_the_health_check_s_user_can_ping_and_nothing_else(server: ContainerRedis) -> None:
    with server.client("health", "none") as client:
        assert client.ping()
        for forbidden in (lambda: client.get("x"), client.info, lambda: client.publish("x", "y")):
            with pytest.raises(NoPermissionError):
                forbidden()


@pytest.mark.parametrize("command", ["FLUSHALL", "CONFIG GET *", "KEYS *", "SHUTDOWN", "ACL LIST"])
def test_regrow_s_user_cannot_do_what_it_never_needs(server: ContainerRedis, command: str) -> None:
    with server.client("regrow", PASSWORD) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


def test_a_full_redis_says_no_to_a_sender_and_keeps_the_tasks_it_has(server: ContainerRedis) -> None:
    with server.client("regrow", PASSWORD) as client:
        client.lpush("regrow.control", "a task")
        server.kill()
        server.start("--maxmemory", "1mb")
        with pytest.raises(redis.OutOfMemoryError):
            client.lpush("regrow.control", "another task")
        assert client.lrange("regrow.control", 0, -1) == ["a task"]
