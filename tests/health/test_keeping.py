"""States and changes outlive restarts, an emptied Redis and either store's outage; a change is written once."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.engine import Engine
from regrow.health import service
from regrow.health.keeping import keep, live_results
from regrow.health.rules import Declared, Result
from regrow.health.states import STATES, UNTOLD, KeptStates, LiveStates
from regrow.health.store import HISTORY, KeptResults

GRAPH = {
    "db": Declared("db", "tcp", 30.0, 5.0, failures=3, successes=2),
    "app": Declared("app", "tcp", 30.0, 5.0, failures=3, successes=2, depends_on=("db",)),
}


class Watched:
    """A check that is probed every 30 s of an engine's own time."""

    def __init__(self, engine, name="db"):
        self.engine, self.name, self.at = engine, name, engine.clock()

    def finds(self, *statuses, engine=None):
        """One sweep for each; the changes they made."""
        told = []
        for status in statuses:
            self.at += timedelta(seconds=30)
            result = Result(self.name, status, f"was {status}", 0.01, self.at, 30.0)
            told += keep(engine or self.engine, [result], GRAPH).changes
        return [change.to_status for change in told]


def rows(engine, name="db"):
    kept = reversed(service.changes(engine, check=name))
    return [(row.change.number, row.change.from_status, row.change.to_status) for row in kept]


UP_AND_DOWN = [(1, "unknown", "healthy"), (2, "healthy", "unhealthy")]


def test_a_confirmed_change_is_a_row_and_what_is_not_confirmed_is_none(each_engine):
    watched = Watched(each_engine)
    assert watched.finds("healthy", "unhealthy", "unhealthy") == ["healthy"]
    assert rows(each_engine) == UP_AND_DOWN[:1]
    assert watched.finds("unhealthy") == ["unhealthy"]
    assert rows(each_engine) == UP_AND_DOWN
    (last, _) = service.changes(each_engine, check="db")
    assert last.change.began == watched.at - timedelta(seconds=60)
    state = service.states(each_engine)["db"]
    assert (state.status, state.since, state.number) == ("unhealthy", watched.at, 2)
    assert KeptStates(each_engine.database).read() == LiveStates(each_engine.redis).read()


def test_results_of_several_checks_in_one_batch_each_go_to_their_own_history(each_engine):
    first, second = (each_engine.clock() + timedelta(seconds=30 * n) for n in range(2))
    batch = [
        Result(name, "healthy", f"{name} % 'at' {at.isoformat()}", 0.01, at, 30.0)
        for at in (first, second)
        for name in GRAPH
    ]
    assert keep(each_engine, batch, GRAPH).not_written == {}
    live = live_results(each_engine)
    assert live.latest() == {result.check: result for result in batch[2:]}
    for name in GRAPH:
        told = [result for result in reversed(batch) if result.check == name]
        assert live.history(name, 10) == told == KeptResults(each_engine.database).history(name, 10)
        assert 0 < each_engine.redis.ttl(HISTORY + name) <= 86_400 * 3
    assert keep(each_engine, batch, GRAPH).changes == [], "kept already"


def test_an_emptied_redis_costs_no_result_in_the_row(each_engine):
    watched = Watched(each_engine)
    watched.finds("healthy", "unhealthy", "unhealthy")
    each_engine.redis.flushdb()
    assert service.states(each_engine)["db"].status == "healthy"
    assert watched.finds("unhealthy") == ["unhealthy"]
    assert LiveStates(each_engine.redis).read()["db"].number == 2


def test_a_redis_that_came_back_with_old_data_does_not_set_the_database_back(engine):
    watched = Watched(engine)
    watched.finds("healthy")
    old = engine.redis.hgetall(STATES)
    watched.finds("unhealthy", "unhealthy", "unhealthy")
    engine.redis.hset(STATES, mapping=old)
    assert watched.finds("unhealthy") == []
    assert rows(engine) == UP_AND_DOWN
    assert service.states(engine)["db"].status == "unhealthy"


def test_what_is_confirmed_is_as_new_as_the_last_result_when_redis_came_back_with_old_data(engine):
    watched = Watched(engine)
    watched.finds("healthy")
    old = engine.redis.hgetall(STATES)
    watched.finds("unhealthy", "unhealthy", "unhealthy")
    engine.redis.hset(STATES, mapping=old)
    last = Result("db", "unhealthy", "was unhealthy", 0.01, watched.at, 30.0)
    assert service.states(engine, {"db": last})["db"].status == "unhealthy"


def test_while_redis_is_away_the_database_goes_on_alone(own_redis, make_settings, sqlite_url):
    engine = Engine(make_settings(own_redis.url, sqlite_url))
    engine.database.upgrade()
    watched = Watched(engine)
    watched.finds("healthy", "unhealthy")
    own_redis.kill()
    assert watched.finds("unhealthy", "unhealthy") == ["unhealthy"]
    assert rows(engine) == UP_AND_DOWN
    own_redis.start()
    assert watched.finds("healthy", "healthy") == ["healthy"]
    assert service.states(engine)["db"].number == 3
    engine.close()


