"""What a dead letter learns from ``x-death``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from regrow.celery.messages import RawMessage
from regrow.celery.x_death import capture_of
from regrow.dead_letters.captured import Capture
from regrow.settings import DeadLetterQueue

NOW = datetime(2026, 5, 4, tzinfo=UTC)
DECLARED = DeadLetterQueue(queue="orders.dead", broker="orders")


def death(queue: str, reason: str, count: int = 1, **more: Any) -> dict[str, Any]:
    at = datetime(2026, 5, 1)  # noqa: DTZ001 - as RabbitMQ's client reads it: UTC without saying so
    return {
        "queue": queue,
        "reason": reason,
        "count": count,
        "exchange": "shop",
        "routing-keys": ["order.paid", "cc"],
        "time": at,
        **more,
    }


def captured(
    deaths: object = (),
    headers: dict[str, Any] | None = None,
    declared: DeadLetterQueue = DECLARED,
    reference: str | None = None,
    **properties: Any,
) -> Capture:
    told = {"x-death": list(deaths) if isinstance(deaths, tuple) else deaths, **(headers or {})}
    message = RawMessage(b"{}", told, "application/json", "utf-8", "orders.dead", properties=properties)
    return capture_of(message, declared, reference, NOW)


def test_home_is_the_queue_where_it_died_and_the_reason_is_the_error() -> None:
    letter = captured(
        (death("orders", "rejected"),), message_id="m-1", correlation_id="c-1", type="order.paid"
    )
    assert (letter.queue, letter.exchange, letter.routing_key) == ("orders", "shop", "order.paid")
    assert (letter.error_class, letter.service, letter.message_type) == ("rejected", "orders", "order.paid")
    assert letter.error_message == "rejected by a consumer of queue orders (once)"
    assert letter.failed_at == datetime(2026, 5, 1, tzinfo=UTC)
    assert (letter.broker, letter.correlation_id, letter.deliveries) == ("orders", "c-1", 1)
    assert letter.idempotency_key == "amqp:orders:orders:m-1"


@pytest.mark.parametrize("reason", ["rejected", "expired", "maxlen", "delivery_limit"])
def test_each_reason_is_a_class_of_its_own(reason: str) -> None:
    assert captured((death("orders", reason),)).error_class == reason


def test_a_delay_queue_on_the_way_is_no_failure() -> None:
    letter = captured(
        (death("orders", "rejected", 3), death("orders.later", "expired", 3)),
        {"x-first-death-queue": "orders", "x-first-death-reason": "rejected"},
    )
    assert (letter.queue, letter.error_class, letter.deliveries) == ("orders", "rejected", 6)
    assert letter.error_message == (
        "expired in queue orders.later (3 times), then rejected by a consumer of queue orders (3 times)"
    )


def test_settings_say_service_and_type_where_they_want_to() -> None:
    declared = DeadLetterQueue(queue="q", service="bank", message_type="payment")
    letter = captured((death("orders", "rejected"),), declared=declared, type="x")
    assert (letter.service, letter.message_type, letter.broker) == ("bank", "payment", None)


def test_a_celery_message_is_the_letter_of_its_task() -> None:
    letter = captured((death("shop", "delivery_limit"),), {"task": "shop.charge", "id": "abc"})
    assert (letter.task, letter.task_id, letter.queue) == ("shop.charge", "abc", "shop")
    assert letter.idempotency_key == "task:abc", "as if its app had captured it"


def test_told_again_it_is_the_same_event_and_dead_again_another_one() -> None:
    first = captured((death("orders", "rejected"),), message_id="m")
    assert captured((death("orders", "rejected"),), message_id="m").event_id == first.event_id
    again = captured((death("orders", "rejected", 2),), message_id="m")
    assert again.event_id != first.event_id
    assert again.idempotency_key == first.idempotency_key
    other = captured((death("mail", "rejected"),), message_id="m")
    assert other.idempotency_key != first.idempotency_key, "a fanout's copies fail each for itself"


def test_without_an_identity_two_messages_are_never_taken_for_one() -> None:
    one, two = (captured((death("orders", "rejected"),)) for _ in range(2))
    assert one.event_id != two.event_id
    assert one.idempotency_key != two.idempotency_key


def test_what_came_back_is_named_by_its_attempt() -> None:
    one, two = (captured((death("orders", "rejected"),), reference="l:t") for _ in range(2))
    assert one.event_id == two.event_id
    named = [captured((death("orders", "rejected"),), reference=r, message_id="m") for r in (None, "l:t")]
    assert named[0].event_id != named[1].event_id, "times are whole seconds, and a redrive may be faster"


@pytest.mark.parametrize(
    "deaths", [None, "junk", [], ["junk"], [{"queue": 3}], [{"queue": "", "reason": "rejected"}]]
)
def test_without_a_history_it_is_kept_and_has_no_home(deaths: object) -> None:
    letter = captured(deaths)
    assert (letter.queue, letter.routing_key, letter.error_class) == (None, None, "dead_lettered")
    assert (letter.service, letter.failed_at) == ("orders.dead", NOW)
    assert letter.error_message == "found in queue orders.dead; nothing says why"


def test_broken_entries_are_read_as_far_as_they_go() -> None:
    odd = {"queue": "orders", "reason": 7, "count": -1, "routing-keys": [], "time": "yesterday"}
    letter = captured((odd,))
    assert (letter.queue, letter.routing_key, letter.error_class) == ("orders", "", "dead_lettered")
