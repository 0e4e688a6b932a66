"""A Celery app that is not Regrow's: early acknowledgement, its own queue, two lines of Regrow."""

from __future__ import annotations

import os
import time

import celery
import redis

import regrow.celery

app = celery.Celery("foreign", broker=os.environ["CELERY_BROKER_URL"])
app.conf.update(
    task_default_queue="foreign", worker_send_task_events=False, broker_connection_retry_on_startup=True
)
app.conf.task_acks_late = bool(os.environ.get("TEST_ACKS_LATE"))


class SlowSink(regrow.celery.BrokerSink):
    """As on a slow disk, or a broker that confirms late."""

    def keep(self, told) -> None:
        time.sleep(float(os.environ.get("TEST_SLOW_SINK", "0")))
        super().keep(told)


regrow.celery.install(app, sink=SlowSink(regrow.celery.CelerySender.beside(app)))

traces = redis.Redis.from_url(os.environ["TEST_TRACES"], decode_responses=True)


@app.task(name="foreign.pay")
def pay(name: str) -> None:
    traces.rpush(f"began:{name}", os.getpid())
    if traces.exists("broken"):
        raise ValueError(f"{name} cannot be paid")
    while traces.exists("stuck"):
        time.sleep(0.05)
    traces.rpush(f"ended:{name}", os.getpid())


@app.task(name="foreign.sleep")
def sleep(name: str) -> None:
    traces.rpush(f"began:{name}", os.getpid())
    time.sleep(600)