@pytest.fixture
def away(tmp_path, make_settings, redis_url):
    """An engine whose database does not answer, on the Redis of ``engine``."""
    engine = Engine(make_settings(redis_url, f"sqlite:///{tmp_path / 'nothing' / '.'}/"))
    yield engine
    engine.close()


def test_changes_of_a_database_outage_wait_in_redis_and_are_written_once_it_is_back(engine, away):
    watched = Watched(engine)
    watched.finds("healthy")
    assert watched.finds(*["unhealthy"] * 3, engine=away) == ["unhealthy"]
    assert service.states(away)["db"].status == "unhealthy"
    assert rows(engine) == UP_AND_DOWN[:1]
    waiting = engine.redis.lrange(UNTOLD, 0, -1)
    assert len(waiting) == 1
    watched.finds("unhealthy")
    assert rows(engine) == UP_AND_DOWN
    assert engine.redis.llen(UNTOLD) == 0
    # The worker died before it could forget them: they come again, and change nothing.
    engine.redis.rpush(UNTOLD, *waiting, "junk")
    watched.finds("unhealthy")
    assert rows(engine) == UP_AND_DOWN
    assert engine.redis.llen(UNTOLD) == 0


def test_what_an_emptied_redis_began_anew_in_an_outage_of_the_database_gives_way_to_it(engine, away):
    watched = Watched(engine)
    watched.finds("healthy", *["unhealthy"] * 3, *["healthy"] * 2)
    before = rows(engine)
    assert len(before) == 3
    engine.redis.flushdb()
    watched.finds("unhealthy", engine=away)
    watched.finds("healthy")
    assert rows(engine) == before
    assert service.states(engine)["db"].status == "healthy"


def test_with_both_stores_away_nothing_is_kept_and_nothing_is_told_twice_later(
    engine, make_settings, tmp_path
):
    watched = Watched(engine)
    watched.finds("healthy")
    nowhere = Engine(make_settings("redis://127.0.0.1:1/0", f"sqlite:///{tmp_path / 'nothing' / '.'}/"))
    result = Result("db", "unhealthy", "", 0.0, watched.at + timedelta(seconds=1), 30.0)
    assert set(keep(nowhere, [result], GRAPH).not_written) == {"redis", "database"}
    watched.finds(*["unhealthy"] * 3)
    assert rows(engine) == UP_AND_DOWN
    nowhere.close()


def test_a_child_that_goes_down_with_its_parent_names_it_even_before_that_is_confirmed(engine):
    parent, child = Watched(engine), Watched(engine, "app")
    parent.finds("healthy")
    child.finds("healthy", "unhealthy", "unhealthy")
    parent.finds("unhealthy")
    assert child.finds("unhealthy") == ["unhealthy"]
    (last, *_) = service.changes(engine, check="app")
    assert last.change.cause == "db"


def test_two_workers_that_probed_the_same_check_make_one_change(each_engine, make_settings):
    """Without Redis nobody can claim a check: both probe it, and both write."""
    watched = Watched(each_engine)
    watched.finds("healthy", "unhealthy", "unhealthy")
    at = watched.at + timedelta(seconds=30)
    for _ in range(2):
        keep(each_engine, [Result("db", "unhealthy", "", 0.01, at, 30.0)], GRAPH)
        at += timedelta(microseconds=7)
    assert rows(each_engine) == UP_AND_DOWN


def test_states_of_checks_that_nobody_declares_any_more_are_left_out_of_the_overview(engine):
    Watched(engine, "db").finds("healthy")
    assert "db" not in {check.name for check in service.overview(engine).checks}


def test_redis_forgets_checks_that_are_gone_for_as_long_as_results_are_kept(engine):
    days = engine.settings.health.retention_days
    now = engine.clock()
    for name, ago in (("disk", days + 1), ("gone", days + 1), ("out-for-a-while", days - 1)):
        at = now - timedelta(days=ago)
        keep(engine, [Result(name, "healthy", "", 0.01, at, 30.0)], {name: Declared(name, "tcp", 30.0, 5.0)})
    service.run_of_minute(engine)
    for live in (live_results(engine).latest(), LiveStates(engine.redis).read()):
        assert {"disk", "out-for-a-while"} <= set(live)
        assert "gone" not in live


def test_changes_are_read_newest_first_or_on_from_an_id(engine):
    Watched(engine).finds("healthy", *["unhealthy"] * 3, *["healthy"] * 2)
    newest = service.changes(engine, limit=2)
    assert [row.change.number for row in newest] == [3, 2]
    assert [row.change.number for row in service.changes(engine, after=newest[1].id - 1)] == [2, 3]
    assert service.changes(engine, since=newest[0].change.at + timedelta(seconds=1)) == []
    with engine.database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM check_changes"))
    assert service.changes(engine) == []
