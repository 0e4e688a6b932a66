"""What is remembered of purged letters, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.database import Database
from regrow.database.tables import dead_letter_tombstones, dead_letters, metadata
from regrow.dead_letters import archive_store, purging, retention, service, spool_entries, tombstones
from regrow.dead_letters.rules import State
from regrow.dead_letters.spool_parcels import Parcel
from regrow.engine import Engine
from tests.dead_letters.conftest import Clock, call, rows

DAY = 86_400


def _settle_and_purge(engine: Engine, clock: Clock, event: str) -> None:
    service.discard(engine, event, actor="ann", reason="test")
    clock.advance(8 * DAY)
    assert service.cleanup(engine)["purged"] == 1


def test_generations_go_on_after_the_purge_of_the_earlier_ones_until_the_cap(
    make_settings: Callable[..., Any], database_url: str, clock: Clock
) -> None:
    engine = Engine(
        make_settings(database_url=database_url, REGROW_DEAD_LETTERS__MAX_GENERATIONS="3"), clock=clock
    )
    engine.database.upgrade()
    for generation in (1, 2, 3):
        event = service.capture(engine, call(1, idempotency_key="order-1"))
        letter = service.show(engine, event).letter
        assert (letter.generation, letter.state) == (generation, "pending")
        _settle_and_purge(engine, clock, event)
    again, joined = (service.capture(engine, call(1, idempotency_key="order-1")) for _ in range(2))
    letter = service.show(engine, again).letter
    assert (letter.generation, letter.state, letter.seen) == (4, "quarantined", 2)
    assert service.show(engine, joined).letter.id == letter.id
    assert "settled 3 times" in str(letter.reason)
    assert service.read_ledger(engine).balanced
    engine.close()


def test_an_event_is_known_after_the_purge_however_long_its_letter_lived(
    letters: Engine, clock: Clock
) -> None:
    days = letters.settings.dead_letters.tombstone_days
    event = service.capture(letters, call(1))
    clock.advance((days + 10) * DAY)
    _settle_and_purge(letters, clock, event)
    clock.advance((days - 1) * DAY)
    assert service.cleanup(letters)["forgotten"] == 0
    service.capture(letters, call(1, event_id=event))
    assert service.list_letters(letters) == []
    clock.advance(2 * DAY)
    assert service.cleanup(letters)["forgotten"] == 1
    assert rows(letters.database, sa.select(dead_letter_tombstones)) == []


def test_a_spool_that_comes_back_after_tombstones_were_forgotten_waits_for_a_person(
    letters: Engine, clock: Clock
) -> None:
    days = letters.settings.dead_letters.tombstone_days
    old = replace(call(1), failed_at=clock())
    service.capture(letters, old)
    _settle_and_purge(letters, clock, old.event_id)
    clock.advance((days + 1) * DAY)
    service.cleanup(letters)
    young = replace(call(2), failed_at=clock() - timedelta(days=days - 1))
    entries = tuple(enumerate(map(spool_entries.to_bytes, (old, young)), 1))
    service.receive(letters, Parcel("source-1", 0, entries))
    first, second = (service.show(letters, one.event_id).letter for one in (old, young))
    assert (first.state, second.state) == ("quarantined", "pending")
    assert "may have been settled already" in str(first.reason)


def test_letters_that_an_earlier_version_purged_are_remembered_by_their_events(
    database_url: str, make_settings: Callable[..., Any], clock: Clock
) -> None:
    database = Database(database_url)
    database.upgrade("0008")
    event = {"letter_id": "gone", "source": "task", "received_at": clock()}
    with database.transaction() as connection:
        connection.execute(
            sa.insert(metadata.tables["capture_events"]),
            [{"event_id": "early", **event}, {"event_id": "late", **event}],
        )
    database.upgrade()
    [(letter_id, key)] = rows(
        database, sa.select(dead_letter_tombstones.c.letter_id, dead_letter_tombstones.c.idempotency_key)
    )
    assert (letter_id, key) == ("gone", None)
    engine = Engine(make_settings(database_url=database_url), clock=clock)
    service.capture(engine, call(1, event_id="late"))
    assert service.list_letters(engine) == []
    engine.close()
    database.close()


def test_letters_that_an_older_worker_purges_during_an_upgrade_are_found_remembered_and_forgotten(
    letters: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_CHUNK", 2)
    days = letters.settings.dead_letters.tombstone_days
    live = service.capture(letters, call(0))
    purged = service.capture(letters, call(1))
    stray = [service.capture(letters, call(2, idempotency_key="stray")) for _ in range(3)]
    other = service.capture(letters, call(3))
    _settle_and_purge(letters, clock, purged)
    gone = [service.show(letters, event).letter.id for event in (stray[0], other)]
    with letters.database.transaction() as connection:  # as a version without tombstones does it
        connection.execute(sa.delete(dead_letters).where(dead_letters.c.id.in_(gone)))
    service.cleanup(letters)
    assert _remembered(letters) & set(gone) == set()  # too young to be looked for
    clock.advance((days - 7) * DAY)
    assert service.cleanup(letters)["forgotten"] == 0
    assert _remembered(letters) >= set(gone)
    clock.advance((days - 1) * DAY)
    assert service.cleanup(letters)["forgotten"] == 1  # the one of the letter that left a tombstone
    service.capture(letters, call(2, event_id=stray[2]))
    assert [letter.id for letter in service.list_letters(letters)] == [service.show(letters, live).letter.id]
    clock.advance(2 * DAY)
    assert service.cleanup(letters)["forgotten"] == 4
    assert _remembered(letters) == set()
    assert service.show(letters, live).letter.state == "pending"


def _remembered(engine: Engine) -> set[object]:
    return {
        letter_id for (letter_id,) in rows(engine.database, sa.select(dead_letter_tombstones.c.letter_id))
    }


def test_strays_are_sought_by_indexes_in_chunks(
    mysql_url: str, make_settings: Callable[..., Any], clock: Clock
) -> None:
    engine = Engine(make_settings(database_url=mysql_url), clock=clock)
    engine.database.upgrade()
    for _ in range(4):
        service.capture_many(engine, [call(n) for n in range(100)])
        clock.advance(1)
    asked: list[tuple[str, object]] = []
    sa.event.listen(
        engine.database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, values, *_: asked.append((statement, values)),
    )
    with engine.database.transaction() as connection:
        first = tombstones.bury_strays(connection, clock(), None, 100, clock())
        assert first.last is not None
        tombstones.bury_strays(connection, clock(), first.last, 100, clock())
        connection.exec_driver_sql("ANALYZE TABLE capture_events").all()
        plans = [
            connection.exec_driver_sql(f"EXPLAIN {text}", values).mappings().all()
            for text, values in asked[:2]
        ]
    for plan in plans:
        by = {row["table"]: row["key"] for row in plan}
        assert by["capture_events"] == "ix_capture_events_received_at"
        assert {by["dead_letters"], by["dead_letter_tombstones"]} == {"PRIMARY"}
        assert not [row for row in plan if "filesort" in (row["Extra"] or "")]
    engine.close()


@pytest.mark.parametrize("query", [purging.settled_before, archive_store.due_in])
def test_what_is_due_for_purge_is_read_in_the_order_of_an_index(
    mysql_url: str, make_settings: Callable[..., Any], clock: Clock, query: Callable[..., sa.Select[Any]]
) -> None:
    engine = Engine(make_settings(database_url=mysql_url), clock=clock)
    engine.database.upgrade()
    events = service.capture_many(engine, [call(n) for n in range(400)])
    service.settle_many(engine, [f"{service.show(engine, event).letter.id}:t" for event in events[:300]])
    chosen = query(State.RESOLVED, clock() + timedelta(1), 50)
    text = chosen.compile(engine.database.engine, compile_kwargs={"literal_binds": True})
    with engine.database.transaction() as connection:
        for table in ("dead_letters", "dead_letter_bodies", "archived_letters"):
            connection.exec_driver_sql(f"ANALYZE TABLE {table}").all()
        plan = connection.exec_driver_sql(f"EXPLAIN {text}").mappings().all()
    [letters] = [row for row in plan if row["table"] == "dead_letters"]
    assert letters["key"] == "ix_dead_letters_state_settled_at"
    assert not [row for row in plan if "filesort" in row["Extra"] or "temporary" in row["Extra"]]
    engine.close()
