"""Probes of real servers: well, killed, frozen, refusing, and asked with wrong credentials."""

from __future__ import annotations

import signal
import socket
import time

import pytest
import redis
from kombu.transport.redis import PRIORITY_STEPS, Channel
from pydantic import SecretStr

from regrow.database import Database
from regrow.health.checks import broker, celery_beat, heartbeats, probe_of
from regrow.settings.checks import (
    CeleryBeatCheck,
    CeleryWorkerCheck,
    DatabaseCheck,
    QueueCheck,
    RedisCheck,
)
from tests.waiting import eventually

REDIS = RedisCheck(kind="redis", timeout=2.0)
DATABASE = DatabaseCheck(kind="database", timeout=2.0)
QUEUE = QueueCheck(kind="queue", timeout=2.0, queues=("jobs", "mails"), warning=10, critical=20)
WORKER = CeleryWorkerCheck(kind="celery_worker", timeout=2.0)
BEAT = CeleryBeatCheck(kind="celery_beat", timeout=2.0)


def probe(check, settings):
    """The finding, and that it came within the check's timeout (with room for a busy machine)."""
    began = time.monotonic()
    found = probe_of(check, settings)()
    assert time.monotonic() - began < check.timeout + 10
    return found


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def settings(make_settings, redis_url):
    return make_settings(redis_url)


# Redis


def test_a_redis_that_takes_writes_is_healthy(settings):
    found = probe(REDIS, settings)
    assert (found.status, found.message) == ("healthy", "takes writes")
    assert found.data["used_bytes"] > 0


def test_a_killed_redis_is_unhealthy_and_its_password_is_not_told(own_redis, make_settings):
    own_redis.kill()
    found = probe(REDIS, make_settings(own_redis.url.replace("redis://", "redis://user:hunter2@")))
    assert found.status == "unhealthy"
    assert "hunter2" not in found.message


def test_a_frozen_redis_is_unhealthy_within_the_timeout_for_every_check_that_asks_it(
    own_redis, make_settings
):
    settings = make_settings(own_redis.url)
    own_redis.signal(signal.SIGSTOP)
    try:
        assert probe(REDIS, settings).status == "unhealthy"
        assert probe(QUEUE, settings).status == "unhealthy"
        # The workers may be well: the one who would know does not answer.
        assert probe(WORKER, settings).status == "unknown"
        assert probe(BEAT, settings).status == "unknown"
    finally:
        own_redis.signal(signal.SIGCONT)
    assert probe(REDIS, settings).status == "healthy"


def test_a_redis_that_refuses_writes_is_unhealthy_though_it_answers_ping(own_redis, make_settings):
    with redis.Redis.from_url(own_redis.url) as client:
        client.replicaof("127.0.0.1", 1)
        assert client.ping()
    found = probe(REDIS, make_settings(own_redis.url))
    assert found.status == "unhealthy"
    assert "ReadOnly" in found.message


def test_a_redis_near_its_memory_limit_is_degraded(own_redis, make_settings):
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", int(client.info()["used_memory"] * 1.08))
        found = probe(REDIS, make_settings(own_redis.url))
    assert found.status in {"degraded", "unhealthy"}
    assert "memory" in found.message.lower()


def test_a_wrong_password_is_unhealthy(own_redis, make_settings):
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", "right")
        found = probe(REDIS, make_settings(own_redis.url.replace("redis://", "redis://:wrong@")))
    assert found.status == "unhealthy"
    assert "wrong@" not in found.message


# Database


def test_a_migrated_database_is_healthy(make_settings, database, database_url):
    found = probe(DATABASE, make_settings(database_url=database_url))
    assert found.status == "healthy"
    assert found.data["revision"] == database.revision()


def test_a_database_without_tables_is_unhealthy_and_says_what_to_do(make_settings, database_url):
    Database(database_url).ping()
    found = probe(DATABASE, make_settings(database_url=database_url))
    assert found.status == "unhealthy"
    assert "regrow db upgrade" in found.message


def test_asking_after_a_missing_sqlite_file_does_not_make_it(make_settings, tmp_path):
    file = tmp_path / "not" / "there.sqlite3"
    assert probe(DATABASE, make_settings(database_url=f"sqlite:///{file}")).status == "unhealthy"
    assert not file.parent.exists()


