"""The retry budget: the rule as arithmetic, and what a call does when it is used up."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import CircuitOpenError, RetryBudget, SettingsError, attempts, retry, retry_http_requests
from regrow.retries.allowance import Allowance, Balance, called, retried

EVENTS = st.lists(st.tuples(st.sampled_from(["call", "retry"]), st.floats(0, 5)), max_size=200)


@given(EVENTS, st.floats(0, 1), st.floats(0, 5), st.floats(1, 20))
def test_retries_never_exceed_the_burst_the_share_and_the_seconds(events, share, per_second, burst):
    allowance = Allowance(share, per_second, burst)
    balance, now, calls, retries = Balance(burst, 0.0), 0.0, 0, 0
    for kind, pause in events:
        now += pause
        if kind == "call":
            calls += 1
            balance = called(allowance, balance, now)
        elif (left := retried(allowance, balance, now)) is not None:
            retries += 1
            balance = left
        assert 0 <= balance.tokens <= burst
    assert retries <= burst + share * calls + per_second * now + 1e-6


def test_a_clock_that_goes_back_takes_nothing_and_gives_nothing():
    allowance = Allowance(share=0, per_second=1, burst=10)
    balance = called(allowance, Balance(2.0, 100.0), 50.0)
    assert balance == Balance(2.0, 100.0)
    assert called(allowance, balance, 101.0) == Balance(3.0, 101.0)


class Down:
    def __init__(self, error=None):
        self.calls = 0
        self.error = error or ConnectionError("down")

    def __call__(self):
        self.calls += 1
        raise self.error


def budget(share=0.2, **settings):
    return RetryBudget(share, **{"per_second": 0, "burst": 1, "clock": lambda: 0.0, **settings})


def test_under_an_outage_one_call_in_five_is_retried_not_each_three_times():
    down, shared = Down(), budget()
    fetch = retry(max_retries=3, budget=shared, sleep=lambda _: None)(down.__call__)
    for _ in range(1000):
        with pytest.raises(ConnectionError):
            fetch()
    assert 1000 + 200 - 1 <= down.calls <= 1000 + 200 + 1


def test_a_call_that_cannot_pay_gets_its_error_at_once_and_is_told_why():
    spent = budget(0)
    assert spent.spend()
    slept: list[float] = []
    with pytest.raises(ConnectionError) as caught:
        retry(budget=spent, sleep=slept.append)(Down().__call__)()
    assert slept == []
    assert "the retry budget is used up" in caught.value.__notes__[0]


def test_quiet_services_may_retry_by_the_second():
    now = [0.0]
    quiet = RetryBudget(0, per_second=2, burst=1, clock=lambda: now[0])
    assert [quiet.spend(), quiet.spend()] == [True, False]
    now[0] = 0.5
    assert [quiet.spend(), quiet.spend()] == [True, False]


def test_waiting_behind_an_open_breaker_costs_nothing_because_nothing_was_called():
    empty, answers = budget(0), iter([CircuitOpenError("bank", 5.0)] * 3)
    assert empty.spend()

    def fetch():
        for refusal in answers:
            raise refusal
        return "paid"

    assert retry(budget=empty, sleep=lambda _: None)(fetch)() == "paid"


def test_every_form_of_retry_pays_from_the_same_budget():
    shared = budget(0, burst=2)
    down = Down()
    with pytest.raises(ConnectionError):
        retry_http_requests(budget=shared, sleep=lambda _: None)(down.__call__)()
    assert down.calls == 3
    blocks = Down()

    def block():
        for attempt in attempts(budget=shared, sleep=lambda _: None):
            with attempt:
                blocks()

    with pytest.raises(ConnectionError):
        block()
    assert blocks.calls == 1


def test_threads_never_spend_a_token_twice():
    shared = budget(0, burst=500)
    spent: list[bool] = []
    threads = [
        threading.Thread(target=lambda: spent.extend(shared.spend() for _ in range(200))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(spent), sum(spent)) == (1000, 500)


def test_a_forked_child_has_a_budget_of_its_own_even_if_a_thread_held_the_lock():
    shared = budget(0)
    assert shared.spend()
    with shared._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if shared.spend() and not shared.spend() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not shared.spend()


@pytest.mark.parametrize(
    ("name", "value"),
    [("share", -0.1), ("share", float("nan")), ("per_second", -1), ("burst", 0), ("burst", "10")],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name):
        RetryBudget(**{name: value})
