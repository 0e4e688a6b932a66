"""Keepers of failed messages side by side, each in a process of its own: ours, and what people use.

``python -m benchmarks.peers.keepers NAME URL`` prints ``ready``, then takes a number of letters a line on its
input, does its work on so many and answers with one line of JSON: ``seconds`` and ``done``, or ``missing`` with
the reason why it cannot be measured here.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
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


def bare_bookkeeping(_url: str) -> Work:
    """The floor of :func:`bookkeeping`: its rows changed by the driver alone, in the fewest statements. It fences
    nothing off, tells no log and no counter, and trusts that nobody else settles what it has leased."""
    import pymysql
    from sqlalchemy.engine import make_url

    url = make_url(os.environ["REGROW_DATABASE_URL"])
    connection = pymysql.connect(host=url.host, port=url.port, user=url.username, database=url.database)
    cursor = connection.cursor()
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def lease() -> list[tuple[str, str]]:
        batch = f"{secrets.token_hex(9)}-"
        cursor.execute(_BARE["candidates"])
        ids = [row[0] for row in cursor.fetchall()]
        if ids:
            cursor.execute(_BARE["attempts"], (batch, ids))
            cursor.execute(_BARE["lease"], (batch, ids))
        connection.commit()
        return [(one, batch + one[19:]) for one in ids]

    def settle(leased: list[tuple[str, str]]) -> None:
        ids, tokens = zip(*leased, strict=True)
        cursor.execute(_BARE["locked"], (ids,))
        cursor.fetchall()
        cursor.execute(_BARE["resolve"], (ids,))
        cursor.execute(_BARE["end"], (tokens,))
        cursor.execute(_BARE["book"], (len(ids),))
        connection.commit()

    def work(count: int) -> tuple[float, int]:
        done, began = 0, time.perf_counter()
        while done < count and (leased := lease()):
            settle(leased)
            done += len(leased)
        return time.perf_counter() - began, done

    return work


_BARE = {
    "candidates": (
        "SELECT STRAIGHT_JOIN l.id, l.task, l.queue, b.headers, b.body FROM dead_letters l"
        " FORCE INDEX (ix_dead_letters_service_state_rank_id)"
        " JOIN dead_letter_bodies b ON b.letter_id = l.id WHERE l.service = 'bank' AND l.state = 'pending'"
        " AND l.`rank` <= UTC_TIMESTAMP() ORDER BY l.`rank`, l.id LIMIT 200 FOR UPDATE SKIP LOCKED"
    ),
    "attempts": (
        "INSERT INTO dead_letter_attempts (token, letter_id, owner, leased_at, service)"
        " SELECT CONCAT(%s, SUBSTR(id, 20)), id, 'bench', UTC_TIMESTAMP(6), service"
        " FROM dead_letters WHERE id IN %s"
    ),
    "lease": (
        "UPDATE dead_letters SET state = 'leased', lease_token = CONCAT(%s, SUBSTR(id, 20)),"
        " lease_owner = 'bench', lease_until = UTC_TIMESTAMP(6) + INTERVAL 60 SECOND WHERE id IN %s"
    ),
    "locked": "SELECT id, state FROM dead_letters WHERE id IN %s FOR UPDATE",
    "resolve": (
        "UPDATE dead_letters SET state = 'resolved', settled_at = UTC_TIMESTAMP(6),"
        " lease_token = NULL, lease_owner = NULL, lease_until = NULL WHERE id IN %s"
    ),
    "end": (
        "UPDATE dead_letter_attempts SET ended_at = UTC_TIMESTAMP(6), outcome = 'succeeded' WHERE token IN %s"
    ),
    "book": (
        "INSERT INTO ledger_deltas (service, accepted, resolved, discarded, purged) VALUES ('bank', 0, %s, 0, 0)"
    ),
}


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
    "bare_bookkeeping": bare_bookkeeping,
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
