"""A Celery app whose tasks call something behind a shared breaker, and tell in Redis what became of them."""

from __future__ import annotations

import os

import celery
import redis

import regrow
import regrow.celery

app = celery.Celery(
    "guarded", broker=os.environ["CELERY_BROKER_URL"], task_cls="regrow.celery:BreakerAwareTask"
)
app.conf.update(
    task_default_queue="guarded", worker_send_task_events=False, broker_connection_retry_on_startup=True
)
regrow.celery.install(app)

traces = redis.Redis.from_url(os.environ["TEST_TRACES"], decode_responses=True)
payments = regrow.CircuitBreaker("payments", recovery_timeout=1, probe_wait=0.25)
archive = regrow.CircuitBreaker("archive", recovery_timeout=60)


def guarded(task, breaker: regrow.CircuitBreaker, name: str) -> None:
    headers = task.request.headers or {}
    traces.rpush(f"began:{name}", f"{task.request.retries} {headers.get('own')}")
    breaker.call(traces.rpush, f"ended:{name}", os.getpid())


@app.task(name="guarded.pay", bind=True, max_retries=0)
def pay(self, name: str) -> None:
    guarded(self, payments, name)


@app.task(name="guarded.keep", bind=True, max_retries=0)
def keep(self, name: str) -> None:
    guarded(self, archive, name)


@app.task(name="guarded.pay_soon", bind=True, base=celery.Task, autoretry_for=(Exception,), max_retries=0)
@regrow.celery.breaker_aware(deadline=2.5)
def pay_soon(self, name: str) -> None:
    guarded(self, payments, name)
