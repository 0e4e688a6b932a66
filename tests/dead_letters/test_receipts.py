"""What was received of a spool is known exactly, kept with the letters, and what is missing is told."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.dead_letters import capturing, receiving, service, settling, spool_entries
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.receipts import MOST_RANGES, Received, as_ranges, count_new, receive
from regrow.dead_letters.sources import PATIENCE, forget_old
from regrow.dead_letters.spool_entries import Outcome
from regrow.dead_letters.spool_parcels import Parcel, receipt_key
from regrow.engine import Engine
from regrow.errors import DiskUnavailableError, LetterRefusedError, StoreUnavailableError
from tests.dead_letters.conftest import Clock, Post, call, free

NUMBERS = st.sets(st.integers(1, 60))


def known(received: Received) -> set[int]:
    beyond = {n for first, last in received.beyond for n in range(first, last + 1)}
    return set(range(1, received.watermark + 1)) | beyond


@given(st.lists(NUMBERS, max_size=8))
def test_numbers_in_any_order_and_more_than_once_are_known_exactly(batches: list[set[int]]) -> None:
    received, model = Received(), set()
    for batch in batches:
        assert count_new(received, as_ranges(batch)) == len(batch - model)
        received, model = receive(received, as_ranges(batch)), model | batch
    assert known(received) == model
    missing = set(range(1, max(model, default=0))) - model
    assert {n for first, last in received.gaps for n in range(first, last + 1)} == missing
    assert received.missing == len(missing)
    assert all(first > received.watermark + 1 for first, _ in received.beyond)


def test_ranges_beyond_the_bound_are_forgotten_from_the_far_end_and_come_again() -> None:
    odd = receive(Received(), [(n, n) for n in range(3, 1003, 2)])
    assert (odd.watermark, len(odd.beyond)) == (0, MOST_RANGES)
    assert receive(odd, [(1, 1002)]) == Received(1002)


def test_a_parcel_and_its_entries_survive_the_wire() -> None:
    told = [call(7), Outcome("letter:token"), Outcome("letter:token", "ValueError: ä")]
    parcel = Parcel(
        "s", 3, tuple((4 + n, spool_entries.to_bytes(each)) for n, each in enumerate(told)), ((9, 11),), "h"
    )
    again = Parcel.from_wire(json.loads(json.dumps(parcel.to_wire())))
    assert again == parcel
    assert [spool_entries.from_bytes(entry) for _, entry in again.entries] == told
    assert parcel.last == 11


@pytest.mark.parametrize(
    "entry", [b"", b"[]", b"{}", b'{"outcome": {"attempt": 7}}', b'{"capture": 1}', b"\xff"]
)
def test_an_entry_that_nobody_can_read_is_refused(entry: bytes) -> None:
    with pytest.raises(LetterRefusedError):
        spool_entries.from_bytes(entry)


def parcel(*numbers: int, after: int = 0, **more: object) -> Parcel:
    entries = tuple((n, spool_entries.to_bytes(call(n, event_id=f"event-{n}"))) for n in numbers)
    return Parcel("source-1", after, entries, host="app-1", **more)


def test_captures_and_their_receipt_are_one_transaction(letters: Engine, monkeypatch) -> None:
    assert service.receive(letters, parcel(1, 2)) == 2
    assert service.receive(letters, parcel(2, 3)) == 3, "told twice, kept once"
    assert service.counts(letters)["pending"] == 3

    def fails(*_: object, **__: object) -> int:
        raise StoreUnavailableError("in between")

    monkeypatch.setattr(receiving.sources, "note", fails)
    with pytest.raises(StoreUnavailableError):
        service.receive(letters, parcel(4))
    assert service.counts(letters)["pending"] == 3, "no receipt, no letter"


def test_a_gap_that_stays_is_told_and_one_that_closes_is_not(letters: Engine, clock: Clock) -> None:
    assert service.receive(letters, parcel(1, 2, 5, 9)) == 2
    (source,) = service.list_sources(letters)
    assert source.received.gaps == ((3, 4), (6, 8))
    assert service.count_sources(letters).missing == 0, "it may still be on its way"
    clock.advance(PATIENCE.total_seconds() + 1)
    service.receive(letters, parcel(9))
    assert service.count_sources(letters).missing == 5
    assert service.list_sources(letters)[0].has_gap(clock())
    assert service.receive(letters, parcel(3, 4, 6, 7, 8)) == 9
    assert service.count_sources(letters).missing == 0
    assert not service.list_sources(letters)[0].has_gap(clock() + timedelta(days=1))


def test_what_a_disk_damaged_is_counted_once_and_no_longer_waited_for(letters: Engine) -> None:
    for _ in range(2):
        assert service.receive(letters, parcel(1, 2, 6, lost=((2, 5),))) == 6
    counts = service.count_sources(letters)
    assert (counts.sources, counts.missing, counts.lost) == (1, 0, 3), "the second had been received"


def test_silent_sources_are_forgotten_unless_they_miss_something(letters: Engine, clock: Clock) -> None:
    service.receive(letters, parcel(1, 2))
    service.receive(letters, replace(parcel(1, 3), source="gap"))
    service.receive(letters, replace(parcel(1, 3, lost=((2, 2),)), source="loss"))
    clock.advance(91 * 86_400)
    assert forget_old(letters) == 1
    assert {source.source for source in service.list_sources(letters)} == {"gap", "loss"}


def test_a_source_that_is_not_known_begins_where_it_says(letters: Engine) -> None:
    assert service.receive(letters, parcel(57, 58, after=56)) == 58
    assert service.receive(letters, parcel(70, after=69)) == 58, "of a known one, the database's word counts"


def test_outcomes_settle_through_a_spool_too(letters: Engine, clock: Clock, post: Post) -> None:
    events = [service.capture(letters, call(n)) for n in (1, 2)]
    clock.advance(60)
    service.process_batch(letters, held=free)
    for number, (attempt, error) in enumerate(zip(post.attempts, (None, "ValueError: no"), strict=True), 1):
        entry = spool_entries.to_bytes(Outcome(attempt, error))
        for _ in range(2):
            assert service.receive(letters, Parcel("s", 0, ((number, entry),))) == number
    states = {service.show(letters, event).letter.state.value for event in events}
    assert states == {"resolved", "pending"}
    assert service.receive(letters, Parcel("s", 0, ((3, spool_entries.to_bytes(Outcome("nobody"))),))) == 3
    assert settling.settle(letters, post.attempts[0]) is False


def test_what_cannot_be_a_letter_is_kept_as_a_file_and_holds_up_nothing(letters: Engine) -> None:
    one, two = parcel(1, 2).entries
    assert service.receive(letters, Parcel("s", 0, (one, (2, b"from the future"), (3, two[1])))) == 3
    assert service.counts(letters)["pending"] == 2
    (file,) = (letters.settings.home / "unfiled").glob("*.json")
    assert "s:2" in file.read_text()


def test_on_a_full_disk_a_parcel_waits_and_holds_up_none_of_its_captures(letters: Engine) -> None:
    letters.settings.home.mkdir(parents=True, exist_ok=True)
    in_the_way = letters.settings.home / "unfiled"
    in_the_way.write_text("of the folder")
    one, two = parcel(1, 2).entries
    told = Parcel("s", 0, (one, (2, b"from the future"), (3, two[1])))
    with pytest.raises(DiskUnavailableError):
        service.receive(letters, told)
    assert service.counts(letters)["pending"] == 2
    assert service.list_sources(letters) == [], "no receipt for what is nowhere yet"
    in_the_way.unlink()
    assert service.receive(letters, told) == 3
    assert service.counts(letters)["pending"] == 2
    assert len(list(in_the_way.iterdir())) == 1


def test_the_receipt_is_published_where_the_app_looks(make_settings, redis_url: str, tmp_path) -> None:
    engine = Engine(make_settings(redis_url=redis_url, database_url=f"sqlite:///{tmp_path / 'r.sqlite3'}"))
    engine.database.upgrade()
    service.receive(engine, parcel(1, 2))
    assert engine.redis.get(receipt_key("source-1")) == "2"
    assert 0 < engine.redis.ttl(receipt_key("source-1")) <= 7 * 86_400
    engine.close()


def test_one_that_the_database_does_not_take_holds_up_nothing(letters: Engine, monkeypatch) -> None:
    keep = capturing._keep

    def refuses(engine: Engine, connection: object, chunk: list[Capture]) -> object:
        if any(captured.event_id == "event-2" for captured in chunk):
            raise ValueError("not in this column")
        return keep(engine, connection, chunk)

    monkeypatch.setattr(capturing, "_keep", refuses)
    assert service.receive(letters, parcel(1, 2, 3)) == 3
    assert len(service.list_letters(letters)) == 2
    (file,) = (letters.settings.home / "unfiled").iterdir()
    assert '"event_id": "source-1:2"' in file.read_text()


def test_an_entry_that_breaks_its_reader_holds_up_nothing(letters: Engine) -> None:
    deep = b"[" * 100_000
    assert service.receive(letters, Parcel("source-1", 0, ((1, deep),))) == 1
    assert len(list((letters.settings.home / "unfiled").iterdir())) == 1


def test_a_database_that_was_set_back_keeps_no_source_where_it_is(letters: Engine, clock: Clock) -> None:
    service.receive(letters, parcel(1, 2))
    late = parcel(9, 10, after=8)
    assert service.receive(letters, late) == 2, "3 to 8 may be on their way"
    clock.advance(16 * 60)
    assert service.receive(letters, parcel(11, after=8)) == 11
    (source,) = service.list_sources(letters)
    assert (source.lost, source.gap_since) == (6, None)
