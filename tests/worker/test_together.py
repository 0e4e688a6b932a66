"""All guards at once, on both brokers: a broker that dies under load, poison among the tasks, long ones too."""

from __future__ import annotations

import signal

import pytest

from tests.servers import RabbitServer, RedisServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import ready, running, worker

MANY = 40


@pytest.mark.parametrize("server", ["own_redis", "own_rabbitmq"])
def test_a_broker_killed_under_load_loses_nothing_and_the_same_worker_goes_on(
    surroundings: MakeSurroundings, request: pytest.FixtureRequest, server: str
) -> None:
    broker: RedisServer | RabbitServer = request.getfixturevalue(server)
    around = surroundings(broker_url=broker.url, REGROW_CELERY__VISIBILITY_TIMEOUT="3")
    with running(worker(around)) as program:
        ready(program)
        around.send("test.work", "long", 5)
        for number in range(MANY):
            around.send("test.work", f"short{number}", 0.02)
            if number % 10 == 0:
                around.publish(b"[1]", "application/json", {"task": "test.work", "id": f"poison{number}"})
        eventually(lambda: around.ended("short5") == 1, what="in the middle of it")
        broker.kill()
        eventually(lambda: around.heartbeat()["state"] == "broker_away", 30)
        broker.start()
        eventually(lambda: all(around.ended(f"short{n}") for n in range(MANY)), 60, what="every task ends")
        eventually(lambda: around.ended("long") == 1, 30, what="the long one too, after a new start")
        eventually(lambda: len(around.letters()) == MANY // 10, 20)
        assert sorted(letter["task_id"] for letter in around.letters()) == [
            f"poison{number}" for number in range(0, MANY, 10)
        ]
        again = sum(around.began(f"short{n}") - 1 for n in range(MANY))
        assert again <= 4, f"{again} tasks ran again; only what was in hand may"
        program.signal(signal.SIGTERM)
        assert program.wait(20) == 0
