"""An app of somebody else whose tasks end in every way there is, some acknowledged early, some late."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

import celery
from celery.backends.redis import RedisBackend
from celery.exceptions import Ignore, Reject

import regrow.celery
from regrow.engine import get_engine

QUEUE = "matrix"

app = celery.Celery(
    "matrix", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"]
)
app.conf.update(
    task_default_queue=QUEUE,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("TEST_VISIBILITY", "3600")),
        # What a dead worker had in hand is looked for every half second; by default every hundred.
        "unacked_restore_interval": 0.5,
        "unacked_restore_throttle": 1,
        # A worker that dies while it restores deliveries holds the others up for so long (else 300 s).
        "unacked_mutex_expire": 3,
    },
    # A backend that is away says so at once.
    result_backend_always_retry=False,
    result_backend_transport_options={"retry_policy": {"max_retries": 0}},
    redis_socket_connect_timeout=1,
)
regrow.celery.install(
    app,
    sink=regrow.celery.StoreSink(get_engine()),
    broker="main",
    code_version="v7",
    capture_expired=True,
    capture_revoked=True,
)


class Unready(celery.Task):
    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        raise RuntimeError("not before its start")


class Backendless(celery.Task):
    """Its result backend does not answer: nothing listens on port 1."""

    @property
    def backend(self) -> RedisBackend:
        return RedisBackend(app=app, url="redis://127.0.0.1:1/0")

    @backend.setter
    def backend(self, _: Any) -> None: ...


class Odd(BaseException):
    pass


def fail(*_: Any) -> None:
    raise ValueError("it fails")


def retry(self: Any) -> None:
    raise self.retry(exc=OSError("it fails every time"), countdown=0)


def sleep(seconds: float = 30.0) -> None:
    time.sleep(seconds)


def unserialisable() -> object:
    return object()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(3)


def crash() -> None:
    ctypes.string_at(0)


def sys_exit() -> None:
    sys.exit(4)


def interrupt() -> None:
    raise KeyboardInterrupt


def odd() -> None:
    raise Odd("neither an exception nor an exit")


def reject() -> None:
    raise Reject("no", requeue=False)


def exhaust() -> None:
    raise MemoryError("no room")


def ignore() -> None:
    raise Ignore


def once_again(self: Any) -> None:
    if self.request.retries == 0:
        raise self.retry(countdown=0)


ENDINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "fail": (fail, {}),
    "retry": (retry, {"bind": True, "max_retries": 1}),
    "sleep": (sleep, {}),
    "unserialisable": (unserialisable, {}),
    "unready": (fail, {"base": Unready}),
    "kill": (kill, {}),
    "leave": (leave, {}),
    "crash": (crash, {}),
    "sys_exit": (sys_exit, {}),
    "interrupt": (interrupt, {}),
    "odd": (odd, {}),
    "reject": (reject, {}),
    "exhaust": (exhaust, {}),
    "backendless": (fail, {"base": Backendless}),
    "ignore": (ignore, {}),
    "once_again": (once_again, {"bind": True}),
}
for ending, (function, options) in ENDINGS.items():
    for ack in ("early", "late"):
        app.task(name=f"matrix.{ending}.{ack}", acks_late=ack == "late", **options)(function)
