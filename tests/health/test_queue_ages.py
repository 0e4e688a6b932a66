"""How old the oldest message of a queue is: by its own word, else since it was first seen."""

from __future__ import annotations

import json
import time

import celery
import pytest
import redis

import regrow.celery
from regrow.headers import SENT_AT
from regrow.health.checks import look_of, probe_of, since
from regrow.health.checks.broker import head_of, unacked_key
from regrow.health.checks.heartbeats import PREFIX
from regrow.settings.checks import CeleryWorkerCheck, QueueCheck
from tests.settings.test_errors import complaint


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def message(tag, **headers):
    return json.dumps({"body": "", "headers": headers, "properties": {"delivery_tag": tag}})


def look(settings, **declared):
    given = {"kind": "queue", "queues": ["jobs", "mails"], "timeout": 4, **declared}
    return probe_of(QueueCheck.model_validate(given), settings)()


def test_a_task_says_when_it_was_sent_and_the_oldest_of_all_queues_counts(client, make_settings, redis_url):
    now = time.time()
    client.lpush("jobs", message("a", **{SENT_AT: now - 50}), message("b", **{SENT_AT: now}))
    client.lpush("mails", message("c", **{SENT_AT: now - 90}))
    found = look(make_settings(redis_url), oldest_warning=60, oldest_critical=600)
    assert found.status == "degraded"
    assert 90 <= found.data["oldest"] < 150
    assert "the oldest waits too long" in found.message
    assert look(make_settings(redis_url), oldest_critical=80).status == "unhealthy"
    assert look(make_settings(redis_url)).status == "healthy", "without a limit its age is only told"


def test_queues_of_an_app_with_a_key_prefix_are_seen_in_every_priority(client, make_settings, redis_url):
    options = {"global_keyprefix": "shop:", "queue_order_strategy": "priority"}
    with celery.Celery(broker=redis_url, set_as_current=False) as app:
        app.conf.broker_transport_options = options
        for priority in (0, 4, 9):
            app.send_task(
                "charge", queue="jobs", priority=priority, headers={SENT_AT: time.time() - 10 * priority}
            )
    settings = make_settings(redis_url)
    assert look(settings).data["depth"] == 0
    client.hset("shop:unacked", "tag", "in hand")
    found = look(settings, key_prefix="shop:", unacked_key="unacked")
    assert found.data["waiting"]["jobs"] == 3
    assert found.data["unacked"] == 1
    assert found.data["oldest"] >= 90, "the one of the last priority was sent first"


def test_what_does_not_say_so_is_as_old_as_we_have_seen_it_at_the_head(client, make_settings, redis_url):
    settings = make_settings(redis_url)
    client.lpush("jobs", message("a"))
    assert look(settings).data["oldest"] == 0
    assert look(settings).data["oldest"] >= 0
    first = since.PREFIX + "queue::jobs,mails"
    client.hset(first, "jobs", json.dumps(["a", time.time() - 100]))
    assert look(settings).data["oldest"] >= 100
    client.rpop("jobs")
    client.lpush("jobs", message("b"))
    assert look(settings).data["oldest"] == 0, "another one is at the head"
    client.rpop("jobs")
    assert look(settings).data["oldest"] is None
    assert not client.exists(first)


def test_two_checks_of_one_broker_do_not_forget_each_others_queues(client, make_settings, redis_url):
    settings = make_settings(redis_url)
    client.lpush("jobs", message("a"))
    look(settings, queues=["jobs"])
    client.hset(since.PREFIX + "queue::jobs", "jobs", json.dumps(["a", time.time() - 100]))
    look(settings, queues=["mails"])
    assert look(settings, queues=["jobs"]).data["oldest"] >= 100


def test_who_passes_by_wipes_nothing_that_the_sweep_remembers_of_workers(client, make_settings, redis_url):
    settings = make_settings(redis_url, CELERY_BROKER_URL=redis_url)
    check = CeleryWorkerCheck.model_validate({"kind": "celery_worker", "app": "shop", "queues": ["jobs"]})
    client.lpush("jobs", message("a"))
    mute = {"at": time.time(), "pid": 1, "node": "celery@shop", "state": "running", "app": "shop"}
    client.set(f"{PREFIX}worker:celery@shop", json.dumps(mute))
    client.sadd(f"{PREFIX}worker", "celery@shop")
    memory = {node: json.dumps(["7", time.time() - 100]) for node in ("celery@shop", "celery@mute")}
    client.hset(since.PREFIX + "worker:shop:jobs", mapping=memory)
    (worker,) = look_of(check, settings)().data["workers"]
    assert worker["stalled"] >= 100
    assert client.hgetall(since.PREFIX + "worker:shop:jobs") == memory


def test_an_app_with_regrow_says_when_it_sent_a_task(client, redis_url):
    app = celery.Celery("telling", broker=redis_url, set_as_current=False)
    regrow.celery.install(app)
    before = time.time()
    app.send_task("anything", queue="telling")
    head = head_of(client.lindex("telling", -1))
    assert head is not None
    assert before - 1 <= head.sent_at <= time.time() + 1


@pytest.mark.parametrize(
    "line",
    [None, "", "[]", "no", "{}", '{"properties": {}}', '{"properties": 1}', "[" * 50_000, "x" * 100_000],
)
def test_what_is_no_message_has_no_age(line):
    assert head_of(line) is None


@pytest.mark.parametrize("sent_at", ["yesterday", True, None])
def test_a_time_that_is_none_is_not_believed(sent_at):
    assert head_of(message("a", **{SENT_AT: sent_at})).sent_at is None


def test_a_first_sight_is_kept_while_the_mark_stays_and_clocks_that_jump_make_no_age(client):
    def ages(now, **marks):
        return since.unchanged(client, "test", marks, now)

    assert ages(100, a="1", b="1") == {"a": 0, "b": 0}
    assert ages(110, a="1", b="2") == {"a": 10, "b": 0}
    assert ages(90, a="1") == {"a": 0}, "our clock went back"
    assert ages(95, a="1", b="2") == {"a": 5, "b": 0}, "b was gone meanwhile"
    assert ages(99, a=None, c=None) == {"a": 9, "c": 0}, "what is not known now is no change"
    assert ages(102, a="1", c=None) == {"a": 12, "c": 3}
    client.hset(since.PREFIX + "test", "a", "junk")
    assert ages(96, a="1") == {"a": 0}


def test_the_hash_of_deliveries_is_ours_on_our_broker_and_kombus_on_another(make_settings, tmp_path):
    settings = make_settings()
    assert unacked_key(settings, None, None) == "regrow.unacked"
    assert unacked_key(settings, None, "theirs") == "theirs"
    told = complaint(tmp_path, "[health.checks.x]\nkind = 'queue'\nbroker = 'shop'\n")
    assert told == (
        f"{tmp_path}/regrow.toml: health.checks.x.broker = 'shop' is not declared. "
        "Write [brokers.shop] with its url."
    )


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("kind = 'celery_worker'\napp = 'shop'", "say which queues the workers of shop take from"),
        ("kind = 'canary'\nwarning = 90", "warning (90) must not be above critical (60)"),
        ("kind = 'queue'\noldest_warning = 9\noldest_critical = 1", "oldest_warning (9) must not be above"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path, toml, said):
    told = complaint(tmp_path, f"[health.checks.x]\n{toml}\n")
    assert told.startswith(f"{tmp_path}/regrow.toml: health.checks.x: ")
    assert said in told
