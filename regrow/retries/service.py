"""``@retry``: carry out a policy, for functions and coroutine functions alike."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from regrow.clock import utc_now
from regrow.matching import Matchers
from regrow.retries.policy import Jitter, Randomness, RetryPolicy, Strategy

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("regrow.retries")


class UnwelcomeResult(Exception):  # noqa: N818 - never raised: it lets a policy judge a result like an error
    """A result that should be tried again."""

    def __init__(self, result: Any, description: str) -> None:
        super().__init__(description)
        self.response = result


def retry(
    *,
    max_retries: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 30.0,
    deadline: float | None = None,
    strategy: Strategy = "exponential",
    jitter: Jitter = "full",
    on: Matchers = (Exception,),
    ignore: Matchers = (),
    honour_retry_after: bool = True,
    max_retry_after: float = 300.0,
    sleep: Callable[[float], None] = time.sleep,
    sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    rng: Randomness | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Try again after errors, as :class:`RetryPolicy` says; in the end the last error goes on to the caller.

    Decorate only what may be done twice. Cancellation and ``KeyboardInterrupt`` are never retried.
    """
    policy = RetryPolicy(
        max_retries=max_retries,
        base_delay=base_delay,
        max_delay=max_delay,
        deadline=deadline,
        strategy=strategy,
        jitter=jitter,
        on=on,
        ignore=ignore,
        honour_retry_after=honour_retry_after,
        max_retry_after=max_retry_after,
    )
    return retrying(policy, sleep=sleep, sleep_async=sleep_async, clock=clock, rng=rng)


def retrying(
    policy: RetryPolicy,
    *,
    unwelcome: Callable[[Any], str | None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    rng: Randomness | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for ``policy``. ``unwelcome`` says what is wrong with a result, None when it will do."""
    randomness = rng or random.SystemRandom()

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        name = getattr(fn, "__qualname__", repr(fn))
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"{name} is a generator: calling it does nothing yet that could fail")

        def begin() -> _Course:
            return _Course(policy, unwelcome, name, clock, randomness)

        if inspect.iscoroutinefunction(fn):
            return cast("Callable[P, R]", _tried_async(fn, begin, sleep_async))
        return _tried(fn, begin, sleep)

    return decorate


class _Course:
    """One retried call: counts its tries and asks the policy after each."""

    def __init__(
        self,
        policy: RetryPolicy,
        unwelcome: Callable[[Any], str | None] | None,
        name: str,
        clock: Callable[[], float],
        rng: Randomness,
    ) -> None:
        self._policy = policy
        self._unwelcome = unwelcome
        self._name = name
        self._clock = clock
        self._rng = rng
        self._began = clock()
        self._attempt = 1
        self._pause: float | None = None

    def pause_after(self, error: BaseException) -> float | None:
        """Seconds until the next try, None when this error is the last word."""
        elapsed = self._clock() - self._began
        self._pause = self._policy.decide(
            self._attempt, error, elapsed, self._rng, previous=self._pause, now=utc_now()
        )
        if self._pause is None:
            if self._attempt > 1:
                error.add_note(f"{self._name}: gave up after {self._attempt} tries in {elapsed:.1f} s")
            return None
        logger.info(
            "retry.attempt",
            extra={
                "function": self._name,
                "attempt": self._attempt,
                "delay": round(self._pause, 3),
                "error": f"{type(error).__name__}: {error}",
            },
        )
        self._attempt += 1
        return self._pause

    def pause_for(self, result: object) -> float | None:
        """Seconds until the next try, None when this result will do or is the last."""
        wrong = self._unwelcome(result) if self._unwelcome is not None else None
        return None if wrong is None else self.pause_after(UnwelcomeResult(result, wrong))


def _tried(
    fn: Callable[P, R], begin: Callable[[], _Course], sleep: Callable[[float], None]
) -> Callable[P, R]:
    @functools.wraps(fn)
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        course = begin()
        while True:
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                pause = course.pause_after(error)
                if pause is None:
                    raise
            else:
                pause = course.pause_for(result)
                if pause is None:
                    return result
            sleep(pause)

    return tried


def _tried_async(
    fn: Callable[P, Awaitable[Any]], begin: Callable[[], _Course], sleep: Callable[[float], Awaitable[None]]
) -> Callable[P, Awaitable[Any]]:
    @functools.wraps(fn)
    async def tried(*args: P.args, **kwargs: P.kwargs) -> Any:
        course = begin()
        while True:
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                pause = course.pause_after(error)
                if pause is None:
                    raise
            else:
                pause = course.pause_for(result)
                if pause is None:
                    return result
            await sleep(pause)

    return tried
