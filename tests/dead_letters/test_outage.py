"""Ten minutes of outage with 2,000 letters for one service (`make proof` plays it with 20,000)."""

from __future__ import annotations

from regrow.engine import Engine
from tests.dead_letters import outage
from tests.dead_letters.conftest import Clock, Post

PRODUCTION = {
    "REGROW_PROFILE": "production",
    "REGROW_DEAD_LETTERS__RATE": "100",
    "REGROW_DEAD_LETTERS__BURST": "20",
}


def test_an_outage_costs_no_attempt_parks_nothing_and_is_drained_below_the_rate(
    make_settings, sqlite_url: str, clock: Clock, post: Post
) -> None:
    engine = Engine(make_settings(database_url=sqlite_url, **PRODUCTION), sender=post, clock=clock)
    engine.database.upgrade()
    seen = outage.play(engine, clock, post, 2_000, live=60, capacity=120)
    engine.close()
    assert (seen.leased_while_open, seen.burnt, seen.parked, seen.resolved) == (0, 0, 0, 2_000)
    assert seen.refused == 0
    for seconds in (1, 10, 60):
        assert seen.most_in(seconds) <= 100 * seconds + 20
    first = sum(n for at, n in seen.sent.items() if at < seen.closed_at + 10)
    assert 0 < first <= 10 * 25 + 20, "a tenth of the rate at first, a quarter after ten seconds"
    assert seen.usual_wait() <= 0.5, "live traffic does not queue behind letters"
    assert seen.longest_wait() <= 2.0
