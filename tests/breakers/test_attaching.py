"""Breakers that exist go over to another store, which hears nothing of what the one before said."""

from __future__ import annotations

import gc

import pytest

from regrow.breakers.reporter import Reporter
from regrow.breakers.rules import BreakerConfig, Look, Order, OrderKind
from regrow.breakers.service import CircuitBreaker
from regrow.breakers.store import MemoryStore
from regrow.errors import StoreUnavailableError

NAMES = ("first", "second")


class Fleet(MemoryStore):
    """A store that several processes share, as if over a network."""

    remote = True


class Turn:
    """A lock that another thread was faster to take, and has let go."""

    def __init__(self, lock, meanwhile):
        self._lock, self._meanwhile = lock, meanwhile

    def __enter__(self):
        self._meanwhile()
        return self._lock.__enter__()

    def __exit__(self, *error):
        return self._lock.__exit__(*error)

    def locked(self):
        return self._lock.locked()


@pytest.fixture
def reporter(monkeypatch):
    monkeypatch.setattr(Reporter, "_start", lambda _: None)  # turns are taken here
    return Reporter(Fleet())


@pytest.fixture
def cells(reporter):
    """Two breakers that a person has forced open in the store of before."""
    made = [CircuitBreaker(name, reporter=reporter)._cell for name in NAMES]
    for name in NAMES:
        reporter.remote.apply(name, BreakerConfig(), Order(OrderKind.FORCE_OPEN, "ann", "of before"))
    return made


def told(reporter, cells):
    """The overrides in the new store, once the breakers have spoken to it."""
    for cell in cells:
        reporter._turn_safely(cell)
    return [reporter.remote.apply(name, None, Look()).breaker.override for name in NAMES]


def test_a_turn_in_the_middle_of_it_tells_the_new_store_nothing_of_the_old_one(reporter, cells):
    first, second = cells

    def turn():
        if not first.turn.locked():
            reporter._turn_safely(first)

    second.turn = Turn(second.turn, turn)
    reporter.attach(Fleet())
    assert told(reporter, cells) == [None, None]


def test_what_was_gathered_goes_to_the_store_of_before(reporter):
    breakers = [CircuitBreaker(name, reporter=reporter) for name in NAMES]
    for breaker in breakers:
        reporter._turn_safely(breaker._cell)
        breaker.call(int)
    before = reporter.remote
    reporter.attach(Fleet())
    assert [before.apply(name, None, Look()).breaker.successes for name in NAMES] == [1, 1]
    assert [breaker._cell.untold for breaker in breakers] == [0, 0]


def test_what_the_store_of_before_did_not_take_is_said_to_be_lost(reporter, monkeypatch, caplog):
    breaker = CircuitBreaker("first", reporter=reporter)
    reporter._turn_safely(breaker._cell)

    def away(*_):
        raise StoreUnavailableError("away")

    monkeypatch.setattr(reporter.remote, "apply", away)
    for _ in range(3):
        breaker.call(int)
    with caplog.at_level("WARNING", "regrow.breakers"):
        reporter.attach(Fleet())
    lost = [line for line in caplog.records if line.message == "breakers.outcomes_lost"]
    assert [line.calls for line in lost] == [3]


def test_a_key_that_was_let_go_and_is_made_anew_counts_all_the_same(reporter):
    parent = CircuitBreaker("payments", reporter=reporter)
    for _ in range(3):
        tenant = parent.for_key("tenant")
        reporter._turn_safely(tenant._cell)
        tenant.call(int)
        reporter._turn_safely(tenant._cell)
        parent._keys._kept.clear()
        del tenant
        gc.collect()
        reporter._drop_released()
        assert "payments:tenant" not in reporter.known()
    assert reporter.remote.apply("payments:tenant", None, Look()).breaker.successes == 3


def test_a_trip_for_many_that_waited_for_it_goes_to_the_new_store(reporter, cells):
    first, _ = cells
    stores = [Fleet()]

    def attach():
        if stores:
            reporter.attach(stores.pop())

    first.turn = Turn(first.turn, attach)
    reporter._send_ahead(cells)
    assert told(reporter, cells) == [None, None]
