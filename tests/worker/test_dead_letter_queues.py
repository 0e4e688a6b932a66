"""RabbitMQ's dead-letter queues, with a plain publisher and a plain consumer that rejects."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from kombu import Connection, Exchange, Queue

from regrow.celery import CelerySender
from regrow.celery.messages import RawMessage
from regrow.dead_letters import redriving, service
from regrow.dead_letters.home import HEADER
from regrow.dead_letters.posting import EFFECT_KEY
from regrow.engine import Engine
from regrow.settings import DeadLetterQueue
from tests.servers import MariaServer, RabbitServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import ready, running, worker
from worker import dead_letter_queues
from worker.dead_letter_queues import QueueConsumer, Taken

# RabbitMQ's own dead-lettering loses messages when it is killed, unless a quorum queue is told not to.
_AT_LEAST_ONCE = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


@dataclass
class Shop:
    """A topology of somebody else's: topic exchange -> work queue -> dead-letter queue."""

    url: str
    kind: str = "classic"
    name: str = field(default_factory=lambda: f"shop-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        with self.channel() as channel:
            arguments = {"x-queue-type": self.kind}
            self.work_queue = Queue(
                self.name,
                Exchange(f"{self.name}.events", type="topic"),
                routing_key="order.*",
                queue_arguments={
                    **arguments,
                    **(_AT_LEAST_ONCE if self.kind == "quorum" else {}),
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": self.dead,
                },
            )
            self.work_queue(channel).declare()
            Queue(self.dead, queue_arguments=arguments)(channel).queue_declare()

    @property
    def dead(self) -> str:
        return f"{self.name}.dead"

    @contextmanager
    def channel(self) -> Iterator[object]:
        with Connection(self.url, transport_options={"confirm_publish": True}) as connection:
            yield connection.channel()

    def publish(self, *numbers: int) -> None:
        with self.channel() as channel:
            for number in numbers:
                message = channel.prepare_message(
                    json.dumps({"order": number}),
                    content_type="application/json",
                    content_encoding="utf-8",
                    properties={"message_id": f"m-{number}", "delivery_mode": 2, "type": "order.paid"},
                    headers={"x-tenant": "a"},
                )
                channel.basic_publish(message, exchange=f"{self.name}.events", routing_key="order.paid")

    def reject(self, count: int) -> list[object]:
        """What the shop's consumer does: take so many, and reject each."""
        with self.channel() as channel:
            taken = []
            while len(taken) < count:
                message = eventually(lambda: self.work_queue(channel).get(), 10)
                message.reject()
                taken.append(message)
            return taken

    def reject_all(self) -> None:
        with self.channel() as channel:
            while message := self.work_queue(channel).get():
                message.reject()

    def waiting(self) -> int:
        with self.channel() as channel:
            return int(channel.queue_declare(self.dead, passive=True).message_count)

    def consumers(self) -> int:
        with self.channel() as channel:
            return int(channel.queue_declare(self.dead, passive=True).consumer_count)

    def delete(self) -> None:
        with self.channel() as channel:
            channel.queue_delete(self.name)
            channel.queue_delete(self.dead)
            channel.exchange_delete(f"{self.name}.events")


@pytest.fixture(params=["classic", "quorum"])
def shop(request: pytest.FixtureRequest, rabbitmq_url: str) -> Iterator[Shop]:
    made = Shop(rabbitmq_url, request.param)
    yield made
    made.delete()


@pytest.fixture
def make_engine(make_settings: Callable[..., object], sqlite_url: str) -> Iterator[Callable[..., Engine]]:
    made = []

    def make(rabbitmq_url: str, database_url: str = "") -> Engine:
        settings = make_settings(database_url=database_url or sqlite_url, CELERY_BROKER_URL=rabbitmq_url)
        engine = Engine(settings, sender=CelerySender.from_url(rabbitmq_url))
        engine.database.upgrade()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


@contextmanager
def consuming(engine: Engine, queue: str, **more: object) -> Iterator[QueueConsumer]:
    consumer = QueueConsumer(engine, DeadLetterQueue(queue=queue, **more))
    consumer.start()
    try:
        yield consumer
    finally:
        consumer.stop(timeout=10)
        assert not consumer.is_alive()


def test_a_rejected_message_is_kept_whole_and_goes_back_to_the_queue_it_died_in(
    make_engine: Callable[..., Engine], shop: Shop
) -> None:
    engine = make_engine(shop.url)
    shop.publish(1)
    shop.reject(1)
    with consuming(engine, shop.dead, service="bank"):
        letter = eventually(lambda: service.list_letters(engine))[0]
        found = service.show(engine, letter.id)
        assert (letter.service, letter.message_type, letter.queue) == ("bank", "order.paid", shop.name)
        assert (letter.exchange, letter.routing_key) == (f"{shop.name}.events", "order.paid")
        assert (letter.error_class, found.body.body) == ("rejected", b'{"order": 1}')
        eventually(lambda: shop.waiting() == 0)

        # Home is the queue it died in; its consumer rejects it once more, and the next generation follows.
        service.retry(engine, letter.id, actor="test")
        assert redriving.process_batch(engine)["resolved"] == 1
        (again,) = shop.reject(1)
        assert again.properties["message_id"] == "m-1"
        assert again.headers["x-tenant"] == "a"
        assert again.headers[EFFECT_KEY] == letter.idempotency_key
        assert "x-death" not in again.headers
        newest = eventually(lambda: service.list_letters(engine, state="pending"))[0]
        assert (newest.idempotency_key, newest.generation) == (letter.idempotency_key, 2)
        assert newest.max_retries == letter.max_retries - 1, "the redrives that are left"


def test_a_hundred_messages_outlive_a_broker_that_is_restarted_in_the_middle(
    own_rabbitmq: RabbitServer, make_engine: Callable[..., Engine]
) -> None:
    shop = Shop(own_rabbitmq.url, "quorum")
    engine = make_engine(shop.url)
    shop.publish(*range(100))
    shop.reject(60)
    with consuming(engine, shop.dead, prefetch=5):
        eventually(lambda: service.counts(engine)["pending"] >= 10, every=0.01)
        own_rabbitmq.stop()  # after a kill, a quorum queue of RabbitMQ 3.10 may serve nobody for minutes (seen)
        assert service.counts(engine)["pending"] < 100
        own_rabbitmq.start()
        eventually(lambda: shop.waiting() >= 0, 30)

        def all_kept() -> bool:
            shop.reject_all()  # a rejection that the broker forgot when it was killed is made once more
            return service.counts(engine)["pending"] == 100

        # RabbitMQ keeps whoever asks while a quorum queue recovers waiting for up to a minute.
        eventually(all_kept, 120, every=0.5)
        eventually(lambda: shop.waiting() == 0, 20)
    # One letter a message. (One that died twice, because the broker forgot the first time, is seen twice.)
    bodies = [service.show(engine, x.id).body.body for x in service.list_letters(engine, limit=200)]
    assert sorted(bodies) == sorted(json.dumps({"order": number}).encode() for number in range(100))


def test_while_the_database_is_away_messages_are_held_and_not_given_back(
    own_mysql: MariaServer, rabbitmq_url: str, make_engine: Callable[..., Engine]
) -> None:
    shop = Shop(rabbitmq_url, "quorum")
    with sa.create_engine(own_mysql.url()).connect() as admin:
        admin.exec_driver_sql("CREATE DATABASE regrow")
    engine = make_engine(shop.url, own_mysql.url("regrow"))
    with consuming(engine, shop.dead) as consumer:
        eventually(lambda: shop.consumers() == 1)
        own_mysql.kill()
        shop.publish(1, 2)
        shop.reject(2)
        eventually(lambda: consumer._pause > 1, 20, what="it waits for the database")
        assert shop.waiting() == 0, "both are in hand"
        own_mysql.start()
        letters = eventually(lambda: service.list_letters(engine), 40)
        eventually(lambda: len(service.list_letters(engine)) == 2)
        headers = service.show(engine, letters[0].id).body.headers
        assert "x-delivery-count" not in headers, "it was delivered once"
    shop.delete()


def test_a_queue_that_is_not_there_is_said_and_not_made(
    rabbitmq_url: str, make_engine: Callable[..., Engine], capsys
) -> None:
    engine = make_engine(rabbitmq_url)
    name = f"nowhere-{uuid.uuid4().hex[:8]}"
    with consuming(engine, name) as consumer:
        told = ""

        def missing() -> bool:
            nonlocal told
            told += capsys.readouterr().out
            return "dead_letter_queue.missing" in told

        eventually(missing)
        assert consumer.is_alive()
    with Connection(rabbitmq_url) as connection, pytest.raises(connection.channel_errors):
        connection.channel().queue_declare(name, passive=True)


def test_what_cannot_be_a_letter_becomes_a_file_and_holds_up_nothing(
    make_settings, rabbitmq_url: str, sqlite_url: str
) -> None:
    shop = Shop(rabbitmq_url)
    engine = Engine(make_settings(CELERY_BROKER_URL=rabbitmq_url, REGROW_DEAD_LETTERS__MAX_BODY_BYTES="13"))
    engine.database.upgrade()
    shop.publish(1, 1000, 2)
    shop.reject(3)
    with consuming(engine, shop.dead):
        eventually(lambda: len(service.list_letters(engine)) == 2 and shop.waiting() == 0)
        (file,) = (engine.settings.home / "unfiled").glob("*.json")
        assert "max_body_bytes" in file.read_text()
    shop.delete()
    engine.close()


def test_a_disk_that_takes_no_file_holds_the_message_and_gives_it_back_to_nobody(
    make_settings, rabbitmq_url: str, capsys
) -> None:
    """A file stands where the folder should be: it is the same error to us as a disk that is full."""
    shop = Shop(rabbitmq_url, "quorum")
    engine = Engine(make_settings(CELERY_BROKER_URL=rabbitmq_url, REGROW_DEAD_LETTERS__MAX_BODY_BYTES="13"))
    engine.database.upgrade()
    engine.settings.home.mkdir(exist_ok=True)
    (engine.settings.home / "unfiled").write_text("")
    shop.publish(1000)
    shop.reject(1)
    with consuming(engine, shop.dead) as consumer:
        eventually(consumer.trouble)
        assert "make room" in str(consumer.trouble())
        eventually(lambda: consumer._pause > 2, what="it waits longer each time")
        assert shop.waiting() == 0, "it is in hand all the time"
        (engine.settings.home / "unfiled").unlink()
        eventually(lambda: list((engine.settings.home / "unfiled").glob("*.json")), 30)
        eventually(lambda: consumer.trouble() is None)
    (file,) = (engine.settings.home / "unfiled").glob("*.json")
    assert "x-delivery-count" not in file.read_text(), "it was delivered once"
    assert capsys.readouterr().out.count("dead_letter_queue.waiting") <= 5, "said once a pause"
    shop.delete()
    engine.close()


def test_a_broker_that_does_not_let_us_begin_is_asked_again_and_never_holds_up_the_end(
    make_engine: Callable[..., Engine], rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does while a quorum queue recovers: heartbeats come, and no answer."""
    shop = Shop(rabbitmq_url)
    waited = []
    slow = True

    class NoAnswer(dead_letter_queues.Consumer):
        def consume(self, *_: object, **__: object) -> None:
            waited.append(1)
            while slow:
                self.channel.connection.drain_events()
            super().consume()

    monkeypatch.setattr(dead_letter_queues, "Consumer", NoAnswer)
    engine = make_engine(rabbitmq_url)
    with consuming(engine, shop.dead) as consumer:
        eventually(lambda: waited)
        consumer.stop(timeout=10)
        assert not consumer.is_alive(), "stopped while it waited"
    monkeypatch.setattr(dead_letter_queues, "BEGIN_LIMIT", 0.5)
    waited.clear()
    with consuming(engine, shop.dead):
        eventually(lambda: len(waited) >= 2, what="it is asked again")
        slow = False
        eventually(lambda: shop.consumers() == 1, 30)
    shop.delete()


def test_a_worker_that_captures_takes_from_the_declared_queues(
    surroundings: MakeSurroundings, rabbitmq_url: str, tmp_path: Path
) -> None:
    shop = Shop(rabbitmq_url)
    file = tmp_path / "regrow.toml"
    file.write_text(
        f'[brokers.shop]\nurl = "{rabbitmq_url}"\n'
        f'[dead_letters.queues.shop]\nqueue = "{shop.dead}"\nbroker = "shop"\n'
    )
    around = surroundings(REGROW_CONFIG=str(file))
    shop.publish(1)
    shop.reject(1)
    with running(worker(around)) as program:
        ready(program)
        (letter,) = eventually(around.letters)
        assert (letter["queue"], letter["broker"]) == (shop.name, "shop")
    shop.delete()


def test_one_that_cannot_be_told_as_coming_back_holds_up_nothing(
    make_settings, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(make_settings(database_url=sqlite_url))
    engine.database.upgrade()

    def fails(*_: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(service, "came_back", fails)
    raw = RawMessage(b"[]", {"task": "t", "id": "a"}, "application/json", "utf-8", "dead")
    batch = [
        Taken(1, "s:1", replace(raw, headers={HEADER: "letter:token"}), "letter:token"),
        Taken(2, "s:2", raw, None),
    ]
    QueueConsumer(engine, DeadLetterQueue(queue="dead"))._file(batch)
    assert [letter.task_id for letter in service.list_letters(engine)] == ["a"]
    assert len(list((engine.settings.home / "unfiled").glob("*.json"))) == 1
    engine.close()
