"""Tasks behind breakers: one that meets an open breaker comes back later, and burns no attempt::

    @app.task(max_retries=3)
    @regrow.celery.breaker_aware(deadline=3600)
    def charge(order):
        payments.call(...)

The refusals of one task are counted in a header of its message, which every other header travels with; so a
redriven dead letter still settles, and an outage is bounded by ``deadline`` however often the task comes by.
"""

from __future__ import annotations

import functools
import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ParamSpec, Self, TypeVar, cast

from celery import Task, current_task
from celery.exceptions import Retry
from celery.utils.time import maybe_iso8601

from regrow.errors import CircuitOpenError
from regrow.retries.policy import Randomness

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("regrow.breakers")

HEADER = "regrow-refused"
DEADLINE = 3600.0
LONGEST_COUNTDOWN = 300.0  # seconds; well below every visibility timeout, or the broker delivers it twice
FIRST_SPREAD, LONGEST_SPREAD = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often a task was refused in a row of refusals, and when first (epoch seconds)."""

    since: float
    count: int = 0

    @classmethod
    def read(cls, header: object, now: float) -> Self:
        """From the header; a new row when there is none that makes sense."""
        match = re.fullmatch(r"(\d{1,15}\.\d{3});(\d{1,9})", str(header or ""), re.ASCII)
        return cls(min(float(match[1]), now), int(match[2])) if match else cls(now)

    def header(self) -> str:
        return f"{self.since:.3f};{self.count}"

    def another(self) -> Refusals:
        return Refusals(self.since, self.count + 1)


def countdown(
    retry_after: float, refusals: Refusals, now: float, until: float, rng: Randomness
) -> float | None:
    """Seconds after which a refused task should come back, or None when that is too late (``until``).

    Never sooner than the breaker said, and each a little later in its own way, the more the longer it lasts:
    those who wait would otherwise return as one, and only the probe would get through.
    """
    spread = min(LONGEST_SPREAD, FIRST_SPREAD * 2.0 ** min(refusals.count, 10))
    wait = min(retry_after, LONGEST_COUNTDOWN) + rng.uniform(0.0, spread)
    return None if now + wait > until else wait


def breaker_aware(
    fn: Callable[P, R] | None = None, *, deadline: float = DEADLINE
) -> Callable[[Callable[P, R]], Callable[P, R]] | Callable[P, R]:
    """Decorate a task's function, below ``@app.task``, with or without arguments.

    A CircuitOpenError that leaves it sends the task again after the error's ``retry_after`` and some jitter,
    with the same number of retries. ``deadline``: seconds after the first refusal beyond which the error goes
    on, as any other does: to ``autoretry_for``, or to the dead letters. A call outside a worker, or an eager
    one, raises it at once.
    """

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(fn)
        def aware(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return fn(*args, **kwargs)
            except CircuitOpenError as refused:
                come_back(current_task, refused, deadline)
                raise

        return aware

    return decorate if fn is None else decorate(fn)


class BreakerAwareTask(Task):  # type: ignore[type-arg]
    """:func:`breaker_aware` for all tasks of an app: ``Celery(..., task_cls=BreakerAwareTask)``."""

    abstract = True
    breaker_deadline = DEADLINE
    """Seconds after the first refusal beyond which the error goes on."""

    def __init__(self) -> None:
        run = self.run

        @functools.wraps(run)
        def aware(*args: Any, **kwargs: Any) -> Any:
            try:
                return run(*args, **kwargs)
            except CircuitOpenError as refused:
                come_back(self, refused, self.breaker_deadline)
                raise

        self.run = aware  # type: ignore[method-assign]


def come_back(task: Any, refused: CircuitOpenError, deadline: float = DEADLINE) -> None:
    """Send ``task``'s running message again, later, and raise Retry; return when it should not or cannot."""
    request = task.request if task else None
    if request is None or request.called_directly or request.is_eager:
        return
    now = time.time()
    refusals = Refusals.read((request.headers or {}).get(HEADER), now)
    until = min(refusals.since + deadline, _expiry(request.expires))
    wait = countdown(refused.retry_after, refusals, now, until, random.SystemRandom())
    if wait is None:
        logger.warning("task.refused_too_long", extra=_told(task, refused, refusals))
        return
    headers = {**(request.headers or {}), HEADER: refusals.another().header()}
    again = task.signature_from_request(request, countdown=wait, retries=request.retries, headers=headers)
    again.apply_async()
    logger.info("task.refused", extra={**_told(task, refused, refusals), "countdown": round(wait, 3)})
    raise Retry(exc=refused, when=cast("Any", wait), sig=again) from refused


def _told(task: Any, refused: CircuitOpenError, refusals: Refusals) -> dict[str, Any]:
    return {"task": task.name, "task_id": task.request.id, "breaker": refused.name, "before": refusals.count}


def _expiry(expires: object) -> float:
    """When the message expires, in epoch seconds: later it would vanish without a word."""
    moment = maybe_iso8601(cast("Any", expires)) if isinstance(expires, str | datetime) else None
    return moment.timestamp() if moment is not None else float("inf")
