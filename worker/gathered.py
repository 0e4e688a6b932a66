"""What a pool child does with captures that were gathered (see :mod:`worker.group_commit`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from celery import current_app
from celery.app.task import Context
from celery.exceptions import Reject
from kombu.serialization import loads, prepare_accept_content

from regrow.engine import get_engine
from tasks import dead_letters
from tasks.dead_letters import Call

log = structlog.get_logger(__name__)

NAME = "regrow.dead_letters.capture"


@dataclass(frozen=True)
class Gathered:
    """A message of the task, as it came. ``request`` is what a result needs; None: nobody wants one."""

    task_id: str
    body: bytes | str
    content_type: str
    content_encoding: str
    retries: int
    request: dict[str, Any] | None


@dataclass(frozen=True)
class Answer:
    """What became of one. Not kept: it is to be run alone, or (``AWAY``) to go back to the broker."""

    kept: bool
    result: str | None = None
    seconds: float = 0.0
    away: bool = False


ALONE = Answer(kept=False)
AWAY = Answer(kept=False, away=True)


def keep_together(messages: Sequence[Gathered]) -> list[Answer]:
    """Keep them in one transaction; an answer each, in order."""
    get_engine().refresh()  # no task begins here, which would look for changed settings
    began = time.monotonic()
    calls = [_call(message) for message in messages]
    try:
        results = iter(dead_letters.capture_together([call for call in calls if call is not None]))
    except Reject:
        return [AWAY] * len(messages)
    except Exception as error:
        # One of them is to blame, or none; run alone, each is judged by itself.
        log.warning("letters.group_refused", messages=len(messages), error=repr(error))
        return [ALONE] * len(messages)
    seconds = time.monotonic() - began
    answers = [ALONE if call is None else Answer(True, next(results), seconds) for call in calls]
    _tell(messages, answers)
    return answers


def _call(message: Gathered) -> Call | None:
    """None: its arguments are not those of the task, which will say so itself."""
    args, kwargs, _ = loads(
        message.body,
        message.content_type,
        message.content_encoding,
        accept=prepare_accept_content(current_app.conf.accept_content),
    )
    try:
        return Call(message.task_id, _payload(*args, **kwargs), message.retries)
    except TypeError:
        return None


def _payload(message: Any = None, **options: Any) -> dict[str, Any]:
    return {"message": message, **options}


def _tell(messages: Sequence[Gathered], answers: Sequence[Answer]) -> None:
    """Store the results that somebody wants. Without a backend these are lost; the captures are committed."""
    backend = current_app.tasks[NAME].backend
    try:
        for message, answer in zip(messages, answers, strict=True):
            if answer.kept and message.request is not None:
                backend.mark_as_done(message.task_id, answer.result, request=Context(message.request))
    except Exception as error:
        log.warning("results.not_stored", error=repr(error))
