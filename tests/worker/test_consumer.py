"""Poison and final failures on real workers and both brokers: captured whole, acknowledged, worker unharmed."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from kombu import Connection

from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Program, Surroundings, ready, running, worker

JSON = "application/json"
CALL = b'[["poison"], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


@dataclass(frozen=True)
class Poison:
    """A message no task can take, and the error that its letter must name."""

    body: bytes
    error: str
    content_type: str = JSON
    encoding: str = "utf-8"
    headers: dict[str, Any] = field(default_factory=lambda: {"task": "test.work", "id": "poison-1"})


POISON = {
    "json garbage": Poison(b'{"half": ', "DecodeError"),
    "body is no list of three": Poison(b'["a", "b"]', "BrokenMessageError"),
    "body is a number": Poison(b"7", "BrokenMessageError"),
    "kwargs are no object": Poison(b"[[], [], {}]", "BrokenMessageError"),
    "no id": Poison(CALL, "BrokenMessageError", headers={"task": "test.work"}),
    "id is no text": Poison(CALL, "BrokenMessageError", headers={"task": "test.work", "id": 7}),
    "no headers, foreign body": Poison(b'{"order": 1}', "BrokenMessageError", headers={}),
    "unknown task": Poison(CALL, "UnknownTaskError", headers={"task": "test.gone", "id": "poison-2"}),
    "pickle": Poison(b"\x80\x04K\x01.", "ContentDisallowed", "application/x-python-serialize", "binary"),
    "unknown content type": Poison(b"\x00\x01", "ContentDisallowed", "application/x-nobody", "binary"),
    "eta is no time": Poison(
        CALL, "InvalidTaskError", headers={"task": "test.work", "id": "poison-3", "eta": "tomorrow"}
    ),
    "bytes that are no text": Poison(b"\xff\xfe\x00", "DecodeError"),
}


def left_behind(around: Surroundings, program: Program) -> int:
    """Messages that the broker still has once the worker has drained, and given back all it had in hand."""
    program.signal(signal.SIGTERM)
    assert program.wait(20) == 0
    if around.broker_url.startswith("redis"):
        return int(around.traces.llen("regrow.control")) + int(around.traces.hlen("regrow.unacked"))
    with Connection(around.broker_url) as connection:
        return int(connection.channel().queue_declare("regrow.control", passive=True).message_count)


def test_poison_is_captured_whole_and_acknowledged_and_the_worker_goes_on(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url)
    with running(worker(around)) as program:
        ready(program)
        before = program.children()
        for number, (name, poison) in enumerate(POISON.items()):
            headers = dict(poison.headers)
            if isinstance(headers.get("id"), str):
                headers["id"] = f"{headers['id']}-{number}"  # the same id would be one letter
            around.publish(poison.body, poison.content_type, {**headers, "name": name}, poison.encoding)
        if broker_url.startswith("redis"):
            redis.Redis.from_url(broker_url).lpush("regrow.control", b"\xffno message at all")
        many = len(POISON) + broker_url.startswith("redis")
        eventually(lambda: len(around.letters()) >= many, 30, what=f"{many} letters")
        around.send("test.work", "after")
        eventually(lambda: around.ended("after") == 1, what="a good message after the poison")

        letters = {json.loads(letter["headers"]).get("name", "raw"): letter for letter in around.letters()}
        assert len(around.letters()) == many
        for name, poison in POISON.items():
            letter = letters[name]
            assert bytes(letter["body"]) == poison.body, name
            assert letter["error_class"].endswith(poison.error), (name, letter["error_class"])
            assert (letter["state"], letter["queue"]) == ("quarantined", "regrow.control"), name
            assert letter["failure_class"] == "poison", name
            assert letter["content_type"] == poison.content_type, name
        if broker_url.startswith("redis"):
            assert bytes(letters["raw"]["body"]) == b"\xffno message at all"
        assert program.alive()
        assert {child.pid for child in program.children()} == {child.pid for child in before}
        assert left_behind(around, program) == 0, "all of it is acknowledged"


def test_tasks_that_fail_for_good_are_captured_and_memory_errors_and_killed_children_end_nothing(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url)
    with running(worker(around)) as program:
        ready(program)
        around.send("test.fail", "fail", expires=3600)
        around.send("test.exhaust", "exhaust")
        around.send("test.die", "die")
        around.send("test.over", "over", soft_time_limit=0.5, time_limit=1)
        eventually(lambda: len(around.letters()) == 4, 30, what="four letters")
        letters = {letter["message_type"]: letter for letter in around.letters()}
        assert letters["test.fail"]["error_class"] == "ValueError"
        assert letters["test.fail"]["error_message"] == "fail fails"
        assert "in fail" in letters["test.fail"]["traceback"]
        assert letters["test.exhaust"]["error_class"].endswith("MemoryError")
        assert letters["test.die"]["error_class"].endswith("WorkerLostError")
        assert letters["test.over"]["error_class"].endswith("TimeLimitExceeded")
        assert {letter["state"] for letter in letters.values()} == {"pending"}
        assert {letter["queue"] for letter in letters.values()} == {"regrow.control"}
        assert json.loads(bytes(letters["test.fail"]["body"]))[0] == ["fail"]
        # Once, and once more for the child that died; never in a loop.
        assert [around.began(name) for name in ("fail", "exhaust", "die", "over")] == [1, 1, 2, 1]
        assert program.alive()
        assert left_behind(around, program) == 0, "all of them are acknowledged"


def test_poison_stays_with_the_broker_while_the_store_is_away_and_good_messages_pass_it(
    surroundings: MakeSurroundings, own_mysql, tmp_path
) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=own_mysql.port, user="root") as connection:
        connection.cursor().execute("CREATE DATABASE regrow CHARACTER SET utf8mb4")
    around = surroundings(REGROW_DATABASE_URL=own_mysql.url("regrow"))
    with running(worker(around)) as program:
        ready(program)
        own_mysql.kill()
        for number in range(4):  # more than the two that the prefetch allows
            around.publish(b"garbage", JSON, {"task": "test.work", "id": f"held-{number}"})
        around.send("test.work", "good")
        eventually(lambda: around.ended("good") == 1, what="good messages pass")
        eventually(lambda: program.says("letter.waiting"), what="the worker says that it waits")
        assert around.traces.hlen("regrow.unacked") == 4
        own_mysql.start()
        eventually(lambda: around.traces.hlen("regrow.unacked") == 0, 40, what="captured and acknowledged")
        with pymysql.connect(
            host="127.0.0.1", port=own_mysql.port, user="root", database="regrow"
        ) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT COUNT(*), COUNT(DISTINCT task_id) FROM dead_letters")
            assert cursor.fetchone() == (4, 4)
        program.signal(signal.SIGTERM)
        assert program.wait(20) == 0


@pytest.mark.parametrize("retries", [0, 2])
def test_a_message_that_keeps_killing_its_worker_is_captured_at_last(
    surroundings: MakeSurroundings, retries: int
) -> None:
    around = surroundings()
    around.traces.set(f"regrow:{{deliveries}}:killer:{retries}", 10)  # ten workers have died of it
    body = b'[["killer"], {}, {}]'
    with running(worker(around)) as program:
        ready(program)
        headers = {"task": "test.work", "id": "killer", "retries": retries, "lang": "py"}
        redelivered = {"exchange": "", "routing_key": "regrow.control", "redelivered": True}
        with Connection(around.broker_url) as connection:
            channel = connection.channel()
            message = channel.prepare_message(
                body.decode(), content_type=JSON, content_encoding="utf-8", headers=headers
            )
            channel._inplace_augment_message(message, "", "regrow.control")
            message["properties"]["delivery_info"] = redelivered
            channel._put("regrow.control", message)
        eventually(lambda: len(around.letters()) == 1)
        (letter,) = around.letters()
        assert letter["error_class"].endswith("DeliveredTooOftenError")
        assert letter["state"] == "quarantined"
        assert around.began("killer") == 0
