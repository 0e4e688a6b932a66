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
regrow.celery.install(app)

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
