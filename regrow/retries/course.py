"""One retried call: counts its tries, asks the policy and the budget after each, says what it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from regrow.clock import utc_now
from regrow.errors import CircuitOpenError
from regrow.retries.budget import RetryBudget
from regrow.retries.counting import count_exhausted, count_refused, count_retry
from regrow.retries.policy import Randomness, RetryPolicy

logger = logging.getLogger("regrow.retries")


class UnwelcomeResult(Exception):  # noqa: N818 - never raised: it lets a policy judge a result like an error
    """A result that should be tried again."""

    def __init__(self, result: Any, description: str) -> None:
        super().__init__(description)
        self.response = result


class Course:
    """The tries of one call. ``unwelcome`` says what is wrong with a result, None when it will do."""

    def __init__(
        self,
        policy: RetryPolicy,
        name: str,
        clock: Callable[[], float],
        rng: Randomness,
        budget: RetryBudget | None = None,
        unwelcome: Callable[[Any], str | None] | None = None,
    ) -> None:
        self._policy = policy
        self._unwelcome = unwelcome
        self._budget = budget
        self._name = name
        self._clock = clock
        self._rng = rng
        self._began = clock()
        self._pause: float | None = None
        self._tries = 0  # that reached what is called
        self._waited = 0.0  # for breakers to let one through
        self.attempt = 1
        if budget is not None:
            budget.call()

    @property
    def left(self) -> float | None:
        """Seconds until the deadline, never below 0; None without one."""
        deadline = self._policy.deadline
        return None if deadline is None else max(0.0, self._began + deadline - self._clock())

    def pause_after(self, error: BaseException) -> float | None:
        """Seconds until the next try, None when this error is the last word."""
        elapsed = self._clock() - self._began
        refused = isinstance(error, CircuitOpenError) and self._policy.honour_retry_after
        self._tries += not refused
        pause = self._policy.decide(
            max(1, self._tries),
            error,
            elapsed,
            self._rng,
            previous=self._pause,
            now=utc_now(),
            waited=self._waited,
        )
        # Behind an open breaker nothing was called: to come back is no retry that somebody must pay for.
        broke = pause is not None and not refused and self._budget is not None and not self._budget.spend()
        if pause is None or broke:
            if broke:
                count_refused(self._name)
                error.add_note(f"{self._name}: not tried again, the retry budget is used up")
            elif self.attempt > 1:
                count_exhausted(self._name)
            if self.attempt > 1:
                error.add_note(f"{self._name}: gave up after {self.attempt} tries in {elapsed:.1f} s")
            return None
        count_retry(self._name, pause)
        self._waited += pause if refused else 0.0
        self._pause = pause
        logger.info(
            "retry.attempt",
            extra={
                "function": self._name,
                "attempt": self.attempt,
                "delay": round(pause, 3),
                "error": f"{type(error).__name__}: {error}",
            },
        )
        self.attempt += 1
        return pause

    def pause_for(self, result: object) -> float | None:
        """Seconds until the next try, None when this result will do or is the last."""
        wrong = self._unwelcome(result) if self._unwelcome is not None else None
        return None if wrong is None else self.pause_after(UnwelcomeResult(result, wrong))
