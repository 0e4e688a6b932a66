"""Regrow's own queues, declared alike by whoever sends to them and whoever takes from them."""

from __future__ import annotations

from kombu import Exchange, Queue

CONTROL, CAPTURE, REDRIVE = "regrow.control", "regrow.capture", "regrow.redrive"
QUEUES = (CONTROL, CAPTURE, REDRIVE)


def queue(name: str) -> Queue:
    """The queue of this name.

    On a topic exchange, because RabbitMQ's native delay skips direct ones. Durable and without arguments,
    so that an app that sends to it by name alone declares the same queue; a quorum queue would need the
    argument everywhere, and drops a message after 20 deliveries.
    """
    return Queue(name, Exchange("regrow", type="topic", durable=True), routing_key=name, durable=True)
