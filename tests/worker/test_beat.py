"""Beat: a second one stands by, an outage of Redis or broker is outlived, runs do not pile up."""

from __future__ import annotations

import json
import signal

import redis

from regrow.engine import Engine
from regrow.settings import Settings
from tests.servers import RabbitServer, RedisServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Surroundings, beat, ready, running, worker
from worker import schedule
from worker.celery import make_app

JOB = "regrow.health.health_check_monitoring"
CONTROL = [task for task in schedule.TASKS.values() if "dead_letters" not in task]
"""What goes to the queue that these tests look into."""


def state(around: Surroundings) -> str:
    return str(around.heartbeat("beat")["state"])


def queued(around: Surroundings, task: str = JOB) -> int:
    messages = redis.Redis.from_url(around.broker_url).lrange("regrow.control", 0, -1)
    return sum(json.loads(message)["headers"]["task"] == task for message in messages)


def test_every_scheduled_job_is_a_task_of_ours_and_expires_when_the_next_is_due(make_settings) -> None:
    settings: Settings = make_settings()
    app = make_app(Engine(settings))
    app.loader.import_default_modules()
    entries = schedule.entries(settings)
    assert set(entries) == set(type(settings.schedule).model_fields)
    for name, entry in entries.items():
        assert entry["task"] in app.tasks, name
        assert entry["options"]["expires"] == entry["schedule"] == getattr(settings.schedule, name)


def test_the_second_beat_stands_by_and_leads_at_once_when_the_first_ends(
    surroundings: MakeSurroundings,
) -> None:
    around, other = surroundings(), surroundings()
    other.home = around.home / "other"
    other.home.mkdir()
    with running(beat(around, "first")) as first:
        eventually(lambda: state(around) == "running", what="the first leads")
        with running(beat(other, "second")) as second:
            eventually(lambda: state(other) == "standby", what="the second stands by")
            assert not second.says("beat.leads")
            key = f"regrow:{{heartbeat}}:beat:{around.heartbeat('beat')['node'].split('@')[1]}-{first.pid}"
            eventually(lambda: json.loads(around.traces.get(key) or "{}").get("state") == "running")
            first.signal(signal.SIGTERM)
            assert first.wait(15) == 0
            assert not around.traces.exists(key)
            eventually(lambda: state(other) == "running", 15, what="the second leads")
            assert second.alive()


def test_beat_outlives_its_redis_even_one_that_comes_back_empty(
    surroundings: MakeSurroundings, own_redis: RedisServer
) -> None:
    around = surroundings(redis=own_redis.url)
    with running(beat(around)) as program:
        eventually(lambda: queued(around) > 0, what="it sends")
        own_redis.kill()
        eventually(lambda: state(around) == "redis_away", what="the heartbeat says so")
        own_redis.start()
        eventually(lambda: state(around) == "running", 30, what="it leads again by itself")
        redis.Redis.from_url(own_redis.url).flushall()
        eventually(lambda: queued(around) > 0, 30, what="it sends, with a schedule made anew")
        assert program.alive()
        assert program.pid == around.heartbeat("beat")["pid"]


def test_a_run_that_could_not_be_sent_is_sent_when_the_broker_is_back(
    surroundings: MakeSurroundings, own_rabbitmq: RabbitServer
) -> None:
    around = surroundings(broker_url=own_rabbitmq.url, REGROW_SCHEDULE__GENERATE_RELIABILITY_REPORT="3600")
    own_rabbitmq.kill()
    with running(beat(around)) as program:
        eventually(lambda: state(around) == "broker_away", 30, what="the heartbeat says so")
        # A report an hour: if the first one were forgotten, none would come within this test.
        own_rabbitmq.start()
        eventually(lambda: state(around) == "running", 40, what="it sends again")
        assert program.alive()
        with running(worker(around)):
            eventually(
                lambda: around.job_runs("generate_reliability_report") == 1, 30, what="the report runs"
            )


def test_every_job_runs_at_once_when_it_never_ran_before_and_not_again_after_a_restart(
    surroundings: MakeSurroundings,
) -> None:
    hourly = {f"REGROW_SCHEDULE__{name.upper()}": "3600" for name in schedule.TASKS}
    around = surroundings(**hourly, REGROW_DEGRADATION__HOLD="7200")
    for _ in range(2):
        with running(beat(around)) as program:
            eventually(lambda: sum(queued(around, task) for task in CONTROL) == len(CONTROL), what="all sent")
            eventually(lambda: state(around) == "running")
            program.signal(signal.SIGTERM)
            assert program.wait(15) == 0
    assert [queued(around, task) for task in CONTROL] == [1] * len(CONTROL)


def test_beat_makes_its_schedule_anew_when_that_alone_is_lost(surroundings: MakeSurroundings) -> None:
    around = surroundings()
    with running(beat(around)) as program:
        eventually(lambda: queued(around) > 0, what="it sends")
        client = redis.Redis.from_url(around.broker_url)
        client.delete("regrow:{beat}::schedule", "regrow.control")
        eventually(lambda: program.says("beat.schedule_lost"), 40, what="it says so")
        eventually(lambda: queued(around) > 0, 40, what="it sends again")


def test_a_job_that_alone_is_lost_from_the_schedule_is_put_back(surroundings: MakeSurroundings) -> None:
    around = surroundings()
    with running(beat(around)) as program:
        eventually(lambda: queued(around) > 0, what="it sends")
        client = redis.Redis.from_url(around.broker_url)
        kept = client.zcard("regrow:{beat}::schedule")

        def lose() -> bool:
            # Again and again: beat may be about to advance this very job, which puts it back.
            client.zrem("regrow:{beat}::schedule", "regrow:{beat}:health_check_monitoring")
            return program.says("beat.schedule_lost")

        eventually(lose, 40, what="it says so")
        said = next(line for line in program.output().splitlines() if "beat.schedule_lost" in line)
        assert "health_check_monitoring" in said
        eventually(lambda: client.zcard("regrow:{beat}::schedule") == kept, what="it is there again")


def test_runs_that_nobody_took_do_not_pile_up(surroundings: MakeSurroundings) -> None:
    around = surroundings(REGROW_SCHEDULE__HEALTH_CHECK_MONITORING="0.5", REGROW_SCHEDULE__DUE_CHECKS="3600")
    with running(beat(around)):
        eventually(lambda: queued(around) >= 6, 20, what="beat sends to nobody")
    with running(worker(around)) as program:
        ready(program)
        eventually(lambda: queued(around) == 0)
        around.send("test.work", "after")
        eventually(lambda: around.ended("after") == 1)
        runs = around.job_runs("health_check_monitoring")
        assert runs <= 2, f"{runs} of the runs that had waited were worth doing"
        assert around.letters() == [], "expired runs are no dead letters"
        eventually(
            lambda: int(around.traces.hget("regrow:{expired}:runs", JOB) or 0) >= 4, 15, what="but counted"
        )
