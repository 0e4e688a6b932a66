"""Canaries: through real queues, workers and apps; lost, late, and never more than one on its way."""

from __future__ import annotations

import time

import pytest
import redis

from regrow.health.checks import canaries, look_of, probe_of
from regrow.health.checks.canaries import Flight
from regrow.health.checks.canary import verdict
from regrow.settings.checks import CanaryCheck
from tests.servers import free_port
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import foreign, ready, running, worker


def check(*queues: str, **declared) -> CanaryCheck:
    return CanaryCheck.model_validate(
        {"kind": "canary", "queues": queues or ("q",), "timeout": 8, **declared}
    )


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def test_a_canary_flies_through_each_queue_and_comes_back(
    surroundings: MakeSurroundings, broker_url: str, make_settings
) -> None:
    around = surroundings(broker_url)
    probe = probe_of(
        check("regrow.control", "regrow.capture", warning=60, critical=120),
        make_settings(around.redis_url, CELERY_BROKER_URL=broker_url),
    )
    with running(worker(around)) as program:
        ready(program)
        assert probe().status == "unknown", "sent, and no answer yet"
        eventually(lambda: probe().status == "healthy", 30, every=0.3)
        found = probe()
        assert {queue: told["lost"] for queue, told in found.data["queues"].items()} == {
            "regrow.control": 0,
            "regrow.capture": 0,
        }
        assert all(told["latency"] >= 0 for told in found.data["queues"].values())
        assert around.letters() == []


@pytest.mark.parametrize("knows_redis", [True, False])
def test_a_canary_flies_through_another_apps_queue(
    surroundings: MakeSurroundings, make_settings, knows_redis
) -> None:
    around = surroundings()
    theirs = surroundings(**({} if knows_redis else {"REGROW_REDIS_URL": ""}))
    probe = probe_of(check("foreign", warning=60, critical=120), make_settings(around.redis_url))
    with running(foreign(theirs)) as app, running(worker(around)) as program:
        ready(app)
        ready(program)
        eventually(lambda: probe().status == "healthy", 30, every=0.3)


def test_one_is_on_its_way_at_a_time_and_what_nobody_takes_does_not_pile_up(client, make_settings, redis_url):
    probe = probe_of(check("nobody", warning=30, critical=60), make_settings(redis_url))
    assert [probe().status for _ in range(5)] == ["unknown"] * 5
    assert client.llen("nobody") == 1
    for _ in range(24):
        client.hincrbyfloat(canaries.key(None, "nobody"), "sent_at", -3600)
        found = probe()
        assert (found.status, "lost: not run within 60 s" in found.message) == ("unhealthy", True)
    assert client.llen("nobody") <= 25, "one an hour, not one a minute"


def test_who_passes_by_sees_the_last_one_and_sends_none(client, make_settings, redis_url):
    declared = check("nobody", warning=30, critical=60, interval=60)
    settings = make_settings(redis_url)
    look = look_of(declared, settings)
    assert (look().status, "none is on its way: nobody" in look().message) == ("unknown", True)
    assert client.exists("nobody", canaries.key(None, "nobody")) == 0, "nothing is sent or kept"
    probe_of(declared, settings)()
    assert "nobody: sent, and no answer yet; none was sent from here" in look().message
    sent = client.hget(canaries.key(None, "nobody"), "number")
    canaries.answer(client, None, "nobody", sent)
    before = client.hgetall(canaries.key(None, "nobody"))
    assert look().status == "healthy"
    assert (client.llen("nobody"), client.hgetall(canaries.key(None, "nobody"))) == (1, before)
    client.hincrbyfloat(canaries.key(None, "nobody"), "answered_at", -300)
    assert look().status == "unknown", "an answer from so long ago says nothing of now"
    client.hset(canaries.key(None, "nobody"), mapping={"answered": "0", "sent_at": "1"})
    assert (look().status, "the last one was lost" in look().message) == ("unhealthy", True)


def test_lost_ones_are_waited_for_longer_and_longer_and_an_answer_forgets_them(client):
    def begin(number):
        return canaries.begin(client, "b", "q", number, 10)

    key = canaries.key("b", "q")
    assert begin("1") == Flight(begun=True, waiting=None, lost=0, latency=None, age=None)
    client.hincrbyfloat(key, "sent_at", -11)
    assert (begin("2").lost, begin("3").begun) == (1, False)
    client.hincrbyfloat(key, "sent_at", -11)
    assert begin("4").begun is False, "twice as long"
    client.hincrbyfloat(key, "sent_at", -11)
    assert begin("5").lost == 2
    assert canaries.answer(client, "b", "q", "2") is False, "a late one is not the one that is waited for"
    assert canaries.answer(client, "b", "q", "5") is True
    assert canaries.answer(client, "b", "q", "5") is False
    flight = begin("6")
    assert (flight.begun, flight.lost, flight.waiting) == (True, 0, None)
    assert 0 <= flight.latency < 60
    assert 0 <= flight.age < 60


@pytest.mark.parametrize(
    ("flight", "status", "said"),
    [
        (Flight(True, None, 0, None, None), "unknown", "sent, and no answer yet"),
        (Flight(True, None, 0, 0.2, 5), "healthy", "at most 0.20 s"),
        (Flight(True, None, 0, 10.0, 5), "degraded", "late, it took 10.00 s"),
        (Flight(True, None, 0, 60.0, 5), "unhealthy", "late, it took 60.00 s"),
        (Flight(False, 5.0, 0, 0.2, 5), "healthy", "at most"),
        (Flight(False, 12.0, 0, 0.2, 5), "degraded", "late, on its way for 12 s"),
        (Flight(False, 12.0, 0, None, None), "degraded", "late, on its way for 12 s"),
        (Flight(False, 61.0, 0, 0.2, 5), "unhealthy", "the last one was lost"),
        (Flight(True, None, 1, 0.2, 5), "unhealthy", "the last one was lost"),
        (Flight(False, 61.0, 2, 0.2, 5), "unhealthy", "the last 3 were lost"),
        ("no such queue", "unhealthy", "could not be sent: no such queue"),
    ],
)
def test_what_became_of_a_canary_is_judged(flight, status, said):
    found = verdict(check(), {"q": flight})
    assert (found.status, said in found.message) == (status, True), found


def test_without_the_broker_nothing_is_sent_and_nothing_counts_as_lost(client, make_settings, redis_url):
    settings = make_settings(redis_url, CELERY_BROKER_URL=f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    for _ in range(2):
        found = probe_of(check("q"), settings)()
        assert (found.status, "could not be sent" in found.message) == ("unhealthy", True)
        assert "hunter2" not in repr(found)
    assert client.hget(canaries.key(None, "q"), "sent_at") is None


def test_without_the_answers_redis_it_is_unknown(make_settings):
    assert probe_of(check("q", timeout=1), make_settings())().status == "unknown"


def test_a_queue_that_rabbitmq_does_not_have_is_unhealthy(rabbitmq_url, redis_url, make_settings):
    settings = make_settings(redis_url, CELERY_BROKER_URL=rabbitmq_url)
    found = probe_of(check(f"nowhere-{time.time_ns()}"), settings)()
    assert (found.status, "the broker has no queue" in found.message) == ("unhealthy", True), found
