"""Counts of processes, added up in Redis and never twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
import redis

import regrow.configuration
from regrow.configuration import Configuration
from regrow.tallies import KEY, Tallies
from tests.servers import free_port

APPLICATION = """
import contextlib, os, regrow

bank = regrow.CircuitBreaker("bank", failure_threshold=100, failure_rate=1.0)

@regrow.retry(max_retries=2, base_delay=0.01, jitter="none")
@bank
def pay(works):
    if not works:
        raise ConnectionError

@regrow.retry(max_retries=2, base_delay=0.01, jitter="none", budget=regrow.RetryBudget(0.0, burst=1))
def poor():
    raise ConnectionError

for _ in range(20):
    pay(True)
with contextlib.suppress(ConnectionError):
    pay(False)
with contextlib.suppress(ConnectionError):
    poor()
"""


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch):
    def tell(url: str | None) -> None:
        monkeypatch.setattr(regrow.configuration, "_told", Configuration(redis_url=url))

    return tell


def kept(url: str) -> Counter[str]:
    """The counts by name, whatever their labels."""
    found: Counter[str] = Counter()
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for field, value in client.hgetall(KEY).items():
            found[json.loads(field)[0]] += int(value)
    return found


def run(url: str, ending: str = "") -> None:
    subprocess.run(
        [sys.executable, "-c", APPLICATION + ending],
        env={**os.environ, "REGROW_REDIS_URL": url},
        check=True,
        timeout=60,
    )


def test_what_processes_called_and_retried_is_added_up_at_their_end(redis_url):
    run(redis_url)
    run(redis_url)
    found = kept(redis_url)
    assert found["circuit_breaker_requests_total"] == 2 * 23
    assert found["circuit_breaker_failures_total"] == 2 * 3
    assert found["retry_attempts_total"] == 2 * (2 + 1)
    assert found["retry_exhausted_total"] == 2
    assert found["retry_budget_refused_total"] == 2
    assert found["retry_delay_milliseconds"] == 2 * (30 + 10)


def test_a_process_that_ends_without_exit_handlers_flushes_first(redis_url):
    run(redis_url, "regrow.breakers.flush(); os._exit(0)")
    assert kept(redis_url)["circuit_breaker_requests_total"] == 23


def test_counts_wait_for_a_redis_that_refuses_and_are_written_once(redis_url, at):
    tallies = Tallies()
    at(f"redis://127.0.0.1:{free_port()}/0")
    tallies.count("tried", 2)
    tallies.flush()
    tallies.count("tried", 3)
    at(redis_url)
    tallies.flush()
    tallies.flush()
    assert kept(redis_url) == {"tried": 5}


def test_a_forked_child_does_not_tell_what_its_parent_counted(redis_url, at):
    at(redis_url)
    tallies = Tallies()
    tallies.count("mine")
    with tallies._lock:
        child = os.fork()
        if child == 0:
            tallies.after_fork()
            tallies.count("yours")
            tallies.flush()
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    tallies.flush()
    assert kept(redis_url) == {"mine": 1, "yours": 1}


def test_without_redis_nothing_is_kept(at):
    at(None)
    tallies = Tallies()
    tallies.count("tried")
    assert not tallies._counts
    assert tallies._thread is None
