"""A master dies under load: callers notice nothing, an open breaker stays open, no epoch is given twice."""

from __future__ import annotations

import signal
import threading
import time
from itertools import pairwise

import pytest

from regrow.breakers import show
from regrow.breakers.redis_store import state_key
from regrow.breakers.service import CircuitBreaker
from regrow.redis import connect
from tests.breakers.test_outages import Load, fails
from tests.waiting import eventually


class Watch:
    """What one process shows of its breakers, a thousand times a second."""

    def __init__(self, *breakers):
        self.seen = {breaker: [] for breaker in breakers}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self):
        while not self._stop.wait(0.001):
            for breaker, seen in self.seen.items():
                seen.append((breaker.state, breaker.epoch))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)

    def states(self, breaker):
        return {state for state, _ in self.seen[breaker]}

    def goes_back(self, breaker):
        return any(after < before for (_, before), (_, after) in pairwise(self.seen[breaker]))


def show_at(url, name):
    with connect(url, socket_timeout=1, connect_timeout=1) as client:
        return show(client, name)


@pytest.fixture
def fleet(request, kind):
    """A URL, the master that keeps ``payments``, and what detaches its replica."""
    server = request.getfixturevalue(f"own_{kind}")
    if kind == "sentinel":
        return server.url, server.master, lambda: server.replica.ask("REPLICAOF", "127.0.0.1", 1)
    return server.url, server.serving(state_key("payments")), lambda: None


@pytest.mark.parametrize(
    ("kind", "outage"), [("sentinel", "killed"), ("sentinel", "frozen"), ("cluster", "killed")]
)
def test_a_master_is_lost_under_load(fleet, make_reporter, outage):
    url, master, detach_replica = fleet
    one, other = make_reporter(url), make_reporter(url)
    payments = CircuitBreaker(
        "payments", reporter=one, failure_threshold=1000, failure_rate=1.0, window_size=10**6
    )
    orders, elsewhere = (CircuitBreaker("orders", reporter=reporter) for reporter in (one, other))
    for breaker in (payments, orders, elsewhere):
        breaker.call(int)
        eventually(lambda: breaker._cell.fleet, 5)  # noqa: B023
    detach_replica()  # so that what comes now is not what the new master will know
    fails(elsewhere)
    eventually(lambda: orders.state == elsewhere.state == "open", 5)
    epoch = orders.epoch
    with Load(payments) as load, Watch(payments, orders, elsewhere) as watch:
        master.signal(signal.SIGKILL if outage == "killed" else signal.SIGSTOP)
        eventually(lambda: one.local, 10)
        if outage == "frozen":  # who has not noticed would go on with it when it wakes up
            eventually(lambda: other.local, 10)
        eventually(lambda: not one.local and not other.local, 30)
        eventually(lambda: show_at(url, "orders").state == "open", 10)
        before = show_at(url, "payments").successes
        eventually(lambda: show_at(url, "payments").successes > before, 10)
        assert show_at(url, "orders").epoch >= epoch
        if outage == "frozen":  # it wakes up and takes itself for the master; nobody here asks it
            master.signal(signal.SIGCONT)
            eventually(lambda: "'role': 'master'" in master.ask("INFO", "replication"), 5)
            eventually(lambda: show_at(url, "payments").successes > before + 100, 10)
    assert load.foreign == []
    assert load.refused == 0
    assert not load.waited_for_redis
    assert watch.states(payments) == {"closed"}
    assert watch.states(orders) == watch.states(elsewhere) == {"open"}
    assert not any(watch.goes_back(breaker) for breaker in (payments, orders, elsewhere))
    elsewhere.reset(actor="ann")
    eventually(lambda: orders.state == "closed", 5)
    assert orders.epoch > epoch
    assert orders.epoch >= time.time() * 1000 - 60_000
