"""``@retry``: carry out a policy, for functions and coroutine functions alike."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from regrow.clock import seconds, wait, wait_async
from regrow.matching import Matchers
from regrow.retries.budget import RetryBudget
from regrow.retries.course import Course
from regrow.retries.policy import Jitter, Randomness, RetryPolicy, Strategy

P = ParamSpec("P")
R = TypeVar("R")


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
    budget: RetryBudget | None = None,
    sleep: Callable[[float], None] = wait,
    sleep_async: Callable[[float], Awaitable[None]] = wait_async,
    clock: Callable[[], float] = seconds,
    rng: Randomness | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Try again after errors, as :class:`RetryPolicy` says; in the end the last error goes on to the caller.

    Decorate only what may be done twice. Cancellation and ``KeyboardInterrupt`` are never retried.
    ``budget``: what retries are paid from; when it is used up the error goes on at once.
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
    return retrying(policy, budget=budget, sleep=sleep, sleep_async=sleep_async, clock=clock, rng=rng)


def retrying(
    policy: RetryPolicy,
    *,
    budget: RetryBudget | None = None,
    unwelcome: Callable[[Any], str | None] | None = None,
    sleep: Callable[[float], None] = wait,
    sleep_async: Callable[[float], Awaitable[None]] = wait_async,
    clock: Callable[[], float] = seconds,
    rng: Randomness | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for ``policy``. ``unwelcome`` says what is wrong with a result, None when it will do."""
    randomness = rng or random.SystemRandom()

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        name = getattr(fn, "__qualname__", repr(fn))
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"{name} is a generator: calling it does nothing yet that could fail")

        def begin() -> Course:
            return Course(policy, name, clock, randomness, budget, unwelcome)

        if inspect.iscoroutinefunction(fn):
            return cast("Callable[P, R]", _tried_async(fn, begin, sleep_async))
        return _tried(fn, begin, sleep)

    return decorate


def _tried(fn: Callable[P, R], begin: Callable[[], Course], sleep: Callable[[float], None]) -> Callable[P, R]:
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
    fn: Callable[P, Awaitable[Any]], begin: Callable[[], Course], sleep: Callable[[float], Awaitable[None]]
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
