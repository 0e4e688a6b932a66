"""Leases on deliveries: while a worker has a message in hand, Redis must not give it to another.

On Redis a delivery that stays unacknowledged for ``visibility_timeout`` seconds is delivered again, even
while its task still runs, waits for its time or for a free child. This step renews the scores of the
deliveries in hand three times in that span, so the timeout measures how long a *dead* worker keeps a
message, and can be short. When the loop itself stands still, nothing is renewed: others take over.

Scores are times of the worker's own clock, compared with the clock of whoever sweeps: workers that share a
broker need clocks that agree within a third of the timeout. RabbitMQ keeps deliveries by connection and
needs none of this.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
from celery import bootsteps

log = structlog.get_logger(__name__)

RENEWALS_PER_TIMEOUT = 3


class LeaseRenewal(bootsteps.StartStopStep):
    """Consumer step: renews what ``task_consumer``'s channel has in hand, as often as the timeout needs."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer_entry: Any = None

    def start(self, consumer: Any) -> None:
        if consumer.connection.transport.driver_type != "redis":
            return
        timeout = consumer.task_consumer.channel.visibility_timeout
        self._timer_entry = consumer.timer.call_repeatedly(
            timeout / RENEWALS_PER_TIMEOUT, self._renew, (consumer,)
        )

    def stop(self, consumer: Any) -> None:
        # Also on the way to a new connection. A worker that drains keeps its timer until the end: stop of
        # the consumer comes first then, and the tasks in hand go on for a while.
        if consumer.connection is None:
            self._cancel()

    def shutdown(self, _consumer: Any) -> None:
        self._cancel()

    def _cancel(self) -> None:
        entry, self._timer_entry = self._timer_entry, None
        if entry is not None:
            entry.cancel()

    def _renew(self, consumer: Any) -> None:
        channel = getattr(consumer.task_consumer, "channel", None)
        if channel is None:
            return
        try:
            renew(channel)
        except channel.connection_errors as error:
            # The loop finds the broken connection by itself; the lease has two more tries before it ends.
            log.warning("lease.not_renewed", error=str(error))


def renew(channel: Any, now: float | None = None) -> int:
    """Move the scores of all unacknowledged deliveries of a Redis ``channel`` to now; how many there were.

    XX: a delivery that was acknowledged or taken over meanwhile must not come back to the index.
    """
    tags = list(channel.qos._delivered)  # noqa: SLF001 - kombu keeps no public list of them
    if tags:
        score = time.time() if now is None else now
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, score), xx=True)
    return len(tags)
