"""Eight real processes, each a host, in front of a service that fails and gets well again."""

from __future__ import annotations

import contextlib

import pytest

from regrow.breakers import show
from tests.breakers.callers import run
from tests.waiting import eventually

PROCESSES = 8

# The service keeps its books in Redis: what it was asked while it was down, and by how many probes at once.
CALLS = """
    import redis
    books = redis.Redis.from_url(os.environ["REGROW_REDIS_URL"])
    breaker = regrow.CircuitBreaker(
        "payments", failure_threshold=5, recovery_timeout=1, success_threshold=3, half_open_max_calls=1
    )

    def ask(is_probe):
        if is_probe:
            books.rpush("probes", books.incr("probing"))
            time.sleep(0.05)
            books.decr("probing")
        if books.exists("down"):
            books.incr("leaked-by-probes" if is_probe else "leaked")
            raise OSError("down")
        books.incr("answered")

    print("begun", flush=True)
    while True:
        try:
            with breaker.admit() as permit:
                ask(permit.is_probe)
        except OSError:
            pass
        except regrow.CircuitOpenError:
            books.hincrby("refused", os.environ["REGROW_REPORTER"], 1)
        time.sleep(0.01)
    """


@pytest.fixture
def fleet(redis_url, monkeypatch):
    processes = []
    for number in range(PROCESSES):
        monkeypatch.setenv("REGROW_REPORTER", f"web-{number}")
        processes.append(run(CALLS, redis_url))
    for process in processes:
        assert process.stdout.readline() == "begun\n"
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        process.stdout.close()


def test_few_calls_leak_one_probe_at_a_time_finds_out_and_all_come_back(fleet, client):
    def booked(key):
        return int(client.get(key) or 0)

    eventually(lambda: booked("answered") > 20 * PROCESSES, 30)
    client.set("down", 1)
    eventually(lambda: client.hlen("refused") == PROCESSES, 30, what="every process refuses")
    leaked = booked("leaked")
    # 8 x 100 calls a second: so many fail in a quarter of a second. At rest it is about 20 (docs/benchmarks.md).
    assert 5 <= leaked <= 200
    eventually(lambda: booked("leaked-by-probes") >= 2, 30, what="it stays down, and is found so")
    assert booked("leaked") == leaked, "once all refuse, probes alone are failed calls"
    client.delete("down")
    eventually(lambda: show(client, "payments").state == "closed", 30)
    answered = booked("answered")
    eventually(
        lambda: booked("answered") > answered + 5 * PROCESSES, 30, what="all calls are let through again"
    )
    probes = [int(at_once) for at_once in client.lrange("probes", 0, -1)]
    assert set(probes) == {1}
    assert len(probes) >= booked("leaked-by-probes") + 3
