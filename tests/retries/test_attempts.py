"""``for attempt in attempts(policy)``, with a clock and a sleep of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from regrow import RetryPolicy, attempts
from tests.retries.test_retry import Flaky, Time

kinds = pytest.mark.parametrize("kind", ["for", "async for"])


def run(kind, work, policy, time, **settings):
    """The block in both forms; its result, and the numbers of its attempts."""
    numbers = []

    def loop():
        for attempt in attempts(policy, **time.options(**settings)):
            with attempt:
                numbers.append(attempt.number)
                return work()
        return None

    async def loop_async():
        async for attempt in attempts(policy, **time.options(**settings)):
            with attempt:
                numbers.append(attempt.number)
                return work()
        return None

    return (loop() if kind == "for" else asyncio.run(loop_async())), numbers


@kinds
def test_a_block_is_tried_again_until_it_works(kind):
    time, flaky = Time(), Flaky(2)
    assert run(kind, lambda: flaky(42), RetryPolicy(jitter="none"), time) == (42, [1, 2, 3])
    assert time.pauses == [1, 2]


@kinds
def test_the_last_error_goes_on_with_a_note_that_names_the_block(kind):
    time, flaky = Time(), Flaky(9)
    with pytest.raises(OSError, match="flaky") as caught:
        run(kind, flaky, RetryPolicy(max_retries=1, jitter="none"), time, name="charging")
    assert flaky.calls == 2
    assert "charging: gave up after 2 tries" in caught.value.__notes__[-1]


@kinds
def test_an_error_that_is_not_named_goes_on_at_once(kind):
    time, flaky = Time(), Flaky(1, KeyError("x"))
    with pytest.raises(KeyError):
        run(kind, flaky, RetryPolicy(on=OSError), time)
    assert (flaky.calls, time.pauses) == (1, [])


def test_a_block_that_raises_nothing_ends_the_loop():
    done = 0
    for attempt in attempts():
        with attempt:
            done += 1
    assert done == 1


def test_cancellation_is_never_retried():
    async def cancelled():
        async for attempt in attempts(RetryPolicy(on=BaseException)):
            with attempt:
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_an_async_pause_leaves_the_event_loop_to_others():
    async def main():
        tries = ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        async for attempt in attempts(RetryPolicy(base_delay=0.05, jitter="none")):
            with attempt:
                tries += 1
                if tries < 2:
                    raise OSError
        ticking.cancel()
        return tries, ticks

    tries, ticks = asyncio.run(main())
    assert tries == 2
    assert ticks > 10


def test_an_attempt_that_is_not_entered_is_an_error_not_an_endless_loop():
    with pytest.raises(RuntimeError, match="with attempt"):
        for _attempt in attempts():
            pass


def test_an_attempt_knows_what_is_left_of_the_deadline():
    time, left = Time(), []
    policy = RetryPolicy(max_retries=9, strategy="fixed", base_delay=2, jitter="none", deadline=5)

    def slow():
        for attempt in attempts(policy, **time.options()):
            with attempt:
                left.append(attempt.left)
                time.now += 1
                raise OSError("slow")

    with pytest.raises(OSError, match="slow"):
        slow()
    assert left == [5, 2]
    assert next(attempts(RetryPolicy())).left is None
