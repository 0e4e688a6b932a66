"""Queue instead of send: fallbacks that keep a call for later, where the call itself cannot be made now::

    send = regrow.later.as_dead_letter(task="shop.send", queue="shop", service="whatsapp")
    whatsapp.call(post, "+49...", text, fallback=send)     # a dead letter, redriven when the breaker closes

    @regrow.requires("minor", fallback=regrow.later.as_task(send_mail))
    def mail(address, text): ...

The answer is :class:`Queued`. It needs the call's arguments, which are whatever the function was called with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from regrow.errors import SettingsError


class Queued(NamedTuple):
    """The call is kept under ``id``: a dead letter's event id, or a task's id."""

    id: str


class Later:
    """A fallback of one call: ``keep(error, args, kwargs)`` returns the id under which it is kept."""

    def __init__(self, keep: Callable[[BaseException, tuple[Any, ...], Mapping[str, Any]], str]) -> None:
        self._keep = keep

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[BaseException], Queued]:
        """The fallback for a call with these arguments."""
        return lambda error: Queued(self._keep(error, args, kwargs))

    def __call__(self, error: BaseException) -> Any:
        raise SettingsError(
            "what is to be kept for later is a call, and here it is not known: give this fallback to"
            " breaker.call(...), to a decorator or to @regrow.requires(...)"
        ) from error


def as_dead_letter(task: str, *, queue: str, service: str, **options: Any) -> Later:
    """Keep the call as a dead letter of ``service``: redriven to ``task`` on ``queue`` when its breaker lets.

    ``options``: of :func:`regrow.dead_letters.capture`; functions among them are given the call's arguments
    (``idempotency_key=lambda order, **_: f"order-{order}"``). Raises what ``capture`` raises: with
    neither spool nor broker nothing is kept, and whoever called must know.
    """

    def keep(error: BaseException, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        from regrow import dead_letters

        told = {name: value(*args, **kwargs) if callable(value) else value for name, value in options.items()}
        message = {"task": task, "args": list(args), "kwargs": dict(kwargs), "queue": queue}
        given: dict[str, Any] = {"failure_class": "dependency_down", **told}
        return dead_letters.capture(message, error=error, service=service, **given)

    return Later(keep)


def as_task(task: Any, **options: Any) -> Later:
    """Send the call to the application's own task queue; ``task`` is a Celery task, ``options`` its
    ``apply_async``'s. Raises what that raises."""

    def keep(_error: BaseException, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        return str(task.apply_async(args, dict(kwargs), **options).id)

    return Later(keep)
