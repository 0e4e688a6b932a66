"""The Redis transport: what its guard adds, and that a worker outlives its broker."""

from __future__ import annotations

import json

import pytest
import redis.exceptions
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls
from kombu.transport import redis as kombu_redis

from tests.servers import RedisServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import ready, running, worker
from tests.worker.proxy import Proxy
from worker import transport


def test_upstream_still_fails_on_a_closed_connection_so_the_guard_is_still_needed(redis_url: str) -> None:
    connection = Connection(redis_url, transport=kombu_redis.Transport)
    channel = connection.channel()
    connection._do_close_transport()
    with pytest.raises(AttributeError):
        # When this raises a connection error instead, or nothing: upstream has mended it. Remove
        # _Guard._connparams from worker/transport.py and this test.
        channel._connparams()


@pytest.mark.parametrize("alias", ["redis", "rediss", "sentinel"])
def test_every_redis_alias_means_the_guarded_transport(alias: str) -> None:
    transport.install()
    assert TRANSPORT_ALIASES[alias].startswith("worker.transport:")
    assert issubclass(get_transport_cls(alias).Channel, transport._Guard)


def test_a_closed_connection_is_a_connection_error(redis_url: str) -> None:
    connection = Connection(redis_url, transport=transport.Transport)
    channel = connection.channel()
    connection._do_close_transport()
    with pytest.raises(redis.exceptions.ConnectionError):
        channel._connparams()


@pytest.mark.parametrize(
    "item", [b"\xff\xfe not json", b"[1, 2, 3]", b'{"body": "eA=="}', b'{"properties": {}}']
)
def test_an_item_that_is_no_message_arrives_as_one_and_stays_leased_until_acknowledged(
    redis_url: str, item: bytes
) -> None:
    client = redis.Redis.from_url(redis_url)
    with Connection(redis_url, transport=transport.Transport) as connection:
        received = []
        queue = connection.SimpleQueue("unreadable")
        queue.consumer.on_message = received.append
        queue.consumer.consume()
        client.lpush("unreadable", item)
        eventually(lambda: connection.drain_events(timeout=1) or received, 10, what="the item arrives")
        (message,) = received
        assert message.body == item
        assert message.content_type == transport.UNREADABLE
        assert json.loads(client.hgetall("unacked")[message.delivery_tag.encode()])[2] == "unreadable"
        message.ack()
        assert client.hlen("unacked") == 0


def test_a_message_whose_connection_broke_before_it_was_leased_is_put_back(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = transport._QoS.append
    broken = iter([True])

    def break_once(self: object, *args: object) -> None:
        if next(broken, False):
            raise redis.exceptions.ConnectionError("gone")
        lease(self, *args)

    monkeypatch.setattr(transport._QoS, "append", break_once)
    with Connection(redis_url, transport=transport.Transport) as connection:
        queue = connection.SimpleQueue("taken")
        queue.put("kept")
        with pytest.raises(redis.exceptions.ConnectionError):
            queue.get(timeout=5)
    with Connection(redis_url, transport=transport.Transport) as connection:
        assert connection.SimpleQueue("taken").get(timeout=5).payload == "kept"
    assert not transport._taken


def test_a_worker_outlives_its_redis_killed_while_a_delivery_is_unacknowledged(
    surroundings: MakeSurroundings, own_redis: RedisServer
) -> None:
    around = surroundings(redis=own_redis.url)
    with running(worker(around)) as program:
        ready(program)
        around.send("test.work", "long", 60)
        eventually(lambda: around.began("long") == 1, what="the task runs")
        own_redis.kill()
        eventually(lambda: program.says("Connection to broker lost"), what="the worker sees the loss")
        eventually(lambda: around.heartbeat()["state"] == "broker_away", what="the heartbeat says so")
        own_redis.start()
        around.send("test.work", "after", 0)
        eventually(lambda: around.ended("after") == 1, 30, what="the same process works again")
        eventually(lambda: around.heartbeat()["state"] == "running")
        assert program.alive()
        # The task that was cancelled with its connection is delivered again.
        eventually(lambda: around.began("long") == 2, 30, what="the unacknowledged delivery comes back")


def blocked(client: redis.Redis) -> list[str]:
    return [one["addr"] for one in client.client_list() if "b" in one["flags"]]


def test_a_peer_that_vanished_is_noticed_and_left(surroundings: MakeSurroundings, redis_url: str) -> None:
    proxy = Proxy(int(redis_url.rsplit(":", 1)[1].split("/", maxsplit=1)[0]))
    around, direct = surroundings(broker_url=f"redis://127.0.0.1:{proxy.port}/0"), surroundings()
    try:
        with running(worker(around)) as program:
            ready(program)
            direct.send("test.work", "before")
            eventually(lambda: around.ended("before") == 1)
            assert proxy.silence() > 0
            # Until the server gives up the BRPOP of a peer it still believes in, it hands that peer the next
            # message: lost, and no client can prevent it (docs/celery.md).
            eventually(lambda: not blocked(direct.traces), 10, what="the server waits for nobody")
            direct.send("test.work", "after")
            eventually(lambda: around.ended("after") == 1, 40, what="work goes on over a new connection")
            assert program.alive()
    finally:
        proxy.close()
