"""Where a message came from, as far as its address, its headers and our queues tell."""

from __future__ import annotations

import pytest
from kombu.transport.virtual import Message

from regrow.celery.messages import failure_of, raw_message
from regrow.celery.origin import Binding, deliveries_of, queue_of
from regrow.celery.sinks import capture_of
from regrow.dead_letters.captured import from_wire, to_wire

SHOP = Binding("shop", "shop", "shop")
ALL = Binding("all-orders", "orders", "order.#", "topic")
NEW = Binding("new-orders", "orders", "order.*.new", "topic")
NEWS = Binding("news", "news", "", "fanout")


@pytest.mark.parametrize(
    ("exchange", "routing_key", "bindings", "queue"),
    [
        ("", "shop", [SHOP, ALL], "shop"),  # the default exchange names the queue
        ("shop", "shop", [SHOP, ALL], "shop"),
        ("orders", "order.eu.paid", [SHOP, ALL, NEW], "all-orders"),
        ("orders", "order.eu.new", [SHOP, NEW], "new-orders"),
        ("orders", "order.eu.x.new", [SHOP, NEW], "order.eu.x.new"),  # fits none of several
        ("orders", "order.eu.new", [ALL, NEW], "order.eu.new"),  # fits both: not guessed
        ("news", "anything", [SHOP, NEWS], "news"),
        ("dlx", "gone", [SHOP], "shop"),  # read by a worker of one queue
        ("", "gone", [], "gone"),
    ],
)
def test_the_queue_is_found_by_address_and_bindings(exchange, routing_key, bindings, queue: str) -> None:
    assert queue_of(exchange, routing_key, bindings) == queue


@pytest.mark.parametrize(
    ("headers", "redelivered", "times"),
    [
        ({}, False, 1),
        ({}, True, 2),
        ({"x-delivery-count": 3}, True, 4),
        ({"x-delivery-count": "3"}, True, 2),
        ({"x-delivery-count": True}, False, 1),
    ],
)
def test_deliveries_are_counted_as_well_as_the_broker_does(headers, redelivered, times: int) -> None:
    assert deliveries_of(headers, redelivered=redelivered) == times


def test_trace_correlation_and_address_reach_the_capture_and_survive_the_wire() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    message = Message(
        {
            "body": "",
            "headers": {"task": "t", "id": "1", "traceparent": trace},
            "properties": {
                "delivery_tag": "tag",
                "correlation_id": "c-1",
                "delivery_info": {"exchange": "orders", "routing_key": "order.new"},
            },
        },
    )
    raw = raw_message(message, queue="orders", broker="main", code_version="v7", deliveries=2)
    captured = capture_of(failure_of("failed", raw, ValueError("x")))
    assert from_wire(to_wire(captured)) == captured
    assert (captured.exchange, captured.routing_key, captured.queue) == ("orders", "order.new", "orders")
    assert (captured.traceparent, captured.correlation_id) == (trace, "c-1")
    assert (captured.broker, captured.code_version, captured.deliveries) == ("main", "v7", 2)


def test_a_trace_header_that_is_none_is_not_kept() -> None:
    raw = raw_message(Message({"headers": {"traceparent": "x" * 5000}, "properties": {"delivery_tag": "1"}}))
    assert raw.traceparent is None
