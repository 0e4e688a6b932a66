"""A retry budget that a fleet shares."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

import regrow
from regrow.breakers import process as this_process
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.reporter import Reporter
from regrow.retries.shared import LOAN, Account, claimed, granted, spent
from tests.waiting import eventually


class TestTheRule:
    """Retries made are those granted, and at most one more, which is told with the next exchange."""

    @given(st.lists(st.one_of(st.just("want"), st.integers(0, 5)), max_size=60))
    def test_nothing_is_spent_that_is_neither_granted_nor_told(self, events):
        account, made, given_out, told = Account(), 0, 0, 0
        for event in events:
            if event == "want":
                account, paid = spent(account)
                made += paid
            else:
                account, claim = claimed(account)
                told += claim.lent
                given_out += min(event, claim.ask) - claim.back
                account = granted(account, min(event, claim.ask), left=float(event))
            assert account.lent <= LOAN
            assert made == given_out + told + account.lent - account.hand
            assert account.hand >= 0

    def test_who_heard_that_nothing_is_left_lends_itself_nothing(self):
        broke = granted(Account(), 0, left=-1.0)
        assert spent(broke)[1] is False
        assert spent(granted(broke, 0, left=1.0))[1] is True

    def test_what_was_not_needed_is_given_back(self):
        holding = granted(Account(), 4, left=2.0)
        _rest, claim = claimed(holding)
        assert (claim.back, claim.ask) == (4, 0)


@pytest.fixture
def on_redis(redis_url, monkeypatch):
    """This process's reporter on this Redis."""

    def use(url=redis_url):
        monkeypatch.setenv("REGROW_REDIS_URL", url)
        reporter = Reporter(RedisStore.from_url(url))
        monkeypatch.setattr(this_process, "_reporter", reporter)
        made.append(reporter)
        return reporter

    made = []
    yield use
    for reporter in made:
        reporter.close()


def tokens(url, name="payments"):
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return float(client.hget(f"regrow:{{retries:{name}}}:budget", "tokens") or "nan")


CALLER = """
    import json, sys, time
    import regrow
    budget = regrow.RetryBudget(0.1, name="payments", per_second=0.0, burst=5)
    sys.stdin.readline()
    calls = retries = 0
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        budget.call()
        calls += 1
        retries += budget.spend()
        time.sleep(0.002)
    print(json.dumps([calls, retries]))
"""


def test_a_fleet_of_real_processes_keeps_to_one_budget(redis_url):
    fleet = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CALLER)],
            env={**os.environ, "REGROW_REDIS_URL": redis_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    for process in fleet:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate(timeout=30)[0]) for process in fleet]
    calls, retries = (sum(column) for column in zip(*told, strict=True))
    granted_by_the_rule = 5 + 0.1 * calls
    assert retries <= granted_by_the_rule + len(fleet), "one lent a process, and no more"
    assert retries >= 0.6 * granted_by_the_rule, "and what there is can be had"
    assert calls > len(fleet)


def test_callers_never_talk_to_redis_and_a_fork_goes_on_by_itself(on_redis, redis_url):
    reporter = on_redis()
    budget = regrow.RetryBudget(0.5, name="payments", per_second=0, burst=4)
    asked = []
    exchange = budget._shared._exchange

    def watched(claim):
        asked.append(threading.current_thread().name)
        return exchange(claim)

    budget._shared._exchange = watched
    for _ in range(6):
        budget.call()
        budget.spend()
    eventually(lambda: tokens(redis_url) >= 0, 10)
    eventually(lambda: reporter.idle, 10)
    assert set(asked) == {"regrow-breakers"}
    pid = os.fork()
    if pid == 0:
        made = budget.spend()  # its own first one, whatever the parent holds
        budget._shared.ride()
        os._exit(0 if made else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_without_redis_and_while_it_is_away_each_process_keeps_to_it_by_itself(
    on_redis, own_redis, monkeypatch
):
    monkeypatch.delenv("REGROW_REDIS_URL", raising=False)
    alone = regrow.RetryBudget(0, name="payments", per_second=0, burst=3)
    assert [alone.spend() for _ in range(4)] == [True, True, True, False]

    on_redis(own_redis.url)
    budget = regrow.RetryBudget(0, name="payments", per_second=0, burst=3)
    budget.call()
    eventually(lambda: tokens(own_redis.url) == 3, 10)
    own_redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert budget.spend(), "lent, and nobody waits"
    eventually(lambda: budget._shared.alone, 10)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    assert time.monotonic() - began < 5
    own_redis.signal(signal.SIGCONT)
    eventually(lambda: budget.call() or not budget._shared.alone, 10)
    eventually(lambda: tokens(own_redis.url) <= 2, 10, what="what was lent is paid, perhaps twice")


def test_the_balance_grows_with_time_up_to_the_burst_and_is_paid_back_first(on_redis, redis_url):
    reporter = on_redis()
    budget = regrow.RetryBudget(0, name="payments", per_second=20, burst=2)
    with redis.Redis.from_url(redis_url) as client:
        client.hset("regrow:{retries:payments}:budget", mapping={"tokens": -3, "at": 0})
    budget.call()
    eventually(lambda: tokens(redis_url) == 2, 5)
    reporter.close()
    assert redis.Redis.from_url(redis_url).ttl("regrow:{retries:payments}:budget") > 3600


def test_a_name_that_redis_would_stumble_over_is_refused():
    for name in ("", "a b", "{x}"):
        with pytest.raises(regrow.SettingsError, match="cannot be called"):
            regrow.RetryBudget(name=name)
