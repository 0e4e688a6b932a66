"""In a pool child: what a task raised, when its result backend fails over it.

Celery stores a failure before it tells the main process. A backend that is away raises there, and its own
error takes the place of the task's. The task's comes back here, with a note of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from celery.utils.serialization import get_pickleable_exception


def keep_causes(app: Any) -> None:
    """Wrap the tracer of every task; for ``worker_process_init``, when the tracers have been made."""
    for task in app.tasks.values():
        task.__trace__ = keeping_cause(task.__trace__)


def keeping_cause(trace: Callable[..., Any]) -> Callable[..., Any]:
    """``trace``, but an exception that covers the task's own leaves room for it."""

    def traced(*args: Any, **kwargs: Any) -> Any:
        try:
            return trace(*args, **kwargs)
        except Exception as error:
            cause = _first_caught(error, trace)
            if cause is None or cause is error:
                raise
            cause.add_note(f"Its result could not be stored: {type(error).__name__}: {error}")
            raise get_pickleable_exception(cause) from None

    return traced


def _first_caught(error: BaseException, trace: Callable[..., Any]) -> Exception | None:
    """The earliest of the chain that came as far as the tracer: the task's, or else the backend's."""
    code = getattr(trace, "__code__", None)
    caught = [
        each
        for each in _chain(error)
        if each.__traceback__ is not None and each.__traceback__.tb_frame.f_code is code
    ]
    return caught[-1] if caught and isinstance(caught[-1], Exception) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
