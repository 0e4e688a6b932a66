"""What the check of workers says of real ones: saturated, wedged, without a queue, stopped, cut off."""

from __future__ import annotations

import signal

import celery

from regrow.celery.asking import OWN_EXCHANGE
from tests.servers import RedisServer
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Surroundings, ready, running, worker
from tests.worker.verdicts import QUICK, Look


def remote(around: Surroundings, exchange: str = OWN_EXCHANGE) -> celery.Celery:
    app = celery.Celery(broker=around.broker_url, set_as_current=False)
    app.conf.control_exchange = exchange
    return app


def test_a_worker_that_gets_on_is_healthy_then_saturated_then_wedged_with_its_ping_green_all_along(
    surroundings: MakeSurroundings, broker_url: str, make_settings
) -> None:
    around = surroundings(broker_url, **QUICK)
    look = Look(make_settings(around.redis_url, CELERY_BROKER_URL=broker_url))
    with running(worker(around)) as program:
        ready(program)
        assert look.until("healthy", "1 alive: worker@test").status == "healthy"
        for number in range(60):
            around.send("test.work", f"short{number}", 0.3)
        saturated = look.until("saturated", "it gets on, but")
        assert saturated.status == "degraded"
        remote(around).control.purge()
        for number in range(8):
            around.send("test.work", f"long{number}", 600)
        look.timeline.fault("both children in a task of ten minutes, six more wait")
        wedged = look.until("wedged", "all 2 of its children are busy")
        assert wedged.status == "unhealthy"
        (evidence,) = wedged.data["workers"]
        assert (evidence["pong"], evidence["state"]) == (True, "running"), "green for whoever asks no more"
        assert (evidence["pool"], evidence["active"]) == (2, 2)
        assert evidence["waits"] >= 5
        assert evidence["progress"] >= 2
        assert evidence["stalled"] >= 2


def test_a_worker_that_takes_no_more_is_wedged_and_one_that_was_stopped_is_dead(
    surroundings: MakeSurroundings, make_settings
) -> None:
    around = surroundings(**QUICK)
    look = Look(make_settings(around.redis_url), max_age=7)
    with running(worker(around)) as program:
        ready(program)
        look.until("healthy")
        control = remote(around).control
        control.cancel_consumer("regrow.capture", destination=["worker@test"])
        deserted = look.until("healthy", "no worker takes from regrow.capture")
        assert deserted.status == "unhealthy"
        for queue in ("regrow.control", "regrow.redrive"):
            control.cancel_consumer(queue, destination=["worker@test"])
        look.timeline.fault("the worker takes from no queue, a message waits")
        around.send("test.work", "nobody")
        stopped = look.until("wedged", "it takes from no queue")
        assert (stopped.status, stopped.data["workers"][0]["pong"]) == ("unhealthy", True)
        assert stopped.data["workers"][0]["queues"] == []
        look.timeline.fault("SIGSTOP")
        program.signal(signal.SIGSTOP)
        dead = look.until("dead", "no sign of life for")
        assert (dead.status, dead.data["workers"][0]["pong"]) == ("unhealthy", False)


def test_without_its_broker_a_worker_is_unknown_and_not_dead(
    surroundings: MakeSurroundings, own_redis: RedisServer, make_settings
) -> None:
    around = surroundings(broker_url=own_redis.url, **QUICK)
    look = Look(make_settings(around.redis_url, CELERY_BROKER_URL=own_redis.url))
    with running(worker(around)) as program:
        ready(program)
        look.until("healthy")
        look.timeline.fault("the broker is killed")
        own_redis.kill()
        found = look.now()
        assert (found.status, found.data["verdict"]) == ("unknown", "unknown"), found
        assert "the broker does not answer" in found.message
        look.until("unknown", "it cannot reach its broker")
