"""An app of its own, as a user has it: Celery, a queue, a task. It knows Regrow by task names alone.

Every run of ``shop.charge`` is counted in Redis, under the key that ``SHOP_TALLY`` names.
"""

from __future__ import annotations

import os
import sys

import redis
from celery import Celery

app = Celery("shop", broker=os.environ["SHOP_BROKER_URL"])
app.conf.update(
    task_default_queue="shop",
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
    task_acks_late=True,
    broker_transport_options={"visibility_timeout": 60}
    if os.environ["SHOP_BROKER_URL"].startswith("redis")
    else {"confirm_publish": True},
)


@app.task(name="shop.charge")
def charge(order: int) -> None:
    with redis.Redis.from_url(os.environ["SHOP_REDIS_URL"]) as tally:
        tally.hincrby(os.environ["SHOP_TALLY"], str(order), 1)


@app.task(name="shop.moody")
def moody(order: int, good_from: int) -> None:
    """Fails until its ``good_from``-th run; never succeeds when that is 0."""
    with redis.Redis.from_url(os.environ["SHOP_REDIS_URL"]) as tally:
        run = int(tally.hincrby(os.environ["SHOP_TALLY"], f"moody-{order}", 1))
    if not 0 < good_from <= run:
        raise TimeoutError(f"not today: run {run}")


def enqueue(count: int) -> None:
    """Hand ``count`` failed messages to Regrow through the task API."""
    for order in range(count):
        app.send_task(
            "regrow.dead_letters.capture",
            kwargs={
                "message": {"task": "shop.charge", "args": [order], "queue": "shop"},
                "error": {"class": "TimeoutError", "message": "the bank did not answer"},
                "service": "bank",
                "idempotency_key": f"order-{order}",
            },
            queue="regrow.capture",
        )


if __name__ == "__main__":
    enqueue(int(sys.argv[1]))
