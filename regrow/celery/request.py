"""Tasks that fail for good: captured in the main process, before the message is acknowledged.

Signals and ``Task.on_failure`` miss killed children, hard time limits and rejected messages; the request
sees them all. What is not final (a retry, a requeue, a task that was revoked or cancelled) passes by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]
from celery.exceptions import (
    Ignore,
    Reject,
    Retry,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.utils.imports import symbol_by_name
from celery.worker import state

from regrow.celery.capturing import Capturer, Ended
from regrow.celery.messages import (
    Failure,
    Kind,
    TaskExpiredError,
    TaskOutOfMemoryError,
    TaskRevokedError,
    TaskTerminatedError,
    failure_of,
)
from regrow.celery.origin import Taken
from regrow.dead_letters.home import HEADER
from regrow.errors import StoreUnavailableError
from regrow.failures import FailureClass
from regrow.log_events import EventLog

log = EventLog(__name__)

OWN = "regrow."
_KEPT_OWN = {"regrow.dead_letters.capture", "regrow.dead_letters.capture_many"}
"""Regrow's own tasks are not captured, their runs are recorded; but these two carry what must not be lost."""


def capturing(request: Any, capturer: Capturer, once_kept: Callable[..., Any], taken: Taken) -> type[Any]:
    """The request class that captures, on top of ``request`` (a class or its path)."""
    base = symbol_by_name(request)
    return base if issubclass(base, CapturingRequest) else _class(base, capturer, once_kept, taken)


@cache
def _class(base: type[Any], capturer: Capturer, once_kept: Callable[..., Any], taken: Taken) -> type[Any]:
    return type(
        f"Capturing{base.__name__}",
        (CapturingRequest, base),
        {
            "regrow_capturer": capturer,
            "regrow_once_kept": staticmethod(once_kept),
            "regrow_taken": staticmethod(taken),
            "__slots__": (),
        },
    )


