"""Leases: a delivery in hand is not delivered again, however long its task takes; a dead worker's is."""

from __future__ import annotations

import signal

import redis
from kombu import Connection

from regrow.celery import redeliveries
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import ready, running, worker
from worker import transport
from worker.deliveries import renew


def test_a_task_longer_than_the_visibility_timeout_runs_once_and_waiting_ones_too(
    surroundings: MakeSurroundings,
) -> None:
    around = surroundings(REGROW_CELERY__VISIBILITY_TIMEOUT="2")
    with running(worker(around)) as program:
        ready(program)
        around.send("test.work", "long", 5)
        around.send("test.work", "late", 0, countdown=4)
        for number in range(3):  # more than there are children, so that one waits in the prefetch
            around.send("test.work", f"busy{number}", 2)
        eventually(lambda: around.ended("long") == 1 and around.ended("late") == 1, 25)
        eventually(lambda: all(around.ended(f"busy{number}") == 1 for number in range(3)), 25)
        for name in ("long", "late", "busy0", "busy1", "busy2"):
            assert around.began(name) == 1, f"{name} ran {around.began(name)} times"
        # And while it drains, with the consumer closed already.
        around.send("test.work", "draining", 4)
        eventually(lambda: around.began("draining") == 1)
        program.signal(signal.SIGTERM)
        assert program.wait(20) == 0
        assert around.ended("draining") == 1
    # Nothing is left that another worker could be given.
    assert around.traces.hlen("regrow.unacked") == 0
    assert around.traces.llen("regrow.control") == 0
    assert around.began("draining") == 1


def test_renewing_never_brings_back_a_delivery_that_was_acknowledged(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    with Connection(redis_url, transport=transport.Transport) as connection:
        queue = connection.SimpleQueue("leases")
        for number in range(2):
            queue.put(number)
        first, _second = queue.get(timeout=5), queue.get(timeout=5)
        channel = queue.consumer.channel
        assert renew(channel, now=1.0) == 2
        assert [score for _, score in client.zrange("unacked_index", 0, -1, withscores=True)] == [1.0, 1.0]
        client.zrem("unacked_index", first.delivery_tag)  # as if another worker had taken it over
        renew(channel, now=2.0)
        assert client.zrange("unacked_index", 0, -1, withscores=True) == [
            (_second.delivery_tag.encode(), 2.0)
        ]


def test_redeliveries_are_counted_per_message_and_forgotten_after_a_day(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    assert [
        redeliveries.count(client, "a:0"),
        redeliveries.count(client, "a:0"),
        redeliveries.count(client, "b:0"),
    ] == [
        1,
        2,
        1,
    ]
    assert 86_000 < client.ttl("regrow:{deliveries}:a:0") <= 86_400
