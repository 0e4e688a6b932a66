"""The level as processes see it: told at once, held while Redis is away, anew after a fork."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import redis

import regrow
from regrow import degradation, fallbacks
from regrow.degradation import watch as module
from regrow.degradation.levels import Level
from regrow.degradation.rules import NOTHING_KNOWN, Course
from regrow.degradation.state import Order, Policy, settled
from regrow.degradation.store import CHANNEL, STATE, LevelStore
from regrow.errors import DegradedError
from tests.waiting import eventually


def tell(url, level, *, hold=60.0, age=0.0, order=None, features=None):
    """The worker's part: this level holds from now on."""
    store = LevelStore.from_url(url)
    held, revision, now = store.read()
    policy = Policy(hold=hold, features=features or {})
    state, change = settled(held, Course(Level(level), now), NOTHING_KNOWN, order, policy, now)
    state = replace(state, course=Course(Level(level), now - round(age * 1000)))
    assert store.replace(revision, state, change, tell=True)


@pytest.fixture
def no_looks(monkeypatch):
    """Whoever learns of a change now was told."""
    monkeypatch.setattr(module, "LOOK_EVERY", 600.0)


def test_an_idle_process_is_told(redis_url, make_watch, no_looks):
    tell(redis_url, "normal")
    first, second = make_watch(redis_url), make_watch(redis_url)
    assert first.level() == second.level() == "normal"
    eventually(lambda: first.listening and second.listening, 5)
    tell(redis_url, "critical")
    eventually(lambda: first.level() == second.level() == "critical", 5)
    tell(redis_url, "normal")
    eventually(lambda: first.level() == second.level() == "normal", 5)


def test_a_message_that_is_lost_is_made_up_for_by_the_next_look(redis_url, make_watch, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 0.1)
    tell(redis_url, "normal")
    watch = make_watch(redis_url)
    assert watch.level() == "normal"
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="pubsub")
    tell(redis_url, "severe")
    eventually(lambda: watch.level() == "severe", 5)


def test_the_first_question_waits_for_the_first_look(redis_url, make_watch):
    tell(redis_url, "severe")
    assert make_watch(redis_url).level() == "severe"


def test_in_an_event_loop_nobody_waits(redis_url, this_process):
    tell(redis_url, "normal")
    this_process(redis_url)

    @regrow.requires("normal")
    async def guarded():
        return "done"

    async def ask():
        at_first = degradation.view()
        return at_first, await guarded(), degradation.level()

    at_first, done, later = asyncio.run(ask())
    assert (done, later) == ("done", "normal")
    assert at_first.known or at_first.level == "minor"


def test_without_a_redis_nobody_measures_and_all_is_on(make_watch):
    watch = make_watch(None)
    assert watch.level() == "normal"
    assert not watch.view().known
    assert watch.level() == "normal"


def test_a_silent_monitor_is_not_normal(redis_url, make_watch):
    tell(redis_url, "normal", hold=60.0, age=61.0)
    told = make_watch(redis_url).view()
    assert (told.level, told.known) == ("minor", False)
    assert "not confirmed for 61 s" in told.why
    with redis.Redis.from_url(redis_url) as client:
        client.delete(STATE)
    assert make_watch(redis_url).view().level == "minor"


def test_redis_killed_the_last_level_holds_for_a_while_and_then_it_is_unknown(
    own_redis, make_watch, monkeypatch
):
    monkeypatch.setattr(module, "AGAIN", 0.1)
    tell(own_redis.url, "normal", hold=3.0)
    watch = make_watch(own_redis.url)
    assert watch.level() == "normal"
    own_redis.kill()
    told = eventually(lambda: not watch.listening and watch.view(), 5)
    assert told == watch.view()
    eventually(lambda: watch.level() == "minor" and not watch.view().known, 10)
    own_redis.start()
    tell(own_redis.url, "severe", hold=60.0)
    eventually(lambda: watch.level() == "severe" and watch.view().known, 10)


def test_redis_frozen_holds_nobody_up(own_redis, make_watch):
    tell(own_redis.url, "moderate")
    watch = make_watch(own_redis.url)
    assert watch.level() == "moderate"
    own_redis.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert {watch.level() for _ in range(1000)} == {"moderate"}
        assert make_watch(own_redis.url).level() == "minor"
        assert time.monotonic() - began < 5  # a second of patience with Redis, and a busy machine
    finally:
        own_redis.signal(signal.SIGCONT)


def test_redis_flushed_the_level_goes_on(redis_url, make_watch, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 0.05)
    tell(redis_url, "severe", hold=60.0)
    watch = make_watch(redis_url)
    assert watch.level() == "severe"
    looks = watch._told.heard
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    time.sleep(0.3)
    assert (watch.level(), watch.view().known) == ("severe", True)
    assert watch._told.heard - looks < 60  # it holds from when it was confirmed, not from when it was missed


def test_an_order_runs_out_without_a_word(redis_url, make_watch, no_looks):
    with redis.Redis.from_url(redis_url) as client:
        seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    tell(redis_url, "normal", order=Order(now, Level.CRITICAL, "ann", "drill", now, now + 1500))
    watch = make_watch(redis_url)
    assert watch.level() == "critical"
    eventually(lambda: watch.level() == "normal", 10)


