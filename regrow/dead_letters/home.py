"""The way home: from a letter and its body to the message that its own system understands. Pure.

A redriven Celery task carries, beside its own callbacks, two of ours: its success sends
``regrow.dead_letters.settle`` and its failure ``regrow.dead_letters.record_failure``. Celery does that in
any app, whether it has Regrow installed or not; an app that has settles before it acknowledges, by the
header ``regrow-letter``. Both name the attempt (``LETTER:TOKEN``), and settling twice settles once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regrow.errors import RouteError

HEADER = "regrow-letter"
_CAPTURE_QUEUE = "regrow.capture"


@dataclass(frozen=True)
class Raw:
    """A body that goes home byte for byte."""

    body: bytes
    content_type: str
    content_encoding: str


@dataclass(frozen=True)
class HomeMessage:
    """A Celery message (protocol 2): ``args``, ``kwargs`` and callbacks, or a ``raw`` body; plus headers."""

    task: str
    task_id: str
    headers: Mapping[str, Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Sequence[Mapping[str, Any]] = ()
    errbacks: Sequence[Mapping[str, Any]] = ()
    raw: Raw | None = None


@dataclass(frozen=True)
class Home:
    """Where a letter goes: a queue of the broker, and the task that waits there."""

    queue: str
    task: str


def attempt_reference(letter_id: str, token: str) -> str:
    return f"{letter_id}:{token}"


def parse_reference(reference: str) -> tuple[str, str]:
    """(letter id, token) of an attempt reference; RouteError when it is none."""
    letter_id, colon, token = reference.partition(":")
    if not (letter_id and colon and token):
        raise RouteError(f"{reference!r} does not name an attempt; it should read LETTER:TOKEN.")
    return letter_id, token


def compose(
    home: Home,
    *,
    reference: str,
    letter_id: str,
    task_id: str | None,
    body: bytes,
    content_type: str,
    content_encoding: str,
    headers: Mapping[str, Any],
    callbacks: bool = True,
) -> HomeMessage:
    """The message that goes home. RouteError when the body cannot be one.

    ``callbacks``: whether it carries ours; without them the header alone tells the outcome.
    """
    if isinstance(headers.get("task"), str) and isinstance(headers.get("id"), str):
        return _replay(home, reference, body, content_type, content_encoding, headers, callbacks)
    args, kwargs = _call_of(_json(body), home.task)
    identity = task_id or letter_id
    return HomeMessage(
        task=home.task,
        task_id=identity,
        headers=_headers(home.task, identity, args, kwargs, reference),
        args=args,
        kwargs=kwargs,
        callbacks=[_told("settle", reference)] if callbacks else [],
        errbacks=[_told("record_failure", reference)] if callbacks else [],
    )


def _replay(
    home: Home,
    reference: str,
    body: bytes,
    content_type: str,
    content_encoding: str,
    headers: Mapping[str, Any],
    callbacks: bool,
) -> HomeMessage:
    """A Celery message as it was captured: same id, same options, our callbacks beside its own."""
    task_id = str(headers["id"])
    kept = {
        # A deadline that has passed would make the redriven task expire at once; a retry count that is
        # used up would make its first hiccup final.
        **{name: value for name, value in headers.items() if name not in {"expires", "eta", "retries"}},
        "expires": None,
        "eta": None,
        "retries": 0,
        "task": home.task,
        HEADER: reference,
    }
    raw = HomeMessage(
        task=home.task, task_id=task_id, headers=kept, raw=Raw(body, content_type, content_encoding)
    )
    if content_type != "application/json" or not callbacks:
        return raw  # its outcome comes by the header, or not at all
    try:
        args, kwargs, embed = json.loads(body)
        merged = {
            **(embed or {}),
            "callbacks": [*((embed or {}).get("callbacks") or []), _told("settle", reference)],
            "errbacks": [*((embed or {}).get("errbacks") or []), _told("record_failure", reference)],
        }
        text = json.dumps([args, kwargs, merged]).encode()
    except (ValueError, TypeError, AttributeError):
        return raw
    return replace(raw, raw=Raw(text, content_type, "utf-8"))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise RouteError(f"the body is not JSON ({error}); it cannot be a task's argument") from None


def _call_of(message: Any, task: str) -> tuple[list[Any], dict[str, Any]]:
    """A mapping that names this very task is a call of it; anything else is the task's one argument.

    A mapping may have a ``task`` of its own meaning (a to-do list has) and be routed elsewhere.
    """
    if isinstance(message, Mapping) and message.get("task") == task:
        return list(message.get("args") or ()), dict(message.get("kwargs") or {})
    return [message], {}


def _headers(
    task: str, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], reference: str
) -> dict[str, Any]:
    return {
        "lang": "py",
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "argsrepr": f"<{len(args)} arguments>",  # bodies may hold secrets, and headers reach logs
        "kwargsrepr": f"<{len(kwargs)} keyword arguments>",
        "origin": "regrow",
        HEADER: reference,
    }


def _told(name: str, reference: str) -> dict[str, Any]:
    """A Celery signature as JSON: immutable, so that neither result nor task id is put in front."""
    return {
        "task": f"regrow.dead_letters.{name}",
        "args": [],
        "kwargs": {"attempt": reference},
        # Straight to the queue, with nothing declared: an app whose queues have arguments (priorities,
        # quorum) would contradict ours.
        "options": {"queue": _CAPTURE_QUEUE, "declare": [], "ignore_result": True},
        "subtask_type": None,
        "immutable": True,
    }
