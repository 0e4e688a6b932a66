"""The canary task, in Regrow's own workers and in those of every app that has ``regrow.celery.install``.

It answers in Regrow's Redis where that is known; an app that was not told where it is sends the answer to
Regrow's workers, through the broker that both have.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from regrow.celery.queues import CONTROL
from regrow.celery.queues import queue as own_queue
from regrow.celery.sender import CelerySender
from regrow.configuration import configured
from regrow.dead_letters.home import HomeMessage
from regrow.health.checks import canaries
from regrow.redis import connect

Answer = Callable[[str | None, str, str], object]
"""What answers: takes broker, queue and number."""


def register(app: Any, answer: Answer | None = None) -> None:
    """Make the task known to ``app``. ``answer``: how; by default as this process was told."""

    @app.task(  # type: ignore[untyped-decorator, unused-ignore]
        name=canaries.TASK, ignore_result=True, acks_late=False, max_retries=0, serializer="json"
    )
    def canary(broker: str | None, queue: str, number: str) -> None:
        (answer or _answer(app))(broker, queue, number)


def _answer(app: Any) -> Answer:
    url = configured().redis_url
    if url is None:
        return lambda broker, queue, number: app.send_task(
            canaries.ANSWER,
            kwargs={"broker": broker, "queue": queue, "number": number},
            queue=own_queue(CONTROL),
            serializer="json",
            ignore_result=True,
            expires=300,
        )

    def in_redis(broker: str | None, queue: str, number: str) -> None:
        with connect(url, socket_timeout=2.0, connect_timeout=2.0, max_connections=1) as client:
            canaries.answer(client, broker, queue, number)

    return in_redis


def send(url: str, broker: str | None, queue: str, number: str, seconds: float) -> None:
    """Send a canary that expires after ``seconds``, as a letter goes home: nothing is declared.

    RouteError: there is no such queue. StoreUnavailableError: the broker did not take it.
    """
    kwargs = {"broker": broker, "queue": queue, "number": number}
    headers = {
        "lang": "py",
        "task": canaries.TASK,
        "id": number,
        "root_id": number,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "eta": None,
        "expires": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(),
        "timelimit": [None, None],
        "argsrepr": "()",
        "kwargsrepr": repr(kwargs),
        "ignore_result": True,
        "origin": "regrow",
    }
    message = HomeMessage(task=canaries.TASK, task_id=number, headers=headers, kwargs=kwargs)
    _sender(os.getpid(), url).send_home(message, queue=queue)


@lru_cache(maxsize=8)
def _sender(pid: int, url: str) -> CelerySender:
    """One connection a process and broker, kept: a forked child makes its own."""
    del pid
    return CelerySender.from_url(url)
