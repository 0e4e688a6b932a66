"""A coroutine's timeout does what ``asyncio.timeout`` does, with one timer for many calls."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from regrow.breakers import deadlines


async def guarded(timeout, work):
    deadline = deadlines.begin(timeout)
    try:
        result = await work
    except BaseException as error:
        if deadline.end(error):
            raise TimeoutError from error
        raise
    deadline.end()
    return result


def timers():
    return [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]


def run(work):
    return asyncio.run(asyncio.wait_for(work, 10))


def test_a_call_that_takes_too_long_is_cancelled_and_the_task_goes_on():
    async def main():
        with pytest.raises(TimeoutError) as raised:
            await guarded(0.02, asyncio.sleep(5))
        assert isinstance(raised.value.__cause__, asyncio.CancelledError)
        assert asyncio.current_task().cancelling() == 0
        return await guarded(0.02, asyncio.sleep(0, "well"))

    assert run(main()) == "well"


def test_a_thousand_calls_need_one_timer_and_leave_nothing_running():
    async def main():
        before = len(timers())
        for _ in range(500):
            await guarded(30, asyncio.sleep(0))
        await asyncio.gather(*(guarded(30, asyncio.sleep(0)) for _ in range(500)))
        assert len(timers()) == before + 1
        (line,) = deadlines._here.lines.values()
        assert not line.running

    run(main())


def test_each_of_many_ends_at_its_own_time_whatever_the_others_do():
    async def late(after):
        await asyncio.sleep(after)
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await guarded(0.1, asyncio.sleep(5))
        return asyncio.get_running_loop().time() - began

    async def main():
        quick = guarded(0.1, asyncio.sleep(0.02, "quick"))
        *took, answer = await asyncio.gather(*(late(n * 0.01) for n in range(10)), quick)
        assert answer == "quick"
        assert all(0.09 < seconds < 1 for seconds in took)

    run(main())


def test_a_cancellation_from_outside_stays_one():
    async def main():
        task = asyncio.create_task(guarded(5, asyncio.sleep(5)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_cancellation_from_outside_is_stronger_than_a_deadline_in_the_same_moment():
    async def main():
        task = asyncio.create_task(guarded(5, asyncio.sleep(5)))
        await asyncio.sleep(0.01)
        (deadline,) = deadlines._here.lines[5].running
        task.cancel()
        deadline.expire()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())


@pytest.mark.parametrize(("inner", "outer"), [(0.02, 5), (5, 0.02)])
def test_nested_deadlines_each_mean_their_own_block(inner, outer):
    seen = []

    async def nested():
        try:
            return await guarded(inner, asyncio.sleep(9))
        except BaseException as error:
            seen.append(type(error))
            raise

    async def main():
        with pytest.raises(TimeoutError):
            await guarded(outer, nested())
        assert asyncio.current_task().cancelling() == 0

    run(main())
    assert seen == [TimeoutError if inner < outer else asyncio.CancelledError]


def test_it_lives_with_asyncio_timeout_around_and_within():
    async def within():
        async with asyncio.timeout(0.02):
            await asyncio.sleep(5)

    async def main():
        with pytest.raises(TimeoutError):
            await guarded(5, within())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await guarded(5, asyncio.sleep(5))

    run(main())


def test_a_call_that_will_not_be_cancelled_keeps_its_result():
    async def stubborn():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return "all the same"

    async def main():
        assert await guarded(0.02, stubborn()) == "all the same"
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)

    run(main())


def test_an_error_of_the_call_itself_goes_on_though_it_was_late():
    async def breaks():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            raise OSError("as it was cancelled") from None

    async def main():
        with pytest.raises(OSError, match="as it was"):
            await guarded(0.02, breaks())

    run(main())


def test_loops_after_each_other_and_at_once_have_timers_of_their_own():
    failed = []

    def work():
        try:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    asyncio.run(guarded(0.02, asyncio.sleep(5)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failed == []


def test_a_call_that_ended_is_not_held_until_its_time():
    async def main():
        task = asyncio.create_task(guarded(30, asyncio.sleep(0)))
        await task
        held = weakref.ref(task)
        del task
        await asyncio.sleep(0)  # the loop itself lets go of it with the next turn
        gc.collect()
        assert held() is None

    run(main())


def test_outside_a_task_it_says_so():
    async def main():
        asyncio.get_running_loop().call_soon(lambda: seen.append(_error()))
        await asyncio.sleep(0.01)

    def _error():
        try:
            deadlines.begin(1.0)
        except RuntimeError as error:
            return str(error)

    seen = []
    run(main())
    assert "inside an asyncio task" in seen[0]