def test_a_frozen_and_a_killed_mysql_are_unhealthy_within_the_timeout(own_mysql, make_settings):
    url = own_mysql.url("mysql").replace("root@", "root:hunter2@")
    own_mysql.process.send_signal(signal.SIGSTOP)
    frozen = probe(DATABASE, make_settings(database_url=url))
    own_mysql.kill()
    killed = probe(DATABASE, make_settings(database_url=url))
    assert (frozen.status, killed.status) == ("unhealthy", "unhealthy")
    assert "hunter2" not in frozen.message + killed.message


def test_another_redis_and_another_database_are_asked_where_the_check_names_them(
    make_settings, redis_url, mysql_url
):
    nowhere = make_settings()
    assert probe(REDIS.model_copy(update={"url": SecretStr(redis_url)}), nowhere).status == "healthy"
    other = DATABASE.model_copy(update={"url": SecretStr(mysql_url)})
    assert probe(other, nowhere).status == "healthy", "it need not have our tables"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("SELECT 9", "healthy"),
        ("SELECT 10", "degraded"),
        ("SELECT 20", "unhealthy"),
        ("SELECT 'many'", "unknown"),
        ("SELECT 1 WHERE 1 = 2", "unknown"),
        ("SELEKT", "unhealthy"),
    ],
)
def test_what_a_query_answers_is_judged(make_settings, tmp_path, query, status):
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    Database(url).ping()
    given = {"kind": "database", "url": url, "query": query, "warning": 10, "critical": 20}
    assert probe(DatabaseCheck.model_validate(given), make_settings()).status == status


def test_a_database_without_a_driver_here_is_unknown(make_settings):
    url = "postgresql+psycopg://me:hunter2@db/shop"
    found = probe(DatabaseCheck.model_validate({"kind": "mysql", "url": url}), make_settings())
    assert (found.status, "no driver" in found.message) == ("unknown", True)
    assert "hunter2" not in repr(found)


# Queues


def test_the_depth_counts_priorities_and_what_is_in_hand(settings, client):
    for priority in PRIORITY_STEPS:
        name = f"jobs{Channel.sep}{priority}" if priority else "jobs"
        client.rpush(name, "m")
    client.rpush("mails", "m", "m")
    client.hset("regrow.unacked", mapping={"a": "m", "b": "m", "c": "m"})
    found = probe(QUEUE, settings)
    assert found.status == "healthy"
    assert found.data["waiting"] == {"jobs": 4, "mails": 2}
    assert (found.data["unacked"], found.data["depth"]) == (3, 9)


@pytest.mark.parametrize(("unacked", "status"), [(9, "healthy"), (10, "degraded"), (20, "unhealthy")])
def test_a_wedged_pool_shows_in_the_depth_though_the_queue_is_empty(settings, client, unacked, status):
    client.hset("regrow.unacked", mapping={str(n): "m" for n in range(unacked)})
    assert probe(QUEUE, settings).status == status


def test_the_broker_key_is_the_one_our_workers_use(settings):
    configuration = pytest.importorskip("worker.configuration").configuration(settings)
    assert configuration["broker_transport_options"]["unacked_key"] == broker.OWN_UNACKED


def test_an_amqp_broker_tells_waiting_messages_missing_queues_and_idle_ones(rabbitmq_url, make_settings):
    from kombu import Connection

    settings = make_settings(CELERY_BROKER_URL=rabbitmq_url)
    check = QUEUE.model_copy(update={"queues": ("health-a", "health-b"), "timeout": 5.0})
    with Connection(rabbitmq_url) as connection:
        channel = connection.default_channel
        channel.queue_declare(queue="health-a", durable=False, auto_delete=False)
        with connection.Producer() as producer:
            producer.publish("m", routing_key="health-a")
        eventually(lambda: channel.queue_declare(queue="health-a", passive=True).message_count == 1)
        try:
            found = probe(check, settings)
        finally:
            channel.queue_delete(queue="health-a")
    assert found.status == "degraded"
    assert found.data["waiting"] == {"health-a": 1, "health-b": None}
    assert "not declared yet: health-b" in found.message
    assert "nobody consumes health-a" in found.message


