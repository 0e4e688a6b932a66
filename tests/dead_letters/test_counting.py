"""How long redriven letters take, as the metrics tell it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from regrow import counters, metrics
from regrow.dead_letters import service
from regrow.engine import Engine
from tests.dead_letters.conftest import Clock, Post, call, free, return_overdue


def test_each_redrive_is_counted_once_from_dispatch_to_outcome(
    make_settings, redis_url: str, sqlite_url: str, clock: Clock, post: Post
) -> None:
    engine = Engine(make_settings(redis_url, sqlite_url), sender=post, clock=clock)
    engine.database.upgrade()
    for number in (1, 2):
        service.capture(engine, call(number))
    clock.advance(3600)
    service.process_batch(engine, held=free)
    first, second = post.attempts
    clock.advance(2)
    assert service.settle_many(engine, [first, first]) == [True, False]
    clock.advance(5)
    service.record_failure(engine, second, "no funds")
    service.record_failure(engine, second, "no funds")

    nothing = dict.fromkeys(metrics.Readings.__dataclass_fields__)
    readings = metrics.Readings(**{**nothing, "counters": counters.read(engine)})
    text = metrics.exposition(readings, clock(), clock()).decode()
    (family,) = (
        family
        for family in text_string_to_metric_families(text)
        if family.name == "dlq_processing_duration_seconds"
    )
    told = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    name = "dlq_processing_duration_seconds"
    assert (told[f"{name}_count", None], told[f"{name}_sum", None]) == (2, 9.0)
    assert [told[f"{name}_bucket", end] for end in ("1.0", "5.0", "10.0")] == [0, 1, 2]
    engine.close()


def test_a_late_success_is_counted_from_the_dispatch_of_its_own_attempt(
    make_settings, redis_url: str, sqlite_url: str, clock: Clock, post: Post
) -> None:
    engine = Engine(make_settings(redis_url, sqlite_url), sender=post, clock=clock)
    engine.database.upgrade()
    service.capture(engine, call())
    for _ in range(2):
        clock.advance(3600)
        service.process_batch(engine, held=free)
        clock.advance(engine.settings.dead_letters.outcome_deadline + 1)
        return_overdue(engine)
    clock.advance(3600)
    service.process_batch(engine, held=free)
    before, _, _ = post.attempts
    dispatched = 2 * 3600 + 2 * (engine.settings.dead_letters.outcome_deadline + 1)
    clock.advance(1)
    assert service.settle(engine, before)
    (took,) = counters.read(engine)["dlq_processing_duration_milliseconds"].values()
    assert took == 1000 * (dispatched + 1)
    engine.close()
