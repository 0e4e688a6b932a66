"""The sender: our own tasks and letters that go home, on both brokers, and with the broker away."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from kombu import Connection, Exchange, Queue

from regrow.celery import CelerySender, queue_look
from regrow.dead_letters.home import Home, HomeMessage, Raw, compose
from regrow.dead_letters.posting import EFFECT_KEY, SENT_AT, Posting, kept_headers, posting_of
from regrow.dead_letters.second_copies import QueueLook
from regrow.errors import RouteError, StoreUnavailableError
from tests.servers import RedisServer, free_port
from tests.waiting import eventually

LETTER = HomeMessage(
    task="foreign.pay",
    task_id="bill-1",
    headers={"task": "foreign.pay", "id": "bill-1", "regrow-letter": "letter:token"},
    args=["bill-1"],
    callbacks=[{"task": "regrow.dead_letters.settle"}],
)


@pytest.fixture
def queue(broker_url: str):
    """A queue of another app, with a name and arguments that Regrow does not know."""
    with Connection(broker_url) as connection:
        found = connection.SimpleQueue(f"home-{uuid.uuid4()}")
        yield found
        found.queue(connection.default_channel).delete()


@pytest.fixture
def sender(broker_url: str, make_settings) -> CelerySender:
    return CelerySender.from_settings(make_settings(CELERY_BROKER_URL=broker_url))


def test_a_letter_arrives_in_its_home_queue_as_a_celery_message(sender: CelerySender, queue) -> None:
    sender.send_home(LETTER, queue=queue.queue.name)
    message = queue.get(timeout=5)
    assert message.headers["task"] == "foreign.pay"
    assert message.headers["regrow-letter"] == "letter:token"
    assert message.properties["correlation_id"] == "bill-1"
    args, kwargs, embed = json.loads(message.body)
    assert (args, kwargs) == (["bill-1"], {})
    assert embed["callbacks"] == [{"task": "regrow.dead_letters.settle"}]


def test_a_raw_body_goes_home_byte_for_byte(sender: CelerySender, queue) -> None:
    raw = Raw(b"\x80\x04\xff\x00", "application/x-python-serialize", "binary")
    message = HomeMessage(task="t", task_id="i", headers={"task": "t", "id": "i"}, raw=raw)
    sender.send_home(message, queue=queue.queue.name)
    got = queue.queue(queue.channel).get(no_ack=True)
    assert bytes(got.body) == raw.body
    assert (got.content_type, got.content_encoding) == (raw.content_type, "binary")


def test_a_queue_that_rabbitmq_does_not_have_is_a_route_error_and_the_next_letter_goes_out(
    rabbitmq_url: str, make_settings
) -> None:
    sender = CelerySender.from_settings(make_settings(CELERY_BROKER_URL=rabbitmq_url))
    with pytest.raises(RouteError, match="no queue 'nobody-takes'"):
        sender.send_home(LETTER, queue="nobody-takes")
    with Connection(rabbitmq_url) as connection:
        found = connection.SimpleQueue(f"home-{uuid.uuid4()}")
        sender.send_home(LETTER, queue=found.queue.name)
        assert found.get(timeout=5).headers["id"] == "bill-1"
        found.queue(connection.default_channel).delete()


def test_a_look_into_a_queue_takes_nothing_and_tells_how_old_what_we_sent_is(
    sender: CelerySender, broker_url: str, queue
) -> None:
    name = queue.queue.name
    assert sender.look(name).waiting == 0
    for _ in range(3):
        queue.put({"live": True})
    sent = [datetime(2026, 5, 4, 3, minute, tzinfo=UTC) for minute in (1, 2)]
    for at in sent:
        sender.send_home(replace(LETTER, headers={**LETTER.headers, SENT_AT: at.isoformat()}), queue=name)
    for _ in range(3):
        queue.put({"live": True})
    if broker_url.startswith("redis"):
        assert sender.look(name) == QueueLook(8, oldest=sent[0], whole=True)
    else:
        eventually(lambda: sender.look(name) == QueueLook(8, consumers=0))  # it counts a moment later
    for _ in range(4):
        queue.get(timeout=5).ack()
    if broker_url.startswith("redis"):
        assert sender.look(name) == QueueLook(4, oldest=sent[1], whole=True)
    assert sender.look(f"none-{uuid.uuid4()}").waiting == 0


def test_a_look_into_a_very_long_queue_is_bounded_in_number_and_in_bytes(
    redis_url: str, make_settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = CelerySender.from_settings(make_settings(CELERY_BROKER_URL=redis_url))
    with Connection(redis_url) as connection:
        queue = connection.SimpleQueue(f"home-{uuid.uuid4()}")
        for _ in range(queue_look.MOST_LOOKED + 1):
            queue.put({"live": True})
        assert sender.look(queue.queue.name) == QueueLook(queue_look.MOST_LOOKED + 1)
        monkeypatch.setattr(queue_look, "MOST_LOOKED", 10_000)
        assert sender.look(queue.queue.name).whole
        monkeypatch.setattr(queue_look, "MOST_BYTES", 1_000)
        assert not sender.look(queue.queue.name).whole
        queue.queue(connection.default_channel).delete()


def test_a_broker_that_is_away_is_said_to_be_and_found_again(own_redis: RedisServer) -> None:
    sender = CelerySender.from_broker(own_redis.url, {"socket_timeout": 2})
    sender.send_home(LETTER, queue="home")
    own_redis.kill()
    with pytest.raises(StoreUnavailableError):
        sender.send_home(LETTER, queue="home")
    with pytest.raises(StoreUnavailableError):
        sender.send("regrow.dead_letters.settle", {"attempt": "letter:token"}, queue="regrow.capture")
    own_redis.start()
    sender.send_home(LETTER, queue="home")
    sender.send("regrow.dead_letters.settle", {"attempt": "letter:token"}, queue="regrow.capture")
    with Connection(own_redis.url) as connection:
        assert connection.channel()._size("home") == 2
        assert connection.channel()._size("regrow.capture") == 1


def test_a_broker_that_never_was_there_is_away_within_seconds() -> None:
    sender = CelerySender.from_broker(f"amqp://guest:guest@127.0.0.1:{free_port()}//", {})
    with pytest.raises(StoreUnavailableError):
        sender.send_home(LETTER, queue="home")


def test_what_the_way_home_composes_is_what_the_sender_sends(sender: CelerySender, queue) -> None:
    composed = compose(
        Home(queue.queue.name, "foreign.pay"),
        reference="letter:token",
        letter_id="letter",
        task_id=None,
        body=b'{"bill": 7}',
        content_type="application/json",
        content_encoding="utf-8",
        headers={},
    )
    sender.send_home(composed, queue=queue.queue.name)
    assert json.loads(queue.get(timeout=5).body)[0] == [{"bill": 7}]


def test_an_amqp_message_comes_home_with_headers_and_properties_and_is_never_dropped(
    rabbitmq_url: str, make_settings
) -> None:
    sender = CelerySender.from_settings(make_settings(CELERY_BROKER_URL=rabbitmq_url))
    name = f"home-{uuid.uuid4()}"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    kept = kept_headers(
        {"price": Decimal("1.5"), "at": at}, {"message_id": "m", "priority": 3, "timestamp": 1_767_225_600}
    )

    def posted(exchange: str, key: str) -> Posting:
        raw = Raw(b"\x00body", "application/x-own", "binary")
        return posting_of(exchange, key, raw, kept, reference="letter:token", effect_key="order-1")

    with Connection(rabbitmq_url) as connection:
        exchange = Exchange(name, type="topic", durable=False, auto_delete=True)
        bound = Queue(name, exchange, routing_key="order.*", durable=False)(connection.default_channel)
        bound.declare()
        sender.publish(posted(name, "order.paid"))
        sender.publish(posted("", name))
        for key in ("order.paid", name):
            got = bound.get(no_ack=True)
            assert (bytes(got.body), got.delivery_info["routing_key"]) == (b"\x00body", key)
            assert got.headers["price"] == Decimal("1.5")
            assert (got.headers["regrow-letter"], got.headers[EFFECT_KEY]) == ("letter:token", "order-1")
            assert (got.properties["message_id"], got.properties["priority"]) == ("m", 3)
        with pytest.raises(RouteError, match="no queue is bound to exchange"):
            sender.publish(posted(name, "invoice.paid"))
        with pytest.raises(RouteError, match="no exchange 'nowhere'"):
            sender.publish(posted("nowhere", "x"))
        sender.publish(posted("", name))
        assert bound.get(no_ack=True) is not None, "after a refusal the next message goes out"
        bound.delete()


def test_on_redis_only_a_queue_can_be_named(redis_url: str) -> None:
    sender = CelerySender.from_url(redis_url)
    raw = Raw(b"{}", "application/json", "utf-8")
    kept = kept_headers({}, {"timestamp": 1_767_225_600})
    sender.publish(posting_of("", "home-raw", raw, kept, reference="l:t", effect_key="k"))
    with Connection(redis_url) as connection:
        assert connection.channel()._size("home-raw") == 1
    with pytest.raises(RouteError, match="only RabbitMQ has exchanges"):
        sender.publish(posting_of("shop", "x", raw, kept, reference="l:t", effect_key="k"))


def test_it_can_tell_whether_a_queue_or_an_exchange_is_there(rabbitmq_url: str, redis_url: str) -> None:
    sender = CelerySender.from_url(rabbitmq_url)
    name = f"look-{uuid.uuid4()}"
    assert not sender.exists(queue=name)
    assert not sender.exists(exchange=name)
    with Connection(rabbitmq_url) as connection:
        made = Queue(name, Exchange(name, type="topic", auto_delete=True), durable=False)(
            connection.default_channel
        )
        made.declare()
        assert sender.exists(queue=name)
        assert sender.exists(exchange=name)
        made.delete()
    assert not sender.exists(queue=name), "it did not make one by looking"
    assert CelerySender.from_url(redis_url).exists(queue=name) is None
