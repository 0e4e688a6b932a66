"""An app of somebody else, acknowledged late, whose store keeps nothing before the test says so."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import celery
import redis

import regrow.celery
from regrow.celery.capturing import Ended, Told

traces = redis.Redis.from_url(os.environ["TEST_TRACES"], decode_responses=True)


class Patient:
    def keep(self, told: Sequence[Told]) -> None:
        traces.incr("asked")
        while not traces.exists("go"):
            time.sleep(0.01)
        for each in told:
            traces.rpush("kept", each.attempt if isinstance(each, Ended) else each.error_type)

    def settled(self, letter_id: str) -> bool:
        return False

    def mark(self, attempts: object) -> None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


app = celery.Celery("patient", broker=os.environ["CELERY_BROKER_URL"])
app.conf.update(
    task_default_queue="patient",
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
regrow.celery.install(app, sink=Patient())


@app.task(name="patient.pay")
def pay() -> None:
    traces.incr("paid")
