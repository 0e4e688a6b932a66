"""Keepers of failed messages side by side, each in a process of its own: ours, and what people use.

``python -m benchmarks.peers.keepers NAME URL`` prints ``ready``, then takes a number of letters a line on its
input, does its work on so many and answers with one line of JSON: ``seconds`` and ``done``, or ``missing`` with
the reason why it cannot be measured here.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator


Work = Callable[[int], tuple[float, int]]
"""Letters wanted -> seconds taken, letters done."""

ERROR = {"class": "TimeoutError", "message": "the bank did not answer within 5 seconds"}
_NOTE = "The quick brown fox jumps over the lazy dog while the bank is away. "


def body(number: int) -> dict:
    """The failed message that all of them get, as an app hands it over: 2.2 KB as JSON."""
    arguments = {"currency": "EUR", "note": (_NOTE * 31)[:2080]}
    return {"task": "shop.charge", "args": [number], "kwargs": arguments, "queue": "shop"}


def capture_many(_url: str) -> Work:
    """Ours: keep so many failures in one call."""
    from regrow.dead_letters import service
    from regrow.dead_letters.captured import of_message

    engine = _engine()

    def work(count: int) -> tuple[float, int]:
        captures = [of_message(body(number), error=ERROR, service="bank") for number in range(count)]
        began = time.perf_counter()
        done = len(service.capture_many(engine, captures))
        return time.perf_counter() - began, done

    return work


def bookkeeping(_url: str) -> Work:
    """Ours: lease 200, settle 200, until so many are done. Every settlement has its attempt's row."""
    from regrow.dead_letters import leasing, service
    from regrow.dead_letters.home import attempt_reference

    engine = _engine()
    owner = f"bench:{os.getpid()}"

    def work(count: int) -> tuple[float, int]:
        done, began = 0, time.perf_counter()
        while done < count:
            batch, _ = engine.database.run(
                lambda connection: leasing.lease_some(
                    connection, "bank", owner=owner, now=engine.clock(), seconds=60, limit=200
                )
            )
            if not batch:
                break
            done += sum(
                service.settle_many(engine, [attempt_reference(one.letter.id, one.token) for one in batch])
            )
        return time.perf_counter() - began, done

    return work


def _engine():
    """As in a worker: settings from the environment, each letter in the log."""
    from regrow.engine import get_engine
    from regrow.logs import configure_logging

    configure_logging("INFO", "json", production=True)
    return get_engine()


def baldur(url: str) -> Work:
    """baldur-framework on its Redis store: create, acquire for a replay, complete it."""
    os.environ["BALDUR_REDIS_URL"] = url
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    from baldur.adapters.redis.dlq import RedisDLQRepository
    from baldur.adapters.resilient.backend import ResilientStorageBackend
    from baldur.settings.resilient_storage import ResilientStorageSettings

    repository = RedisDLQRepository(ResilientStorageBackend(ResilientStorageSettings()))

    def work(count: int) -> tuple[float, int]:
        done, began = 0, time.perf_counter()
        for number in range(count):
            made = repository.create(
                domain="payments",
                failure_type=ERROR["class"],
                error_message=ERROR["message"],
                request_data=body(number),
            )
            if repository.try_acquire_for_replay(made.id, 3) is not None:
                done += bool(repository.complete_replay(made.id, True, "auto"))
        return time.perf_counter() - began, done

    work(1)
    if not repository._ensure_redis_available():
        raise RuntimeError("its Redis store runs degraded: it has not reached Redis")
    return work


def rq_requeue(url: str) -> Work:
    """RQ: put failed jobs back into their queue, one by one as ``rq requeue`` does."""
    import redis
    from rq import Queue

    connection = redis.Redis.from_url(url)
    queue = Queue("bench", connection=connection)

    def work(count: int) -> tuple[float, int]:
        queue.empty()
        registry = queue.failed_job_registry
        for number in range(count):
            job = queue.enqueue("json.dumps", body(number))
            queue.remove(job)
            registry.add(job, -1, ERROR["message"])
        began = time.perf_counter()
        for job_id in registry.get_job_ids():
            registry.requeue(job_id)
        return time.perf_counter() - began, queue.count

    return work


KEEPERS = {
    "capture_many": capture_many,
    "bookkeeping": bookkeeping,
    "baldur": baldur,
    "rq_requeue": rq_requeue,
}


def answers(name: str, url: str) -> Iterator[dict[str, object]]:
    try:
        work = KEEPERS[name](url)
    except Exception as error:
        yield {"missing": f"{type(error).__name__}: {error}"}
        return
    yield {"ready": True}
    for line in sys.stdin:
        seconds, done = work(int(line))
        yield {"seconds": seconds, "done": done}


if __name__ == "__main__":
    for answer in answers(*sys.argv[1:3]):
        print(json.dumps(answer), flush=True)
