"""Poison: messages that no task can take. Captured, then acknowledged; never a crash, never a loop.

Celery drops some of them silently (undecodable bodies, unknown tasks), reconnects for ever on others (no id)
and exits on the rest (a body that is no list of three). On the Redis broker nothing of them remains.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

from celery import signals
from celery.exceptions import NotRegistered

from regrow.celery.capturing import Capturer
from regrow.celery.messages import (
    DeliveredTooOftenError,
    UnknownTaskError,
    defect_of,
    failure_of,
)
from regrow.celery.origin import AppFacts, Taken
from regrow.celery.redeliveries import message_name
from regrow.celery.request import capturing
from regrow.dead_letters.home import HEADER
from regrow.failures import FailureClass
from regrow.log_events import EventLog

log = EventLog(__name__)

MOST_HELD = 100
"""So many captured messages may wait for the store beside those that the prefetch allows."""
MOST_DELIVERIES = 10
"""A message that comes back for the eleventh time kills whoever takes it."""
LAST_WAIT = 5.0
"""Seconds for which a worker that ends waits for its store; what is not kept then stays with the broker."""


class PoisonGuard:
    """Mixed into the app's consumer class by :func:`regrow.celery.install`."""

    regrow_capturer: Capturer
    regrow_deliveries: Callable[[str], int] | None
    """Counts a redelivery of this message id and says how many there were; None: not counted."""
    regrow_facts: AppFacts

    app: Any
    qos: Any
    hub: Any
    call_soon: Any
    connection_errors: tuple[type[BaseException], ...]
    channel_errors: tuple[type[BaseException], ...]
    _held = 0

    @cached_property
    def _kept(self) -> deque[Callable[[], Any]]:
        """What is to be done, in this thread, for failures and outcomes that are kept."""
        return deque()

    def once_kept(self, then: Callable[[], Any]) -> None:
        """Have the event loop do this soon; a loop that is at its end leaves it to :meth:`shutdown`."""
        self._kept.append(then)
        self.call_soon(self._let_go)

    def _let_go(self) -> None:
        while self._kept:
            self._kept.popleft()()

    def shutdown(self) -> None:
        """Every task has ended and the loop turns no more, but the connection is there still.

        What is kept is acknowledged now. Otherwise the next worker would get it, and run it, once more.
        """
        if left := self.regrow_capturer.left_after(LAST_WAIT):
            log.error("letters.left_with_broker", count=left)
        while self._kept:
            _at_the_end(self._kept.popleft())
        # Celery's own acknowledgements go through the loop as well; a closed hub has forgotten none of them.
        while self.hub is not None and (ready := self.hub._pop_ready()):  # noqa: SLF001 - as hub.close() does
            for callback in ready:
                _at_the_end(callback)
        super().shutdown()  # type: ignore[misc]

    @cached_property
    def _taken(self) -> Taken:
        return Taken(self, self.regrow_facts)

    def update_strategies(self) -> None:
        self.regrow_capturer.sink.start()
        # The last moment before Celery reads Task.Request, and the only one that sees every task.
        for task in self.app.tasks.values():
            task.Request = capturing(task.Request, self.regrow_capturer, self.once_kept, self._taken)
        super().update_strategies()  # type: ignore[misc]

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        handle = super().create_task_handler(*args, **options)  # type: ignore[misc]

        def on_task_received(message: Any) -> Any:
            try:
                defect = defect_of(message.headers, message.payload) or self._worn_out(message)
                if defect:
                    return self._poison(message, defect)
                return self._skip(message) if self._is_settled(message) else handle(message)
            except Exception as error:
                if self._is_outage(error):
                    raise
                return self._poison(message, error)

        return on_task_received

    def _is_settled(self, message: Any) -> bool:
        """Whether this is a copy of a redriven letter that was settled by another one."""
        letter_id, _, _ = str(message.headers.get(HEADER) or "").partition(":")
        return bool(letter_id) and self.regrow_capturer.sink.settled(letter_id)

    def _skip(self, message: Any) -> None:
        log.info("letter.copy_skipped", attempt=message.headers[HEADER], task_id=message.headers.get("id"))
        message.ack_log_error(logging.getLogger(__name__), self.connection_errors)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        self._poison(message, exc)

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        defect = defect_of(message.headers, None)
        self._poison(message, defect or ValueError("not a task message"))

    def on_invalid_task(self, _body: Any, message: Any, exc: BaseException) -> None:
        self._poison(message, exc)

    def on_unknown_task(self, _body: Any, message: Any, exc: BaseException) -> None:
        raw = self._taken(message)
        name = raw.task or str(exc)
        self._poison(
            message,
            UnknownTaskError(f"task {name!r} is not registered in this worker; import its module"),
            then=lambda: self._tell_unknown(message, raw.task_id, name, exc),
        )

    def _poison(self, message: Any, error: BaseException, then: Callable[[], None] | None = None) -> None:
        """Hold the message until it is captured, then acknowledge it."""
        failure = failure_of("poison", self._taken(message), error, told=FailureClass.POISON)
        log.error(
            "message.poison",
            event_id=failure.event_id,
            queue=failure.message.queue,
            task=failure.message.task,
            task_id=failure.message.task_id,
            error=f"{failure.error_type}: {failure.error_message}"[:500],
        )
        release = self._hold()

        def captured() -> None:
            message.ack_log_error(logging.getLogger(__name__), self.connection_errors)
            release()
            if then is not None:
                then()
            else:
                signals.task_rejected.send(sender=self, message=message, exc=error)

        self.regrow_capturer.submit(failure, lambda: self.once_kept(captured))

    def _hold(self) -> Callable[[], None]:
        """A message that waits for the store must not use up the prefetch, within reason."""
        counted = self.qos is not None and self._held < MOST_HELD
        if counted:
            self._held += 1
            self.qos.increment_eventually()

        def release() -> None:
            if counted:
                self._held -= 1
                self.qos.decrement_eventually()

        return release

    def _tell_unknown(self, message: Any, task_id: str | None, name: str, exc: BaseException) -> None:
        """What Celery does for an unknown task beside dropping it: whoever waits for the result learns."""
        if task_id is not None:
            try:
                self.app.backend.store_result(task_id, NotRegistered(name), "FAILURE")
            except Exception as error:
                log.warning("result.not_stored", task_id=task_id, error=repr(error))
        signals.task_unknown.send(sender=self, message=message, exc=exc, name=name, id=task_id)

    def _worn_out(self, message: Any) -> DeliveredTooOftenError | None:
        delivery = message.delivery_info or {}
        task_id = message.headers.get("id") if isinstance(message.headers, dict) else None
        if not delivery.get("redelivered") or self.regrow_deliveries is None or task_id is None:
            return None
        try:
            times = self.regrow_deliveries(message_name(task_id, message.headers.get("retries")))
        except Exception as error:
            log.warning("deliveries.not_counted", task_id=task_id, error=repr(error))
            return None
        if times <= MOST_DELIVERIES:
            return None
        return DeliveredTooOftenError(
            f"delivered {times} times more without coming to an end: it may kill the worker that takes it"
        )

    def _is_outage(self, error: BaseException) -> bool:
        # Kombu's Redis transport counts KeyError among the connection errors: a message without an id would
        # make the worker reconnect for ever.
        if isinstance(error, KeyError):
            return False
        return isinstance(error, (*self.connection_errors, *self.channel_errors))


def _at_the_end(callback: Callable[[], Any]) -> None:
    """One that fails must not keep the connection from closing in order; its message is delivered again."""
    try:
        callback()
    except Exception as error:
        log.warning("message.not_acknowledged", error=repr(error))
