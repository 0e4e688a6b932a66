"""What a process counted is in Redis once, whatever happens on the way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import redis

from regrow.request_counts import RequestCounts
from regrow.requests.minutes import HELD, from_wire
from regrow.requests.telling import KEEP, Telling, current_minute, key_of
from regrow.tallies import Tallies
from tests.requests.conftest import NOON, minute_of, told
from tests.servers import free_port


@pytest.fixture
def tallies(monkeypatch):
    """Those of one process, that have no thread of their own here."""
    own = Tallies()
    monkeypatch.setattr(own, "_start", lambda: None)
    for module in ("regrow.request_counts", "regrow.requests.telling"):
        monkeypatch.setattr(f"{module}.tallies", own)
    return own


@pytest.fixture
def shop(tallies, monkeypatch, minute):
    monkeypatch.setattr("regrow.request_counts.telling", Telling())
    return RequestCounts("shop")


def held(url, at=NOON):
    """(count, failed, timed) of each route of a minute, added up over the processes."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        found: dict[str, list[int]] = {}
        for source, text in client.hgetall(key_of(minute_of(at))).items():
            for part in [] if source.startswith("#") else from_wire(text.partition(" ")[2]):
                route = found.setdefault(part.route, [0, 0, 0])
                counts = part.count
                for place, number in enumerate((counts.count, counts.failed, sum(counts.buckets.values()))):
                    route[place] += number
        return {route: tuple(counts) for route, counts in found.items()}


def test_requests_are_told_by_minute_and_route(shop, tallies, told_of, redis_url, minute):
    told_of(redis_url)
    shop.ended(200, 0.02, route="bank")
    shop.ended(500, 0.02, route="bank", failed=True)
    shop.refused(failed=True)
    tallies.flush()
    minute.on(1)
    shop.ended(200, 1.5)
    tallies.flush()
    assert held(redis_url) == {"": (1, 1, 0), "bank": (2, 1, 2)}
    assert held(redis_url, minute.at) == {"": (1, 0, 1)}
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.ttl(key_of(minute_of(NOON))) <= KEEP


def test_a_report_that_is_sent_twice_or_arrives_late_counts_once(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for sequence, count in ((1, 5), (2, 9), (2, 9), (1, 5)):
            told(client, "one", sequence, NOON, count=count)
        told(client, "two", 1, NOON, count=3)
    assert held(redis_url) == {"": (12, 0, 12)}


def test_a_minute_without_requests_is_told_too_once_there_was_one(shop, tallies, told_of, redis_url, minute):
    told_of(redis_url)
    tallies.flush()
    assert held(redis_url) == {}, "a process that never served does not speak for the service"
    shop.ended(200, 0.02)
    tallies.flush()
    minute.on(1)
    tallies.flush()
    assert held(redis_url, minute.at) == {"": (0, 0, 0)}


def test_the_last_request_is_told_though_no_other_follows(shop, tallies, told_of, redis_url):
    told_of(redis_url)
    for _ in range(3):
        shop.ended(200, 0.02)
    tallies.flush()
    assert held(redis_url) == {"": (3, 0, 3)}


def test_while_redis_is_away_minutes_wait_and_no_request_does(
    shop, tallies, told_of, redis_url, minute, caplog
):
    told_of(f"redis://127.0.0.1:{free_port()}/0")
    shop.ended(200, 0.02)
    tallies.flush()
    minute.on(1)
    shop.ended(503, 0.02, failed=True)
    tallies.flush()
    assert sum("requests.untold" in record.message for record in caplog.records) == 1
    told_of(redis_url)
    tallies.flush()
    assert (held(redis_url), held(redis_url, minute.at)) == ({"": (1, 0, 1)}, {"": (1, 1, 1)})


def test_what_redis_forgot_is_told_again_as_far_as_it_is_still_held(
    shop, tallies, told_of, redis_url, minute
):
    told_of(redis_url)
    shop.ended(200, 0.02)
    tallies.flush()
    minute.on(1)
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    tallies.flush()  # hears that it speaks to one that remembers nothing
    tallies.flush()
    assert held(redis_url) == {"": (1, 0, 1)}


def test_a_process_holds_half_an_hour_and_no_more(shop, minute):
    for _ in range(3 * HELD):
        shop.ended(200, 0.02)
        minute.on(1)
    assert len(shop._minutes._minutes) == HELD
    assert len(shop.take_news(minute_of(minute.at))) <= HELD


def test_a_forked_child_does_not_tell_what_its_parent_counted(redis_url):
    code = """
import os
from regrow.request_counts import RequestCounts
from regrow.tallies import tallies
shop = RequestCounts("shop")
shop.ended(200, 0.02)
shop._lock.acquire()
if os.fork() == 0:
    shop.ended(500, 0.02, failed=True)
    tallies.flush()
    os._exit(0)
shop._lock.release()
os.wait()
"""
    before = current_minute()
    environ = {**os.environ, "REGROW_REDIS_URL": redis_url}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        texts = [
            text
            for at in range(before, current_minute() + 1)
            for source, text in client.hgetall(key_of(at)).items()
            if not source.startswith("#")
        ]
    counts = [part.count for text in texts for part in from_wire(text.partition(" ")[2])]
    assert len(texts) >= 2, "parent and child each tell under a name of their own"
    assert (sum(one.count for one in counts), sum(one.failed for one in counts)) == (2, 1)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        "nothing",
        '[["a","",1,2,""]]',
        '[["a","",1,0,"0*2"]]',
        '[["a","",1,0]]',
        '[[1,"",1,0,""]]',
    ],
)
def test_what_no_process_wrote_is_refused(text):
    with pytest.raises(ValueError):
        from_wire(text)
