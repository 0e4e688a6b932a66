"""Breakers on a real Redis Cluster: the same promises, and the loss of a node is the loss of its breakers alone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest

from regrow.breakers import list_breakers, order, reporter, show
from regrow.breakers.history import monitor
from regrow.breakers.history import past as history
from regrow.breakers.redis_calls import script
from regrow.breakers.redis_listening import channel
from regrow.breakers.redis_store import NAMES_KEY, RedisStore, state_key
from regrow.breakers.rules import BreakerConfig, Look, Order, OrderKind, Report
from regrow.breakers.service import CircuitBreaker
from regrow.breakers.store import Step
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health.checks.redis import KEY as PROBE_KEY
from regrow.health.checks.redis import probe
from regrow.redis import connect
from regrow.settings.checks import RedisCheck
from regrow.tallies import Tallies
from tests.breakers.test_outages import Load, fails
from tests.conftest import lacking
from tests.servers import Missing, RedisCluster
from tests.waiting import eventually

NAMES = [f"service-{number}" for number in range(12)]


@pytest.fixture
def client(cluster_url):
    with connect(cluster_url) as client:
        client.ping()
        yield client


def test_a_trip_and_an_order_reach_the_fleet(cluster_url, client, make_reporter, monkeypatch):
    monkeypatch.setattr(reporter, "LOOK_EVERY", 600.0)  # what is learnt now was pushed
    one, other = (CircuitBreaker("payments", reporter=make_reporter(cluster_url)) for _ in range(2))
    for breaker in (one, other):
        breaker.call(int)
        eventually(lambda: breaker._cell.fleet and breaker._reporter._push.listening, 5)  # noqa: B023
    heard = channel("payments")
    eventually(lambda: sum(_listeners(client, node, heard) for node in client.get_primaries()) == 2, 5)
    fails(one)
    eventually(lambda: other.state == "open", 5)
    assert show(client, "payments").state == "open"
    order(client, "payments", "reset", actor="ann")
    eventually(lambda: one.state == other.state == "closed", 5)


def _listeners(client, node, heard):
    return dict(client.at_node(node.name).pubsub_numsub(heard))[heard]


def test_breakers_of_all_nodes_are_listed(cluster_url, client):
    store = RedisStore.from_url(cluster_url)
    store.apply_all([Step(name, BreakerConfig(), Report(0, 1, 0, 0)) for name in NAMES])
    assert len({client.node_of(state_key(name)) for name in NAMES}) == 3
    assert [status.name for status in list_breakers(client)] == sorted(NAMES)


def test_many_steps_are_one_trip_a_node_also_where_the_script_is_not_known(cluster_url, client):
    store = RedisStore.from_url(cluster_url)
    store.names()
    client.script_flush()
    first = store.apply_all([Step(name, BreakerConfig(), Report(0, 1, 0, 0)) for name in NAMES])
    assert [outcome.breaker.successes for outcome in first] == [1] * len(NAMES)
    before = _evaluated(client)
    again = store.apply_all([Step(name, None, Look()) for name in NAMES])
    assert [outcome.breaker.successes for outcome in again] == [1] * len(NAMES)
    assert _evaluated(client) - before == len(NAMES)
    assert client.script_exists(script().digest)  # on every node


def _evaluated(client):
    found = client.info("commandstats", target_nodes="primaries")
    return sum(stats.get("cmdstat_evalsha", {}).get("calls", 0) for stats in found.values())


@pytest.mark.parametrize("redirection", ["MOVED", "ASK"])
def test_a_slot_that_moves_takes_its_breakers_along(cluster_url, client, redirection):
    # A slot of its own: the third node may hear late that another one was moved to and fro.
    name = f"payments-{redirection.lower()}"
    store = RedisStore.from_url(cluster_url)
    known = store.apply(name, BreakerConfig(), Order(OrderKind.RESET, "ann", "")).breaker
    store.apply(name, None, Report(known.epoch, 2, 0, 0))
    source = client.node_of(state_key(name))
    target = next(node.name for node in client.get_primaries() if node.name != source)
    slot = client.keyslot(state_key(name))
    _migrate(client, slot, source, target, finish=redirection == "MOVED")
    try:
        singly = store.apply(name, None, Report(known.epoch, 1, 0, 0))
        assert singly.breaker.successes == 3
        store = RedisStore.from_url(cluster_url)
        store.shard(name), store.names()
        together = store.apply_all(
            [Step(name, None, Report(known.epoch, 1, 0, 0)), Step("other", None, Look())]
        )
        assert together[0].breaker.successes == 4
    finally:
        if redirection == "ASK":
            _migrate(client, slot, source, target, finish=True)
        _migrate(client, slot, target, source, finish=True)


def _migrate(client, slot, source, target, *, finish):
    """A slot, as the tools of Redis move it; unfinished, new keys are the target's and old ones too."""
    giving, taking = client.at_node(source), client.at_node(target)
    ids = {name: client.at_node(name).execute_command("CLUSTER MYID") for name in (source, target)}
    taking.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    giving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    host, port = target.split(":")
    if keys := giving.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
        giving.execute_command("MIGRATE", host, port, "", 0, 5000, "KEYS", *keys)
    if finish:
        for node in (taking, giving):
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])