def test_listeners_hear_what_changed_and_a_broken_one_ends_nothing(redis_url, make_watch, no_looks):
    tell(redis_url, "normal")
    watch = make_watch(redis_url)
    heard = []
    watch.listen(lambda old, new: 1 / 0)
    stop = watch.listen(lambda old, new: heard.append((str(old), str(new))))
    assert watch.level() == "normal"
    eventually(lambda: watch.listening, 5)
    heard.clear()
    tell(redis_url, "severe")
    eventually(lambda: heard == [("normal", "severe")], 5)
    stop()
    tell(redis_url, "minor")
    eventually(lambda: watch.level() == "minor", 5)
    assert len(heard) == 1


def test_a_forked_child_hears_on_its_own(redis_url, make_watch, no_looks):
    tell(redis_url, "normal")
    watch = make_watch(redis_url)
    assert watch.level() == "normal"
    child = os.fork()
    if not child:
        try:
            assert watch.level() == "normal"  # what its parent knew
            eventually(lambda: watch.level() == "severe", 15)
        except BaseException:
            os._exit(1)
        os._exit(0)
    with redis.Redis.from_url(redis_url) as client:
        eventually(lambda: dict(client.pubsub_numsub(CHANNEL))[CHANNEL.encode()] == 2, 10)
    tell(redis_url, "severe")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    eventually(lambda: watch.level() == "severe", 5)


def test_one_thread_a_process_whoever_asks(redis_url, make_watch):
    tell(redis_url, "normal")
    watch = make_watch(redis_url)
    asking = [threading.Thread(target=watch.level) for _ in range(20)]
    before = {thread for thread in threading.enumerate() if thread.name == "regrow-degradation"}
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    after = {thread for thread in threading.enumerate() if thread.name == "regrow-degradation"}
    assert len(after - before) == 1


def test_another_redis_is_gone_over_to(redis_url, own_redis, monkeypatch):
    from regrow import configuration
    from regrow.degradation import process

    monkeypatch.setattr(process, "_watch", None)
    monkeypatch.setattr(configuration, "_told", configuration.Configuration())
    heard = []
    try:
        regrow.configure(redis_url=redis_url)
        tell(redis_url, "minor")
        tell(own_redis.url, "severe")
        stop = degradation.listen(lambda old, new: heard.append(str(new)))
        assert degradation.level() == "minor"
        regrow.configure(redis_url=own_redis.url)
        assert degradation.level() == "severe"
        eventually(lambda: heard[-1:] == ["severe"], 5)
        stop()
    finally:
        process.process_watch().close()


def test_on_a_cluster(cluster_url, make_watch, no_looks):
    tell(cluster_url, "normal")
    watch = make_watch(cluster_url)
    eventually(lambda: watch.level() == "normal" and watch.listening, 10)
    tell(cluster_url, "severe")
    eventually(lambda: watch.level() == "severe", 5)


# Gates ----------------------------------------------------------------------------------------------------


def test_what_requires_a_level_runs_up_to_it(redis_url, this_process):
    tell(redis_url, "minor")
    this_process(redis_url)

    @regrow.requires("minor")
    def core(number):
        return number + 1

    @regrow.requires("normal", feature="exports")
    async def extra():
        raise AssertionError

    assert core(1) == 2
    with pytest.raises(
        DegradedError, match="exports is off: the level is minor, and it needs normal"
    ) as caught:
        asyncio.run(extra())
    error = caught.value
    assert (error.feature, error.level, error.worst) == ("exports", "minor", "normal")


def test_a_fallback_answers_instead(redis_url, this_process):
    tell(redis_url, "critical")
    this_process(redis_url)

    async def later(error):
        return f"later: {error.level}"

    canned = fallbacks.Fallback("ai")
    canned.register("we will answer soon")

    @regrow.requires("minor", fallback=canned)
    def ask():
        raise AssertionError

    @regrow.requires("minor", fallback=later)
    async def ask_async():
        raise AssertionError

    assert ask() == "we will answer soon"
    assert canned.used == 1
    assert asyncio.run(ask_async()) == "later: critical"


def test_features_are_on_up_to_what_the_settings_say_and_code_is_stronger(redis_url, this_process):
    tell(redis_url, "minor", features={"search": "moderate", "exports": "moderate"})
    this_process(redis_url)
    assert degradation.allows("search")
    assert not degradation.allows("nobody spoke for it")
    assert not degradation.Feature("exports", "normal").on
    assert degradation.Feature("exports").worst == "moderate"


def test_what_cannot_be_required():
    with pytest.raises(regrow.SettingsError, match="awful"):
        regrow.requires("awful")
    with pytest.raises(regrow.SettingsError, match="which feature"):
        regrow.requires()


def test_the_error_survives_its_way_between_processes():
    error = copy.copy(DegradedError("exports", "minor", "normal", 5.0))  # by what a pickle keeps
    assert (error.feature, error.level, error.worst, error.retry_after) == ("exports", "minor", "normal", 5.0)


def test_the_face_needs_redis_alone():
    code = (
        "import sys; import regrow; regrow.requires; regrow.degradation.level; regrow.fallback_for('x');"
        "bad = {'celery', 'kombu', 'sqlalchemy', 'pydantic', 'structlog', 'psutil'} & set(sys.modules);"
        "sys.exit(repr(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
