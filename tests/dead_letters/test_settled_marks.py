"""A copy of a settled letter is known by its mark; without Redis nothing is known, and nobody waits."""

from __future__ import annotations

from pathlib import Path

import redis

from regrow.dead_letters import service
from regrow.dead_letters.home import HEADER, parse_reference
from regrow.dead_letters.settled_marks import REST, SettledMarks, mark_key
from regrow.engine import Engine
from tests.dead_letters.conftest import Clock, Post, call, free


def test_an_outcome_marks_its_letter_and_a_publish_that_settles_does_not(
    make_settings, redis_url: str, tmp_path: Path, clock: Clock, post: Post
) -> None:
    engine = Engine(
        make_settings(redis_url=redis_url, database_url=f"sqlite:///{tmp_path / 'r.sqlite3'}"),
        sender=post,
        clock=clock,
    )
    engine.database.upgrade()
    for number, confirm in enumerate(("outcome", "publish")):
        service.capture(engine, call(number, confirm=confirm))
    clock.advance(60)
    service.process_batch(engine, held=free)
    # Which of the two goes home first is left to the jitter of their delays; each knows its number.
    home = {message.args[0]: parse_reference(message.headers[HEADER])[0] for _, message in post.home}
    ran, published = home[0], home[1]
    marks = SettledMarks()
    assert not marks.has(engine.redis, ran)
    service.settle_many(engine, post.attempts)
    assert marks.has(engine.redis, ran)
    assert 0 < engine.redis.ttl(mark_key(ran)) <= 86_400
    assert not marks.has(engine.redis, published), "its message still waits to be run"
    engine.close()


def test_a_redis_that_fails_is_left_alone_for_a_while() -> None:
    now, asked = [0.0], []

    class Failing:
        def get(self, key: str) -> None:
            asked.append(key)
            raise redis.ConnectionError("away")

        def pipeline(self, **_: object) -> None:
            raise redis.ConnectionError("away")

    marks = SettledMarks(clock=lambda: now[0])
    assert [marks.has(Failing(), "a") for _ in range(3)] == [False] * 3
    marks.write(Failing(), ["a"])
    assert len(asked) == 1
    now[0] += REST
    assert not marks.has(Failing(), "a")
    assert len(asked) == 2
