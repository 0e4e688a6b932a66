"""A run of the health job: what is due runs once, results are in both stores, and nobody shows what is old."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
import structlog

from regrow import jobs
from regrow.database.tables import check_results
from regrow.engine import Engine, set_engine
from regrow.errors import CheckNotFoundError, StoreUnavailableError
from regrow.health import rules, service
from regrow.health.keeping import live_results
from regrow.health.rules import Result
from regrow.health.store import CLAIM, HISTORY, KeptResults, LiveResults
from tasks.health import health_check_monitoring, run_due_checks
from tests.servers import free_port
from tests.shipped import CHECKS, switched_off


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes a regrow.toml whose checks are these alone; returns the environment that names it."""

    def write(text="", **kinds):
        file = tmp_path / "regrow.toml"
        own = "".join(f"[health.checks.{name}]\n{body}\n" for name, body in kinds.items())
        file.write_text(f"{switched_off(but=kinds)}\n{own}\n{text}")
        return {"REGROW_CONFIG": str(file)}

    return write


@pytest.fixture
def make_engine(make_settings):
    made = []

    def make(*args, **environ):
        engine = Engine(make_settings(*args, **environ))
        engine.database.upgrade()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


def rows(engine):
    with engine.database.snapshot() as connection:
        return connection.execute(sa.select(check_results).order_by(check_results.c.id)).mappings().all()


def later(engine, seconds):
    """Lets this engine's clock run ahead."""
    before = engine.clock
    engine.clock = lambda: before() + timedelta(seconds=seconds)


def tcp(port, **more):
    lines = {"kind": '"tcp"', "host": '"127.0.0.1"', "port": port, "timeout": 1.0, **more}
    return "\n".join(f"{key} = {value}" for key, value in lines.items())


