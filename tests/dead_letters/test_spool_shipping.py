"""Shipping: sent until it was received, deleted only then; nobody holds up anybody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

import regrow
from regrow import configuration, dead_letters
from regrow.dead_letters import service, spooling
from regrow.dead_letters.receiving import EngineDestination
from regrow.dead_letters.spool import Spool
from regrow.dead_letters.spool_parcels import Parcel, receipt_key
from regrow.dead_letters.spool_shipping import (
    ADOPT,
    FIRST_PATIENCE,
    LONGEST_PATIENCE,
    LOOK,
    WINDOW,
    BrokerDestination,
    Shipper,
)
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from tests.dead_letters.conftest import Post, call
from tests.waiting import eventually


@dataclass
class Regrow:
    """A destination that keeps what it was sent, and says what has been received when the test does."""

    parcels: list[Parcel] = field(default_factory=list)
    watermark: dict[str, int] = field(default_factory=dict)
    away: bool = False
    refused: set[bytes] = field(default_factory=set)
    at_once: bool = False

    def ship(self, parcel: Parcel) -> int | None:
        if self.away:
            raise StoreUnavailableError("the broker is away")
        if any(entry in self.refused for _, entry in parcel.entries):
            raise ValueError("too large for this broker")
        self.parcels.append(parcel)
        return parcel.last if self.at_once else None

    def received(self, source: str) -> int | None:
        return self.watermark.get(source)

    @property
    def numbers(self) -> list[int]:
        return [number for parcel in self.parcels for number, _ in parcel.entries]


class Shipment:
    """A spool, its shipper, driven by hand, and the clock they go by."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.regrow = Regrow()
        self.spool = Spool(folder, segment_bytes=200)
        self.shipper = Shipper(self.spool, lambda: self.regrow, clock=lambda: self.now)

    @property
    def source(self) -> str:
        assert self.spool.source is not None
        return self.spool.source.name

    def append(self, many: int) -> None:
        for _ in range(many):
            self.spool.append([b"x" * 80])


@pytest.fixture
def shipment(tmp_path: Path) -> Iterator[Shipment]:
    made = Shipment(tmp_path / "spool")
    yield made
    made.shipper.close()


def test_entries_stay_until_they_were_received_however_often_they_were_sent(shipment: Shipment) -> None:
    shipment.append(5)
    assert shipment.shipper.round() == LOOK
    assert shipment.regrow.numbers == [1, 2, 3, 4, 5]
    held = shipment.spool.bytes_held
    shipment.regrow.watermark[shipment.source] = 3
    shipment.shipper.round()
    assert shipment.regrow.numbers == [1, 2, 3, 4, 5], "sent once while there is hope"
    assert 0 < shipment.spool.bytes_held < held
    shipment.regrow.watermark[shipment.source] = 5
    assert shipment.shipper.round() == ADOPT
    assert shipment.spool.bytes_held == 0


def test_what_a_flushed_broker_forgot_is_sent_again_after_pauses_that_grow(shipment: Shipment) -> None:
    shipment.append(2)
    shipment.shipper.round()
    times, before = [], shipment.now
    for _ in range(8):
        sent = len(shipment.regrow.parcels)
        while len(shipment.regrow.parcels) == sent:
            shipment.now += 1.0
            shipment.shipper.round()
        times.append(shipment.now - before)
        before = shipment.now
    assert shipment.regrow.numbers == [1, 2] * 9
    assert times == [min(FIRST_PATIENCE * 2**n, LONGEST_PATIENCE) for n in range(8)]
    assert shipment.spool.read(0), "and it is still kept"


def test_only_so_many_are_on_their_way_at_a_time(shipment: Shipment) -> None:
    shipment.spool.append([b"x"] * (WINDOW + 500))
    shipment.shipper.round()
    assert shipment.regrow.numbers == list(range(1, WINDOW + 1))
    shipment.regrow.watermark[shipment.source] = 100
    shipment.shipper.round()
    assert shipment.regrow.numbers == list(range(1, WINDOW + 101))


def test_while_the_broker_is_away_everything_stays_and_the_pauses_grow(shipment: Shipment) -> None:
    shipment.append(3)
    shipment.regrow.away = True
    pauses = [shipment.shipper.round() for _ in range(9)]
    assert pauses[0] < 1.0
    assert 10 < pauses[-1] < 20
    shipment.regrow.away = False
    shipment.shipper.round()
    assert shipment.regrow.numbers == [1, 2, 3]