def test_an_amqp_broker_that_is_away_is_unhealthy_and_its_password_is_not_told(make_settings):
    settings = make_settings(CELERY_BROKER_URL="amqp://user:hunter2@127.0.0.1:1//")
    found = probe(QUEUE.model_copy(update={"timeout": 5.0}), settings)
    assert found.status == "unhealthy"
    assert "hunter2" not in found.message


def test_an_amqp_broker_that_takes_connections_and_stays_silent_is_unhealthy_in_time(make_settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = make_settings(CELERY_BROKER_URL=f"amqp://127.0.0.1:{silent.getsockname()[1]}//")
        found = probe(QUEUE.model_copy(update={"timeout": 4.0}), settings)
    assert found.status == "unhealthy"


# Heartbeats


def beat_of(client, kind, name, state="running", age=0.0, queues=None):
    told = {"at": time.time() - age, "pid": 1, "node": name, "state": state}
    heartbeats.keep(client, kind, name, told if queues is None else {**told, "queues": queues}, told["at"])


def test_without_any_heartbeat_ever_workers_and_beats_are_unknown(settings):
    assert probe(WORKER, settings).status == "unknown"
    assert probe(BEAT, settings).status == "unknown"


@pytest.mark.parametrize(
    ("workers", "status", "said"),
    [
        ([("running", 1)], "healthy", "1 alive"),
        ([("running", 1), ("running", 2)], "healthy", "2 alive"),
        ([("running", 1), ("running", 90)], "degraded", "w1 is dead: no sign of life"),
        ([("running", 1), ("broker_away", 1)], "degraded", "w1 is unknown: it cannot reach its broker"),
        ([("broker_away", 1)], "unknown", "it cannot reach its broker"),
        ([("draining", 1)], "degraded", "draining"),
        ([("running", 90)], "unhealthy", "no sign of life"),
        ([("running", -90)], "unhealthy", "no sign of life"),
    ],
)
def test_workers_are_judged_by_their_heartbeats(settings, client, workers, status, said):
    for n, (state, age) in enumerate(workers):
        beat_of(client, "worker", f"w{n}", state, age)
    client.sadd("regrow:{heartbeat}:worker", "junk")
    client.set("regrow:{heartbeat}:worker:junk", "no heartbeat")
    found = probe(WORKER, settings)
    assert (found.status, said in found.message) == (status, True), found
    assert len(found.data["workers"]) == len(workers)


@pytest.mark.parametrize(
    ("shared_out", "status", "said"),
    [
        ([["regrow.control"], ["regrow.capture", "regrow.redrive"]], "healthy", "2 alive"),
        ([["regrow.control"]], "unhealthy", "no worker takes from regrow.capture, regrow.redrive"),
        ([["regrow.control"], None], "healthy", "2 alive"),
    ],
)
def test_a_queue_that_no_living_worker_takes_from_is_unhealthy(settings, client, shared_out, status, said):
    for n, queues in enumerate(shared_out):
        beat_of(client, "worker", f"w{n}", "running", 1, queues)
    found = probe(WORKER, settings)
    assert (found.status, said in found.message) == (status, True), found


def test_a_silent_worker_takes_from_no_queue(settings, client):
    beat_of(client, "worker", "jobs", "running", 1, ["regrow.control"])
    beat_of(client, "worker", "letters", "running", 90, ["regrow.capture", "regrow.redrive"])
    assert "no worker takes from regrow.capture, regrow.redrive" in probe(WORKER, settings).message


@pytest.mark.parametrize(
    ("beats", "status"),
    [
        ([("running", 1)], "healthy"),
        ([("running", 1), ("standby", 1)], "healthy"),
        ([("standby", 1)], "degraded"),
        ([("redis_away", 1)], "unhealthy"),
        ([("running", 120), ("standby", 120)], "unhealthy"),
    ],
)
def test_beats_are_judged_by_their_last_tick(settings, client, beats, status):
    for n, (state, age) in enumerate(beats):
        beat_of(client, "beat", f"b{n}", state, age)
    assert probe(BEAT, settings).status == status


def test_heartbeats_of_one_kind_are_not_taken_for_the_other(settings, client):
    beat_of(client, "beat", "b")
    assert probe(WORKER, settings).status == "unknown"
    assert celery_beat.verdict([], 30).status == "unknown"