class Listener:
    """A port that takes connections while it is open."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        return self

    def __exit__(self, *error):
        self.socket.close()


def test_a_run_probes_every_declared_check_and_keeps_the_results_in_both_stores(each_engine):
    summary = service.run_due(each_engine)
    names = set(CHECKS)
    assert summary["ran"] == summary["checks"] == len(names)
    assert (summary["not_written"], summary["postponed"]) == ({}, [])
    assert service.outcome_of(summary) == "succeeded"
    assert {row["check_name"] for row in rows(each_engine)} == names
    overview = service.overview(each_engine)
    assert {check.name: check.status for check in overview.checks}["redis"] == "healthy"
    assert {check.name for check in overview.checks} == names
    assert sum(summary[status] for status in ("healthy", "degraded", "unhealthy", "unknown")) == len(names)


def test_a_check_that_is_not_due_does_not_run_again_unless_forced(engine):
    assert service.run_due(engine)["ran"] == len(CHECKS)
    assert service.run_due(engine)["ran"] == 0
    assert service.run_due(engine, force=True)["ran"] == len(CHECKS)


def test_two_workers_at_the_same_time_run_each_check_once(config, make_engine, redis_url):
    environ = config(**{f"port-{n}": tcp(free_port(), interval=10.0) for n in range(12)})
    engines = [make_engine(redis_url, **environ) for _ in range(4)]
    start = threading.Barrier(len(engines))
    ran = []

    def work(engine):
        start.wait()
        ran.append(service.run_due(engine)["ran"])

    threads = [threading.Thread(target=work, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(ran) == 12
    assert set(Counter(row["check_name"] for row in rows(engines[0])).values()) == {1}


def test_a_parent_in_doubt_is_looked_at_by_one_worker_and_by_none_while_it_is_probed(
    config, make_engine, redis_url
):
    with Listener() as parent:
        child = tcp(free_port(), interval=600.0, depends_on='["parent"]')
        environ = config(parent=tcp(parent.port, interval=600.0), child=child)
        engines = [make_engine(redis_url, **environ) for _ in range(4)]
        one = engines[0]
        probe_again = [Result("child", "unhealthy", "", 0.01, one.clock() + timedelta(seconds=1), 600.0)]
        assert service.run_due(one)["ran"] == 2
        live_results(one).write(probe_again)  # the child has failed since its parent was looked at
        for engine in engines:
            later(engine, 2)
        one.redis.pexpire(CLAIM + "parent", 500_000)  # as if time had passed for Redis, too
        start, ran = threading.Barrier(len(engines)), []

        def work(engine):
            start.wait()
            ran.append(service.run_due(engine)["ran"])

        threads = [threading.Thread(target=work, args=(engine,)) for engine in engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(ran) == [0, 0, 0, 1]
        live_results(one).write([replace(probe_again[0], at=one.clock() + timedelta(seconds=1))])
        live_results(one).claim(
            {"parent": rules.claim_seconds(600.0)}, "a worker that probes it now", force=True
        )
        later(one, 2)
        assert service.run_due(one)["ran"] == 0


def test_the_history_is_newest_first_and_trimmed_and_the_database_has_it_all(make_engine, redis_url):
    engine = make_engine(redis_url, HEALTH_HISTORY_SIZE="3")
    for _ in range(5):
        service.run_due(engine, force=True)
    live = service.history(engine, "disk")
    assert len(live) == engine.redis.llen(HISTORY + "disk") == 3
    assert [result.at for result in live] == sorted((result.at for result in live), reverse=True)
    engine.redis.flushdb()
    assert service.history(engine, "disk") == [*KeptResults(engine.database).history("disk", 3)]
    assert len(KeptResults(engine.database).history("disk", 100)) == 5
    with pytest.raises(CheckNotFoundError):
        service.history(engine, "nothing")


def test_with_redis_away_the_database_has_the_results_and_the_run_is_partial(own_redis, make_engine):
    engine = make_engine(own_redis.url)
    own_redis.kill()
    summary = service.run_due(engine)
    assert summary["ran"] == len(CHECKS)
    assert list(summary["not_written"]) == ["redis"]
    assert service.outcome_of(summary) == "partial"
    assert len(rows(engine)) == len(CHECKS)
    overview = service.overview(engine)
    assert overview.status == "unhealthy"
    statuses = {check.name: check.status for check in overview.checks}
    assert (statuses["redis"], statuses["database"], statuses["celery-worker"]) == (
        "unhealthy",
        "healthy",
        "unknown",
    )
    assert service.history(engine, "redis")[0].status == "unhealthy"
    # What ran a moment ago is not due, though nobody can claim it.
    assert service.run_due(engine)["ran"] == 0

    own_redis.start()
    service.run_due(engine, force=True)
    assert {check.name: check.status for check in service.overview(engine).checks}["redis"] == "healthy"


def test_with_a_frozen_redis_the_run_ends_and_the_database_has_the_results(own_redis, make_engine, config):
    environ = config(redis="timeout = 1.0", disk="", **{"port-a": tcp(free_port())})
    engine = make_engine(
        own_redis.url, **environ, REGROW_REDIS__SOCKET_TIMEOUT="1", REGROW_REDIS__CONNECT_TIMEOUT="1"
    )
    own_redis.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        summary = service.run_due(engine)
        assert time.monotonic() - began < 30
    finally:
        own_redis.signal(signal.SIGCONT)
    assert list(summary["not_written"]) == ["redis"]
    assert {row["check_name"]: row["status"] for row in rows(engine)}["redis"] == "unhealthy"


def test_with_the_database_away_redis_has_the_results_and_the_run_is_partial(
    own_mysql, redis_url, make_settings
):
    engine = Engine(make_settings(redis_url, own_mysql.url("regrow")))
    with sa.create_engine(own_mysql.url("mysql")).connect() as admin:
        admin.exec_driver_sql("CREATE DATABASE regrow")
    engine.database.upgrade()
    own_mysql.kill()
    summary = service.run_due(engine)
    assert list(summary["not_written"]) == ["database"]
    assert service.outcome_of(summary) == "partial"
    statuses = {check.name: check.status for check in service.overview(engine).checks}
    assert (statuses["redis"], statuses["database"]) == ("healthy", "unhealthy")

    # Redis goes as well: nothing is known, and that is what is shown.
    engine.redis.flushdb()
    overview = service.overview(engine)
    assert overview.status == "unknown"
    assert "database" in overview.message
    engine.close()


def test_with_both_stores_away_the_run_has_failed(make_settings, tmp_path):
    engine = Engine(make_settings(f"redis://127.0.0.1:{free_port()}/0"))  # tables were never made
    summary = service.run_due(engine)
    assert set(summary["not_written"]) == {"redis", "database"}
    assert service.outcome_of(summary) == "failed"
    assert service.overview(engine).status == "unknown"
    engine.close()


def test_results_grow_old_and_a_silent_monitor_is_unknown(engine):
    service.run_due(engine)
    assert service.overview(engine).status != "unknown"
    later(engine, 600)
    overview = service.overview(engine)
    assert (overview.status, overview.message[:18]) == ("unknown", "monitor silent for")
    assert {check.status for check in overview.checks} == {"unknown"}


def test_the_newer_store_is_shown_when_redis_has_old_results(engine):
    """Redis was away for a while and came back with what it had."""
    now = engine.clock()
    old = Result("disk", "unhealthy", "full", 0.1, now - timedelta(seconds=100), 2.0, {})
    new = Result("disk", "healthy", "fine", 0.1, now, 2.0, {"percent": 3})
    LiveResults(engine.redis, 10, 60).write([old])
    KeptResults(engine.database).write([old, new])
    shown = {check.name: check for check in service.overview(engine).checks}["disk"]
    assert (shown.status, shown.data) == ("healthy", {"percent": 3})


def test_junk_in_redis_is_not_shown_as_a_result(engine):
    engine.redis.hset("regrow:{health}:latest", mapping={"disk": "{}", "memory": "junk"})
    statuses = {check.name: check.status for check in service.overview(engine).checks}
    assert (statuses["disk"], statuses["memory"]) == ("unknown", "unknown")


def test_disabled_checks_are_left_out_and_a_declared_one_that_never_ran_is_unknown(
    config, make_engine, redis_url
):
    engine = make_engine(redis_url, **config(disk="", memory=""))
    LiveResults(engine.redis, 10, 60).write([Result("cpu", "healthy", "", 0, engine.clock(), 2.0, {})])
    assert [(check.name, check.status) for check in service.overview(engine).checks] == [
        ("disk", "unknown"),
        ("memory", "unknown"),
    ]


def test_a_change_is_told_once_with_both_states(config, make_engine, redis_url):
    port = free_port()
    engine = make_engine(redis_url, **config(**{"port-a": tcp(port)}))
    with structlog.testing.capture_logs() as told:
        service.run_due(engine, force=True)
        service.run_due(engine, force=True)
        later(engine, 600)
        service.run_due(engine, force=True)
    changes = [
        (entry["name"], entry["old_status"], entry["new_status"])
        for entry in told
        if entry["event"] == "check.changed"
    ]
    assert changes == [("port-a", "unknown", "unhealthy")]


def test_a_hanging_check_does_not_keep_the_others_from_the_stores(
    config, make_engine, redis_url, monkeypatch
):
    hang = threading.Event()
    from regrow.health.checks import disk

    monkeypatch.setattr(disk, "probe", lambda check, settings: hang.wait(20))
    engine = make_engine(redis_url, **config(disk="timeout = 0.5", memory=""))
    began = time.monotonic()
    summary = service.run_due(engine)
    assert time.monotonic() - began < 15
    assert (summary["ran"], summary["hanging"]) == (2, 1)
    assert {row["check_name"]: row["status"] for row in rows(engine)}["disk"] == "unhealthy"
    hang.set()


def test_old_results_are_pruned(engine):
    now = engine.clock()
    store = KeptResults(engine.database)
    ages = (1, 2, 4, 10)
    store.write([Result("disk", "healthy", "", 0, now - timedelta(days=age), 60.0, {}) for age in ages])
    assert service.prune(engine) == 2
    assert len(rows(engine)) == 2


def test_writing_the_same_result_twice_keeps_it_once(each_engine):
    result = Result("disk", "healthy", "fine", 0.5, each_engine.clock(), 60.0, {"a": [1, None]})
    store = KeptResults(each_engine.database)
    store.write([result])
    store.write([result])
    assert store.latest(["disk", "never"]) == {"disk": result}
    assert len(rows(each_engine)) == 1


class Sent:
    """A sender that keeps what it was given, or is away."""

    def __init__(self, away=False):
        self.away, self.tasks = away, []

    def send(self, task, kwargs, *, queue):
        if self.away:
            raise StoreUnavailableError("the broker is away")
        self.tasks.append((task, kwargs, queue))


@pytest.fixture
def many(config, make_engine, redis_url):
    """An engine with ten checks, which share themselves out by four."""
    ports = {f"port-{n}": tcp(free_port(), interval=10.0) for n in range(10)}
    return make_engine(redis_url, **config(**ports), REGROW_HEALTH__CHUNK_SIZE="4")


def test_many_checks_are_shared_with_other_workers_and_each_runs_once(many):
    many.sender = sent = Sent()
    summary = service.run_due(many)
    assert (summary["ran"], summary["sent"], summary["postponed"]) == (4, 6, [])
    assert {(task, queue) for task, _, queue in sent.tasks} == {("regrow.health.run_chunk", "regrow.control")}
    assert service.run_due(many)["ran"] == 0  # what was sent is claimed
    for _ in range(2):  # delivered twice: the second finds the results of the first, and probes again
        ran = [service.run_chunk(many, **kwargs)["ran"] for _, kwargs, _ in sent.tasks]
    assert ran == [3, 3]
    assert len({row["check_name"] for row in rows(many)}) == 10


def test_a_chunk_whose_claims_ran_out_or_went_to_others_is_left(many):
    many.sender = sent = Sent()
    service.run_due(many)
    (_, first, _), (_, second, _) = sent.tasks
    many.redis.delete(*(CLAIM + name for name in first["names"]))
    assert service.run_chunk(many, **first)["ran"] == 0
    service.run_due(many, force=True)
    assert service.run_chunk(many, **second)["ran"] == 0
    assert service.run_chunk(many, ["nobody"], "me")["ran"] == 0


def test_with_the_broker_away_the_tick_runs_them_all_itself(many):
    many.sender = Sent(away=True)
    summary = service.run_due(many)
    assert (summary["ran"], summary["sent"]) == (10, 0)


def test_a_parent_is_looked_at_in_the_next_tick_when_a_child_fails(config, make_engine, redis_url):
    down = free_port()
    with Listener() as up:
        environ = config(
            parent=tcp(up.port, interval=600.0),
            child=tcp(down, interval=600.0, depends_on='["parent"]'),
        )
        engine = make_engine(redis_url, **environ)
        fine = Result("parent", "healthy", "", 0.0, engine.clock(), 600.0)
        LiveResults(engine.redis, 10, 600).write([fine])
        assert service.run_due(engine)["ran"] == 1
    assert service.run_due(engine)["ran"] == 1
    statuses = {row["check_name"]: row["status"] for row in rows(engine)}
    assert statuses == {"child": "unhealthy", "parent": "unhealthy"}
    assert service.run_due(engine)["ran"] == 0


# The tasks


@pytest.fixture
def as_process_engine():
    yield set_engine
    set_engine(None)


def test_the_minutes_job_always_leaves_a_run_that_tells_what_the_ticks_found(
    make_engine, redis_url, config, as_process_engine
):
    engine = make_engine(redis_url, **config(disk="interval = 3.0", memory="interval = 1.0"))
    as_process_engine(engine)
    run_due_checks()
    run_due_checks()
    assert jobs.recent(engine, "health_check_monitoring") == []
    health_check_monitoring()
    health_check_monitoring()
    runs = [run.summary for run in jobs.recent(engine, "health_check_monitoring")]
    assert [(run["ran"], run["checks"]) for run in runs] == [(2, 2), (2, 2)]
    assert set(runs[0]["changed"]) == {"disk", "memory"}
    assert {row["check_name"] for row in rows(engine)} == {"memory", "disk"}


def test_a_run_that_could_not_write_everywhere_is_recorded_as_partial(
    own_redis, make_engine, config, as_process_engine
):
    engine = make_engine(own_redis.url, **config(disk=""))
    as_process_engine(engine)
    own_redis.kill()
    health_check_monitoring()
    (run,) = jobs.recent(engine)
    assert run.outcome == "partial"
    assert "redis" in run.summary["not_written"]
