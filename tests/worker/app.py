"""The app that the tests run: Regrow's own, with all its guards, and tasks that do what a test needs.

Started as ``celery -A tests.worker.app worker``; every task leaves its traces in Redis, because a pool child
has no other way to tell a test what it did.
"""

from __future__ import annotations

import os
import time

import redis
from celery import bootsteps
from celery.exceptions import SoftTimeLimitExceeded

from worker.celery import app

traces = redis.Redis.from_url(os.environ["TEST_TRACES"], decode_responses=True)


@app.task(name="test.work", bind=True)
def work(self, name: str, seconds: float = 0.0) -> None:
    traces.rpush(f"began:{name}", os.getpid())
    time.sleep(seconds)
    traces.rpush(f"ended:{name}", os.getpid())


@app.task(name="test.fail")
def fail(name: str) -> None:
    traces.rpush(f"began:{name}", os.getpid())
    raise ValueError(f"{name} fails")


@app.task(name="test.exhaust")
def exhaust(name: str) -> None:
    traces.rpush(f"began:{name}", os.getpid())
    raise MemoryError("no room for the test")


@app.task(name="test.die", max_retries=1, default_retry_delay=0)
def die(name: str) -> None:
    traces.rpush(f"began:{name}", os.getpid())
    os.kill(os.getpid(), 9)


@app.task(name="test.over")
def over(name: str) -> None:
    traces.rpush(f"began:{name}", os.getpid())
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        time.sleep(60)


class Freeze(bootsteps.StartStopStep):
    """Stops the event loop for good when a test asks for it through Redis."""

    requires = ("worker.heartbeat:WorkerHeartbeat",)

    def start(self, worker) -> None:
        if os.environ.get("TEST_FREEZES"):
            worker.timer.call_repeatedly(0.3, self._look)

    def _look(self) -> None:
        while traces.exists("freeze"):
            time.sleep(0.1)


app.steps["worker"].add(Freeze)


if os.environ.get("TEST_FREEZES"):
    from worker.beat import Scheduler

    class FreezingScheduler(Scheduler):
        """Hangs in its tick when a test asks for it, or ticks on and sends nothing."""

        def maybe_due(self, entry, **options) -> float:
            while traces.exists("freeze"):
                time.sleep(0.1)
            return 1.0 if traces.exists("idle") else super().maybe_due(entry, **options)

    app.conf.beat_scheduler = "tests.worker.app:FreezingScheduler"
