"""A report holds the rows of some checks at a time, never those of all: more checks take no more memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.database.tables import check_results
from regrow.engine import Engine
from regrow.reports import measures
from regrow.slo import store
from regrow.slo.ledger import Sample

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EDGES = [NOON - HOUR, NOON]


def fill(engine: Engine, first: int, last: int) -> None:
    """An hour of results that change every few minutes, so that none is told by sums alone."""
    rows = [
        {
            "check_name": f"check-{number:03}",
            "at": NOON - timedelta(minutes=minute),
            "status": "healthy" if (number + minute) % 9 else "unhealthy",
            "latency": 0.01,
            "interval": 60.0,
            "message": "seen",
            "data": {},
        }
        for number in range(first, last)
        for minute in range(1, 61)
    ]
    with engine.database.transaction() as connection:
        connection.execute(sa.insert(check_results), rows)


class Held(Sample):
    """A result that counts itself as long as somebody holds it."""

    now = most = made = 0

    def __init__(self, *told: Any) -> None:
        super().__init__(*told)
        Held.made += 1
        Held.now += 1
        Held.most = max(Held.most, Held.now)

    def __del__(self) -> None:
        Held.now -= 1


def test_a_report_of_many_checks_holds_the_results_of_some_at_a_time(
    make_settings: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "AT_ONCE", 10)
    monkeypatch.setattr(store, "Sample", Held)
    engine = Engine(make_settings(database_url=sqlite_url), clock=lambda: NOON + timedelta(minutes=2))
    engine.database.upgrade()
    fill(engine, 0, 60)
    found = measures.read(engine, NOON - HOUR, NOON, EDGES)
    assert sum(one.account.probes for one in found.checks) == 60 * 60
    assert Held.made >= 60 * 60
    assert Held.most <= 3 * 10 * 60, "those of two readings of ten checks, and a few before their hour"
    assert Held.now == 0, "and the report itself holds none"
    engine.close()
