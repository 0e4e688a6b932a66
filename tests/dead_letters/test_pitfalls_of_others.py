"""Where dead-letter queues of others break: each pitfall of the field as a test that ours passes.

Those of brokers and of a retry of all are tested where they are at home; ``test_design`` has the whole table.
"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.database.tables import capture_events, dead_letters
from regrow.dead_letters import service, store
from regrow.dead_letters.captured import of_message
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.home import attempt_reference
from regrow.engine import Engine
from tests.dead_letters.conftest import Clock, Post, call, free, take


@pytest.fixture
def engine(make_settings, sqlite_url: str, clock: Clock, post: Post):
    engine = Engine(make_settings(database_url=sqlite_url), sender=post, clock=clock)
    engine.database.upgrade()
    yield engine
    engine.close()


def _letter(engine: Engine, event: str) -> store.Letter:
    return service.show(engine, event).letter


def _redrive(engine: Engine, clock: Clock) -> dict[str, int]:
    clock.advance(60)
    return service.process_batch(engine, held=free)


# Loss


def test_sidekiq_keeps_the_last_error_only(engine: Engine, clock: Clock, post: Post) -> None:
    event = service.capture(engine, call(error=ValueError("first"), max_retries=9))
    for word in ("second", "third"):
        _redrive(engine, clock)
        service.record_failure(engine, post.attempts[-1], word)
    found = service.show(engine, event)
    assert found.letter.error_message == "first"
    assert [attempt.error for attempt in found.attempts] == ["second", "third"]


def test_sidekiq_cuts_messages_at_ten_thousand_characters(engine: Engine) -> None:
    long = "x" * 200_000
    event = service.capture(engine, of_message({"text": long}, error=long, message_type="mail"))
    found = service.show(engine, event)
    assert json.loads(found.body.body) == {"text": long}
    assert found.letter.error_message == long


def test_the_oldest_are_dropped_past_a_cap_and_discarded_ones_after_a_minute(
    engine: Engine, clock: Clock
) -> None:
    """Sidekiq past 10,000, baldur past its cap, Oban after 60 s."""
    events = service.capture_many(engine, [call(n, max_retries=0) for n in range(10)])
    service.discard(engine, events[0], actor="ann", reason="refunded")
    clock.advance(120)
    service.cleanup(engine)
    assert service.counts(engine) == service.counts(engine) | {"quarantined": 9, "discarded": 1}
    clock.advance(3650 * 86400)
    service.cleanup(engine, 0)
    assert service.counts(engine)["quarantined"] == 9, "what is not settled stays, however old it is"


def test_bulk_requeue_pops_first_and_pushes_second(
    engine: Engine, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RQ and Sidekiq: a crash between the two loses the job."""

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    events = service.capture_many(engine, [call(n) for n in range(5)])
    send = post.send_home
    monkeypatch.setattr(post, "send_home", die)
    with pytest.raises(Killed):
        _redrive(engine, clock)
    monkeypatch.setattr(post, "send_home", send)
    assert {_letter(engine, event).state for event in events} == {"leased"}
    clock.advance(3600)
    _redrive(engine, clock)
    assert sorted(message.args[0] for _, message in post.home) == list(range(5))


def test_hookrelay_writes_the_dedupe_marker_before_the_data(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between them strands the event and refuses it for ever."""
    captured = call()
    insert = store.insert

    def crash(connection: sa.Connection, *rows: object) -> None:
        insert(connection, *rows)
        raise RuntimeError("killed before the commit")

    monkeypatch.setattr(store, "insert", crash)
    with pytest.raises(RuntimeError):
        service.capture(engine, captured)
    with engine.database.snapshot() as connection:
        for table in (capture_events, dead_letters):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0
    monkeypatch.undo()
    service.capture(engine, captured)
    assert _letter(engine, captured.event_id).state == "pending"


# Settled twice


def test_baldur_lets_a_worker_with_a_stale_lease_settle_and_its_failure_undo_a_success(
    engine: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(engine, call())
    clock.advance(60)
    [stale] = take(engine, owner="stale")
    _redrive(engine, clock)
    assert service.settle(engine, post.attempts[-1])
    resolved = _letter(engine, event)
    reference = attempt_reference(stale.letter.id, stale.token)
    assert service.record_failure(engine, reference, "too late") is None
    assert service.settle(engine, reference) is False
    assert _letter(engine, event) == resolved
    assert [a.outcome for a in service.show(engine, event).attempts] == ["succeeded_again", "succeeded"]


def test_an_eta_beyond_the_visibility_timeout_is_delivered_twice(
    engine: Engine, clock: Clock, post: Post
) -> None:
    """Ours wait in the database: what goes home is to be run at once."""
    body = json.dumps([[1], {}, {}]).encode()
    headers = {"task": "shop.charge", "id": "t-1", "eta": "2030-01-01T00:00:00+00:00", "expires": None}
    captured = call()
    waiting = type(captured)(
        **{**vars(captured), "body": body, "headers": headers, "event_id": "e-1", "idempotency_key": "k"}
    )
    service.capture(engine, waiting)
    _redrive(engine, clock)
    assert post.home[-1][1].headers["eta"] is None


# Redrive


def test_attempt_counters_alone_kill_good_messages_in_an_outage(
    make_settings, sqlite_url: str, clock: Clock, post: Post
) -> None:
    """28 of 57 parked in the first minute of an outage of 2.75 h; none here, with nobody's breaker to help."""
    settings = make_settings(database_url=sqlite_url, REGROW_PROFILE="production")
    engine = Engine(settings, sender=post, clock=clock)
    engine.database.upgrade()
    service.capture_many(engine, [call(n, error=TimeoutError(), max_retries=3) for n in range(57)])
    end = clock.now + timedelta(hours=2.75)
    sent = 0
    while clock.now < end:
        clock.advance(300)
        service.process_batch(engine, held=free)
        for attempt in post.attempts[sent:]:
            service.record_failure(engine, attempt, "timeout", Cause(("TimeoutError",)))
        sent = len(post.home)
    assert service.counts(engine)["quarantined"] == 0
    assert max(letter.attempts for letter in service.list_letters(engine)) > 3
    clock.advance(3600)
    service.process_batch(engine, held=free)
    assert all(service.settle_many(engine, post.attempts[sent:]))
    assert service.counts(engine)["resolved"] == 57
    engine.close()


def test_history_is_lost_with_each_retry_by_hand(engine: Engine, clock: Clock, post: Post) -> None:
    event = service.capture(engine, call(max_retries=1))
    _redrive(engine, clock)
    service.record_failure(engine, post.attempts[-1], "no funds")
    service.retry(engine, event, actor="ann", reason="paid in")
    _redrive(engine, clock)
    service.settle(engine, post.attempts[-1])
    assert [(a.outcome, a.error) for a in service.show(engine, event).attempts] == [
        ("failed", "no funds"),
        ("succeeded", None),
    ]


def test_a_discard_needs_no_reason(engine: Engine) -> None:
    event = service.capture(engine, call())
    with pytest.raises(Exception, match="needs a reason"):
        service.discard(engine, event, actor="ann", reason=" ")