@pytest.mark.parametrize("at_once", [True, False])
def test_an_entry_that_the_broker_will_not_take_holds_up_none_and_is_kept(
    shipment: Shipment, at_once: bool
) -> None:
    shipment.regrow.at_once = at_once
    shipment.spool.append([b"one", b"huge", b"three"])
    shipment.regrow.refused = {b"huge"}
    shipment.shipper.round()
    assert shipment.regrow.numbers == [1, 3]
    assert [entry.number for entry in shipment.spool.read(1)] == [2, 3]
    shipment.regrow.refused = set()
    shipment.now += FIRST_PATIENCE
    shipment.shipper.round()
    assert 2 in shipment.regrow.numbers, "tried again, once the broker may take it"


def test_without_regrows_redis_the_brokers_word_is_the_receipt(shipment: Shipment, caplog) -> None:
    post = Post()
    shipper = Shipper(shipment.spool, lambda: BrokerDestination(post, None))
    shipment.append(3)
    assert shipper.round() == ADOPT
    ((task, kwargs, queue),) = post.sent
    assert (task, queue) == ("regrow.dead_letters.receive", "regrow.capture")
    assert [number for number, _ in Parcel.from_wire(kwargs["parcel"]).entries] == [1, 2, 3]
    assert shipment.spool.bytes_held == 0
    assert caplog.text.count("spool.receipts_from_broker") == 1


def test_receipts_are_read_from_redis_and_a_redis_that_is_away_only_delays(
    shipment: Shipment, redis_url: str
) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    to = BrokerDestination(Post(), client)
    assert to.received("nobody") is None
    client.set(receipt_key("somebody"), 7)
    assert to.received("somebody") == 7
    gone = redis.Redis(port=1, socket_connect_timeout=0.2)
    assert BrokerDestination(Post(), gone).received("somebody") is None


def test_what_dead_processes_left_is_shipped_and_then_gone(shipment: Shipment, tmp_path: Path) -> None:
    children = []
    for number in range(2):
        if (child := os.fork()) == 0:
            try:
                Spool(tmp_path / "spool").append([b"left by %d" % number])
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    shipment.shipper.round()
    assert sorted(entry for parcel in shipment.regrow.parcels for _, entry in parcel.entries) == [
        b"left by 0",
        b"left by 1",
    ]
    shipment.regrow.watermark = {parcel.source: 1 for parcel in shipment.regrow.parcels}
    shipment.shipper.round()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_process_that_has_the_database_takes_its_commit_as_the_receipt(
    make_settings, tmp_path: Path
) -> None:
    engine = Engine(make_settings(database_url=f"sqlite:///{tmp_path / 'r.sqlite3'}"))
    engine.database.upgrade()
    made = spooling.Spooled(tmp_path / "spool", lambda: EngineDestination(engine))
    made.keep([call(1), call(2)])
    eventually(lambda: made.spool.bytes_held == 0)
    assert service.counts(engine)["pending"] == 2
    made.close()
    engine.close()


def test_the_librarys_capture_returns_when_it_is_on_disk_and_ships_when_the_broker_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "_told", configuration.Configuration())
    monkeypatch.setattr(spooling, "_spooled", {})
    monkeypatch.delenv("REGROW_REDIS_URL", raising=False)
    post = Post(away=True)
    dead_letters.send_through(post)
    try:
        regrow.configure(spool=str(tmp_path / "spool"))
        first = dead_letters.capture({"a": 1}, message_type="t")
        others = dead_letters.capture_many([{"message": n, "message_type": "t"} for n in range(600)])
        assert len({first, *others}) == 601
        (made,) = spooling._spooled.values()
        assert made.spool.last == 601
        assert not post.sent
        post.away = False
        eventually(lambda: made.spool.bytes_held == 0, 30)
        shipped = [
            number for _, kwargs, _ in post.sent for number, _ in Parcel.from_wire(kwargs["parcel"]).entries
        ]
        assert shipped == list(range(1, 602))
        made.close()
    finally:
        dead_letters.send_through(None)


def test_what_comes_in_a_storm_travels_together(tmp_path: Path) -> None:
    to = Regrow(at_once=True)
    made = spooling.Spooled(tmp_path / "spool", lambda: to)
    for number in range(100):
        made.keep([call(number)])
    eventually(lambda: len(to.numbers) == 100)
    assert len(to.parcels) < 50
    made.close()
