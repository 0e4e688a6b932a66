"""A Celery app whose breaker is in use in the parent before its pool is forked."""

from __future__ import annotations

import os

import celery

import regrow

app = celery.Celery("prefork", broker=os.environ["CELERY_BROKER_URL"])
app.conf.update(
    task_default_queue="prefork", worker_send_task_events=False, broker_connection_retry_on_startup=True
)
payments = regrow.CircuitBreaker("payments", minimum_requests=1000)
payments.call(int)  # the parent's thread runs, its locks and sockets are in use


@app.task(name="prefork.fail")
def fail() -> None:
    payments.call(_fail)


def _fail() -> None:
    raise OSError