def test_a_forked_child_does_not_wait_for_what_its_parent_was_doing(cluster_url):
    store = RedisStore.from_url(cluster_url)
    store.apply("payments", BreakerConfig(), Report(0, 1, 0, 0))
    held, done = threading.Event(), threading.Event()

    def look_around():
        with store._made.nodes_manager._lock:
            held.set()
            done.wait(20)

    busy = threading.Thread(target=look_around)
    busy.start()
    held.wait(5)
    child = os.fork()
    if not child:
        signal.alarm(10)
        with contextlib.suppress(BaseException):
            inherited = store._made
            store.after_fork()
            inherited.close()  # as the collector would, one day
            os._exit(store.apply("payments", None, Look()).breaker.successes - 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)
    done.set()
    busy.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert store.apply("payments", None, Look()).breaker.successes == 1


def test_counts_of_the_fleet_add_up_in_a_cluster(cluster_url, client, monkeypatch):
    monkeypatch.setenv("REGROW_REDIS_URL", cluster_url)
    tallies = Tallies()
    tallies.count("circuit_breaker_requests_total", 3, breaker="payments")
    tallies.flush()
    assert list(client.hgetall("regrow:{counters}").values()) == ["3"]


@pytest.fixture
def own_nodes():
    """A cluster of this test alone, whose nodes have no replicas: nobody takes over."""
    cluster = RedisCluster()
    try:
        yield cluster.start()
    except Missing as reason:
        lacking("redis", str(reason))
    finally:
        cluster.close()


@pytest.fixture
def halved(own_nodes, make_reporter):
    """A cluster, and the breakers of one process on all its nodes, in use."""
    shared = make_reporter(own_nodes.url)
    breakers = [
        CircuitBreaker(name, reporter=shared, failure_threshold=1000, window_size=10**6) for name in NAMES
    ]
    for breaker in breakers:
        breaker.call(int)
        eventually(lambda: breaker._cell.fleet, 5)  # noqa: B023
    return own_nodes, shared, breakers


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_the_loss_of_a_node_is_the_loss_of_its_breakers_alone(halved, outage):
    cluster, shared, breakers = halved
    lost = cluster.serving(NAMES_KEY)  # even of the one with the list of names
    theirs = [b for b in breakers if cluster.serving(state_key(b.name)) is lost]
    others = [b for b in breakers if b not in theirs]
    assert theirs
    assert others
    with Load(theirs[0]) as near, Load(others[0]) as far:
        if outage == "killed":
            lost.kill()
        else:
            lost.signal(signal.SIGSTOP)
        eventually(lambda: all(shared.is_local(b._cell) for b in theirs), 10)
        with connect(cluster.url, socket_timeout=1) as client:
            before = show(client, others[0].name).successes
            eventually(lambda: show(client, others[0].name).successes > before + 20, 10)
            assert not any(shared.is_local(b._cell) for b in others)
            with pytest.raises(StoreUnavailableError):
                show(client, theirs[0].name)
        with pytest.raises(StoreUnavailableError):
            theirs[0].force_open(actor="ann")
        others[1].force_open(actor="ann")
        assert others[1].state == "open"
        if outage == "killed":
            lost.start()
        else:
            lost.signal(signal.SIGCONT)
        eventually(lambda: not shared.local, 20)
    for load in (near, far):
        assert load.foreign == []
        assert load.refused == 0
        assert not load.waited_for_redis


def test_the_worker_goes_on_for_breakers_of_the_other_nodes_and_the_check_says_so(
    halved, make_settings, sqlite_url
):
    cluster, _, breakers = halved
    kept = {cluster.serving(NAMES_KEY).port, cluster.serving(PROBE_KEY).port}
    lost = next(node for node in cluster.nodes[:3] if node.port not in kept)
    theirs = sorted(b.name for b in breakers if cluster.serving(state_key(b.name)) is lost)
    settings = make_settings(
        cluster.url, sqlite_url, CELERY_BROKER_URL="redis://127.0.0.1:1/0", REGROW_REDIS__MAX_RETRIES="0"
    )
    engine = Engine(settings)
    engine.database.upgrade()
    check = RedisCheck(kind="redis", timeout=4.0)
    for breaker in breakers:
        breaker.force_open(actor="ann")
    try:
        assert probe(check, settings).status == "healthy"
        with connect(cluster.url, socket_timeout=1) as client:
            client.ping()
            client.nodes_manager.default_node = client.get_node(host="127.0.0.1", port=lost.port)
            lost.kill()
            assert client.ping()  # not whether that one is there
        found = monitor(engine)
        assert theirs
        assert found["unreachable"] == theirs
        assert found["written"] == len(breakers) - len(theirs)
        eventually(lambda: probe(check, settings).status == "degraded", 10)
        assert "nobody serves" in probe(check, settings).message
        lost.start()
        eventually(lambda: monitor(engine)["unreachable"] == [], 10)
        assert {past.breaker for past in history(engine.database)} == set(NAMES)
    finally:
        engine.close()


def test_a_cluster_that_was_never_there_is_no_reason_not_to_work(make_reporter):
    breaker = CircuitBreaker("payments", reporter=make_reporter("redis+cluster://127.0.0.1:1,127.0.0.1:2"))
    assert breaker.call(lambda: 42) == 42
    fails(breaker)
    eventually(lambda: breaker.state == "open", 5)
    assert breaker._reporter.local
    assert "regrow-breakers" in {thread.name for thread in threading.enumerate()}