class CapturingRequest:
    """Mixed in front of the app's own request class."""

    regrow_capturer: Capturer
    regrow_once_kept: Callable[..., Any]
    regrow_taken: Taken

    id: Any
    task: Any
    message: Any
    acknowledged: bool
    acknowledge: Callable[[], None]
    request_dict: dict[str, Any]
    _context: Any
    _already_revoked: bool
    _already_cancelled: bool
    _captured = False
    _then: list[Callable[[], Any]] | None = None
    """What waits for a capture that is under way."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if attempt := self._attempt():
            # Celery's optimised subclass overrides on_success without calling ours; the pool takes the
            # bound attribute, so this one comes first.
            succeed = self.on_success  # type: ignore[has-type]

            def on_success(outcome: tuple[Any, Any, Any], **more: Any) -> None:
                if outcome[0]:
                    succeed(outcome, **more)
                else:
                    self._tell(attempt, None, lambda: succeed(outcome, **more))

            self.on_success = on_success
            self.regrow_capturer.in_hand.note(attempt, "received")

    def on_accepted(self, pid: int, time_accepted: float) -> Any:
        if attempt := self._attempt():
            self.regrow_capturer.in_hand.note(attempt, "started")
        return super().on_accepted(pid, time_accepted)  # type: ignore[misc]

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        forward = super().on_failure  # type: ignore[misc]
        if isinstance(error, MemoryError):
            # Celery raises it again in the main process, which ends there; with late acknowledgement the
            # message comes back and ends the next one.
            exc_info, return_ok = _out_of_memory(error, exc_info), False
        if not self._is_final(error):
            return forward(exc_info, send_failed_event, return_ok)
        trace = str(getattr(exc_info, "traceback", "") or "")
        return self._capture(
            error, lambda: self._end(lambda: forward(exc_info, send_failed_event, return_ok)), trace
        )

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        forward = super().on_timeout  # type: ignore[misc]
        requeued = self.task.acks_late and not self.task.acks_on_timeout
        if soft or requeued or state.should_terminate:
            return forward(soft, timeout)
        return self._capture(TimeLimitExceeded(timeout), lambda: self._end(lambda: forward(soft, timeout)))

    def reject(self, requeue: bool = False) -> Any:
        forward = super().reject  # type: ignore[misc]
        if requeue or self.acknowledged or self._captured:
            return forward(requeue=requeue)
        return self._capture(Reject("rejected without a requeue"), lambda: forward(requeue=False))

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> Any:
        forward = super()._announce_revoked  # type: ignore[misc]
        if self._already_revoked or not self._wants_revoked(expired=expired):
            return forward(reason, terminated, signum, expired)
        self._already_revoked = True  # whoever asks meanwhile is told so, once
        error = _why_revoked(terminated=terminated, signum=signum, expired=expired)
        kind = "expired" if expired else "revoked"
        return self._capture(
            error, lambda: self._end(lambda: forward(reason, terminated, signum, expired)), kind=kind
        )

    def _wants_revoked(self, *, expired: bool) -> bool:
        if self.task.name.startswith(OWN):
            return False
        facts = self.regrow_taken.facts
        # Of a redriven letter the end is told in any case: it is waited for.
        return bool(self._attempt()) or (facts.expired if expired else facts.revoked)

    def _retry_worker_lost(self, exc: BaseException, exc_info: Any) -> bool:
        sent = bool(super()._retry_worker_lost(exc, exc_info))  # type: ignore[misc]
        if not sent and not self._captured:
            # Celery now acknowledges, or rejects, a message that nobody will run again.
            self._capture_at_once(exc)
        return sent

    def _is_final(self, error: BaseException) -> bool:  # noqa: PLR0911 - one line a kind of ending
        if self.task.name.startswith(OWN) and self.task.name not in _KEPT_OWN:
            return False
        if isinstance(error, Terminated | Retry | Ignore):
            return False
        if isinstance(error, Reject):
            return not getattr(error, "requeue", False)
        if isinstance(error, SystemExit | KeyboardInterrupt):
            return not (self._already_cancelled or self._already_revoked)
        if isinstance(error, WorkerLostError):
            return self._lost_for_good()
        if isinstance(error, TimeLimitExceeded):
            return not self.task.acks_late or bool(self.task.acks_on_timeout)
        return True

    def _lost_for_good(self) -> bool:
        if self._already_cancelled and self.task.acks_late:
            return False  # its broker was lost, and delivers it again
        most = self.task.max_retries
        exhausted = most is not None and self._context.retries >= most
        if self.task.retry_on_worker_lost and not exhausted:
            return False  # Celery sends it again; _retry_worker_lost sees when it cannot
        if self.task.acks_late and self.task.reject_on_worker_lost and not exhausted:
            return False
        return not self._success_was_stored()  # type: ignore[attr-defined]

    def _capture(
        self, error: BaseException, then: Callable[[], Any], trace: str = "", kind: Kind = "failed"
    ) -> Any:
        """Capture, and only then go on; whatever else happens to this request meanwhile waits in line."""
        if self._captured:
            return then()
        if self._then is not None:
            self._then.append(then)
            return None
        if _is_stopping():
            # The loop that would call us back is at its end.
            return then() if self._capture_at_once(error, trace, kind) else None
        state.task_ready(self)  # it runs no more: nobody may cancel "its" child, which runs another task
        self._then = [then]
        self._tell_or_capture(self._failure(error, trace, kind))
        return None

    def _tell_or_capture(self, failure: Failure) -> None:
        attempt = self._attempt()
        self.regrow_capturer.submit(
            Ended(attempt, failure) if attempt else failure, lambda: self.regrow_once_kept(self._go_on)
        )

    def _tell(self, attempt: str, failure: Failure | None, then: Callable[[], Any]) -> None:
        state.task_ready(self, successful=failure is None)
        self.regrow_capturer.submit(Ended(attempt, failure), lambda: self.regrow_once_kept(then))

    def _end(self, forward: Callable[[], Any]) -> Any:
        """What Celery does at the end: store the result, acknowledge. The failure is kept already.

        A result backend that is away raises here, before the acknowledgement. With late acknowledgement the
        task would run again and again; and a backend on Redis fails with the same error as the broker, so
        that the worker would drop its connection, and all that it has in hand.
        """
        try:
            return forward()
        except Exception as error:
            log.warning("result.not_stored", task_id=self.id, error=repr(error))
        if self.task.acks_late:
            self.acknowledge()
        return None

    def _go_on(self) -> None:
        self._captured = True
        waiting, self._then = self._then or [], None
        for then in waiting:
            then()

    def _capture_at_once(self, error: BaseException, trace: str = "", kind: Kind = "failed") -> bool:
        try:
            failure, attempt = self._failure(error, trace, kind), self._attempt()
            self.regrow_capturer.keep_now(Ended(attempt, failure) if attempt else failure)
        except StoreUnavailableError as away:
            # With late acknowledgement the broker still has it and delivers it again.
            log.error("letter.left_with_broker", task_id=self.id, error=str(away))  # noqa: TRY400
            return False
        self._captured = True
        return True

    def _failure(self, error: BaseException, trace: str = "", kind: Kind = "failed") -> Failure:
        told = self.regrow_capturer.class_of(error)
        if told is None and isinstance(error, WorkerLostError) and _is_stopping():
            told = FailureClass.TRANSIENT  # the worker is being shut down or replaced; nobody's poison
        return failure_of(kind, self.regrow_taken(self.message), error, trace, told)

    def _attempt(self) -> str | None:
        found = self.request_dict.get(HEADER)
        return found if isinstance(found, str) and found else None


def _is_stopping() -> bool:
    return state.should_stop is not None or state.should_terminate is not None


def _why_revoked(*, terminated: bool, signum: Any, expired: bool) -> Exception:
    if expired:
        return TaskExpiredError()
    return TaskTerminatedError(f"terminated by {signum}") if terminated else TaskRevokedError()


def _out_of_memory(error: BaseException, exc_info: Any) -> ExceptionInfo:
    try:
        raise TaskOutOfMemoryError(f"the task ran out of memory: {error}")  # noqa: TRY301 - needs a traceback
    except TaskOutOfMemoryError:
        made = ExceptionInfo()
    made.traceback = str(getattr(exc_info, "traceback", "") or made.traceback)
    return made
