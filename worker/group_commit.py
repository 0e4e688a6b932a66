"""Group commit: captures that come in one by one are kept together, with one flush of the database's log.

A task of ``regrow.dead_letters.capture`` brings one message, and its commit waits for a disk. So requests
gather in the main process, for a few milliseconds or while all children are busy, and one child keeps them
in one transaction. Each stays a task of its own: it is acknowledged by its own request, after the commit,
and has its own result. A worker that is killed before that leaves all of them to the broker; what was kept
nevertheless is known by its event id when it comes again.

Whatever is not plain success happens to single tasks, as it would without gathering: when a group fails, its
requests are run one by one, so that one of them cannot harm the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog
from celery.exceptions import TaskRevokedError
from celery.worker import state
from celery.worker.strategy import default

from worker.gathered import AWAY, Answer, Gathered, keep_together

log = structlog.get_logger(__name__)

MOST = 100
"""Captures in one transaction."""
MOST_BYTES = 4 * 2**20
"""The size of the messages in one transaction; a larger one goes alone."""
LINGER = 0.02
"""Seconds for which the first capture of a group waits for others."""
AHEAD = 2 * MOST
"""Captures that are taken from the broker beyond the prefetch while captures come in."""
IDLE = 1.0
"""Seconds without a capture in hand after which the prefetch is what it was."""


def gathering(task: Any, app: Any, consumer: Any) -> Any:
    """Celery's own strategy for the task, save that requests that may run now are gathered.

    What waits for its time or for a rate limit goes to the consumer itself and runs alone.
    """
    return default(task, app, _Instead(consumer, Gatherer(task, consumer)))


class _Instead:
    """The consumer, with requests going to the gatherer."""

    def __init__(self, consumer: Any, gatherer: Gatherer) -> None:
        self._consumer = consumer
        self.on_task_request = gatherer.add

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class Gatherer:
    """The captures in hand of one connection. When it is lost, so is this: the broker delivers them again.

    To the worker it is a request: it waits for a free child like one, and more gather meanwhile.
    """

    def __init__(self, task: Any, consumer: Any) -> None:
        self._task = task
        self._consumer = consumer
        self._waiting: deque[Any] = deque()
        self._timer: Any = None
        self._asked = False
        self._ahead = Ahead(consumer)

    def add(self, request: Any) -> None:
        """Take a request that may run now."""
        if not _is_plain(self._task, request):
            self._consumer.on_task_request(request)
            return
        self._waiting.append(request)
        self._ahead.took(_size(request))
        self._hurry()

    def _hurry(self) -> None:
        if len(self._waiting) >= MOST:
            self._ask()
        elif self._waiting and self._timer is None and not self._asked:
            self._timer = self._consumer.timer.call_after(LINGER, self._ask)

    def _ask(self) -> None:
        """Ask for a child; it may be free at once."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._waiting and not self._asked:
            self._asked = True
            self._consumer.on_task_request(self)

    def execute_using_pool(self, pool: Any, **_: Any) -> Any:
        """A child is free. Called by the worker, as for a request."""
        self._asked = False
        group = [request for request in self._next() if not self._is_over(request)]
        self._hurry()
        if not group:
            raise TaskRevokedError  # gives the child back
        return Group(self, group).apply(pool)

    def _next(self) -> list[Any]:
        taken: list[Any] = []
        size = 0
        while self._waiting and len(taken) < MOST:
            size += _size(self._waiting[0])
            if taken and size > MOST_BYTES:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _is_over(self, request: Any) -> bool:
        try:
            if not request.revoked():  # also says so, and acknowledges
                return False
        except Exception as error:
            # The result backend is away. To keep what was taken back harms nobody; to forget the group would.
            log.warning("letters.not_revoked", task_id=request.id, error=repr(error))
            return False
        self.let_go([request])
        return True

    def let_go(self, requests: Sequence[Any]) -> None:
        """These are in hand no more, or single tasks now."""
        for request in requests:
            self._ahead.gave(_size(request))

    def run_alone(self, requests: Sequence[Any]) -> None:
        """Run them as single tasks. Where nothing is begun any more, the broker delivers them again."""
        if state.should_stop is not None or state.should_terminate is not None or self._ahead.is_over:
            return
        for request in requests:
            state.task_reserved(request)
            self._consumer.on_task_request(request)


class Ahead:
    """Room beyond the prefetch, while captures are in hand: gathering needs more than a task a child.

    It is given and taken back as a whole, because RabbitMQ is asked each time. Large messages end it early.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._qos: Any = None
        self._given = False
        self._number = self._bytes = 0
        self._timer: Any = None

    @property
    def is_over(self) -> bool:
        """The connection is another one now."""
        return self._qos is not None and self._qos is not self._consumer.qos

    def took(self, size: int) -> None:
        self._qos = self._qos or self._consumer.qos
        self._number += 1
        self._bytes += size
        if self._bytes > 2 * MOST_BYTES:
            self._take_back()
        elif not self._given:
            self._given = True
            self._qos.increment_eventually(AHEAD)

    def gave(self, size: int) -> None:
        self._number -= 1
        self._bytes -= size
        if self._number == 0 and self._given and self._timer is None:
            self._timer = self._consumer.timer.call_after(IDLE, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._number == 0:
            self._take_back()

    def _take_back(self) -> None:
        if self._given:
            self._given = False
            self._qos.decrement_eventually(AHEAD)


class Group:
    """Requests that one child keeps together."""

    def __init__(self, gatherer: Gatherer, requests: Sequence[Any]) -> None:
        self._gatherer = gatherer
        self._requests = requests

    def apply(self, pool: Any) -> Any:
        task = self._requests[0].task
        return pool.apply_async(
            keep_together,
            args=([_gathered(request) for request in self._requests],),
            accept_callback=self._accepted,
            callback=self._kept,
            error_callback=self._failed,
            soft_timeout=task.soft_time_limit,
            timeout=task.time_limit,
            correlation_id=self._requests[0].id,
        )

    def _accepted(self, *_: Any) -> None:
        for request in self._requests:
            state.task_accepted(request)

    def _kept(self, answers: Sequence[Answer]) -> None:
        self._gatherer.let_go(self._requests)
        alone = []
        for request, answer in zip(self._requests, answers, strict=True):
            if answer.kept:
                request.on_success((0, answer.result, answer.seconds))
            elif answer == AWAY:
                state.task_ready(request)
                request.reject(requeue=True)
            else:
                alone.append(request)
        self._run_alone(alone)

    def _failed(self, exc_info: Any) -> None:
        """The child was killed, by us or others. Nothing says by which of them."""
        log.warning("letters.group_lost", messages=len(self._requests), error=repr(exc_info.exception))
        self._gatherer.let_go(self._requests)
        self._run_alone(self._requests)

    def _run_alone(self, requests: Sequence[Any]) -> None:
        for request in requests:
            state.task_ready(request)
        self._gatherer.run_alone(requests)


def _gathered(request: Any) -> Gathered:
    wanted = not (request.ignore_result or request.task.ignore_result)
    return Gathered(
        request.id,
        request.body,
        request.content_type,
        request.content_encoding,
        request.request_dict.get("retries") or 0,
        request.request_dict if wanted else None,
    )


def _is_plain(task: Any, request: Any) -> bool:
    """Whether it asks for no more than to run: limits of its own and what is to follow it are Celery's."""
    if not task.acks_late or any(request.time_limits):
        return False
    body = request.message.payload
    if not isinstance(body, list | tuple) or len(body) != 3:
        return False  # of the first protocol, or broken
    return not any((body[2] or {}).values())


def _size(request: Any) -> int:
    return len(request.body or "")
