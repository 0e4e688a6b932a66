"""Regrow's own queues, declared alike by whoever sends to them and whoever takes from them."""

from __future__ import annotations

from kombu import Exchange, Queue

CONTROL, CAPTURE, REDRIVE = "regrow.control", "regrow.capture", "regrow.redrive"
QUEUES = (CONTROL, CAPTURE, REDRIVE)


def queue(name: str) -> Queue:
    """The queue of this name.

    Its exchange is direct, so Celery publishes to the queue itself. With a topic exchange, a Redis that was
    flushed has no bindings, and every message vanishes without an error until a worker starts anew (seen).
    Durable and without arguments: an app that sends to it by name alone declares the very same queue. (A
    quorum queue would need its argument everywhere, a topic exchange for delays, and drops a message after
    20 deliveries.)
    """
    return Queue(name, Exchange(name, type="direct", durable=True), routing_key=name, durable=True)
