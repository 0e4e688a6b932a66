"""A sealed spool: the app's disk gives nothing away, Regrow's workers read it, and wait for their key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from regrow.dead_letters import sealing, service, spool_entries, spool_sealing, unfiled
from regrow.dead_letters.captured import of_message
from regrow.dead_letters.spool_parcels import Parcel
from regrow.dead_letters.spooling import Spooled
from regrow.engine import Engine
from regrow.errors import KeyUnavailableError, LetterRefusedError, SettingsError
from regrow.settings import Settings
from tests.dead_letters.conftest import Clock
from tests.waiting import eventually

SECRET = "4711-very-secret"


@pytest.fixture
def make_engine(make_settings: Callable[..., Settings], sqlite_url: str) -> Iterator[Callable[..., Engine]]:
    """``make_engine(now=FILE)``: an engine on the same database, with these private keys."""
    opened: list[Engine] = []

    def make(**keys: Path) -> Engine:
        chosen = make_settings(database_url=sqlite_url)
        letters = chosen.dead_letters.model_copy(update={"spool_keys": keys})
        engine = Engine(chosen.model_copy(update={"dead_letters": letters}), clock=Clock())
        engine.database.upgrade()
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        engine.close()


def _pair(folder: Path, name: str) -> tuple[Path, str]:
    private, public = spool_sealing.new_pair()
    file = folder / name
    file.write_text(sealing.text_of_key(private))
    return file, public


def test_what_an_app_spools_is_sealed_and_regrow_reads_it(
    make_engine: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, public = _pair(tmp_path, "now")
    monkeypatch.setenv("REGROW_SPOOL_KEY", public)
    shipped: list[Parcel] = []
    spooled = Spooled(tmp_path / "spool", lambda: _Collect(shipped))
    captured = of_message({"text": SECRET}, message_type="mail")
    spooled.keep([captured])
    eventually(lambda: bool(shipped))
    spooled.close()
    on_disk = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    parcels = b"".join(entry for parcel in shipped for _, entry in parcel.entries)
    assert on_disk
    assert SECRET.encode() not in on_disk + parcels
    engine = make_engine(now=file)
    for parcel in shipped:
        service.receive(engine, parcel)
    assert SECRET in service.show(engine, captured.event_id).text


class _Collect:
    """A destination that takes all and gives no receipt: what was shipped stays on the disk, too."""

    def __init__(self, shipped: list[Parcel]) -> None:
        self._shipped = shipped

    def ship(self, parcel: Parcel) -> int | None:
        self._shipped.append(parcel)
        return None

    def received(self, source: str) -> int | None:
        del source
        return None


def _parcel(public: str, *, harm: bool = False) -> tuple[str, Parcel]:
    captured = of_message({"text": SECRET}, message_type="mail")
    key = spool_sealing.public_of_text(public)
    entry = spool_sealing.seal(key, spool_entries.to_bytes(captured))
    entry = entry[:-1] + bytes([entry[-1] ^ 1]) if harm else entry
    return captured.event_id, Parcel("9f0c41c15e1d4f7a8c1f7c9d2b3e5a60", 0, ((1, entry),), host="app-1")


def test_entries_wait_for_a_key_that_is_missing_and_older_keys_still_open(
    make_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    old, public = _pair(tmp_path, "old")
    new, _ = _pair(tmp_path, "new")
    event, parcel = _parcel(public)
    with pytest.raises(KeyUnavailableError, match="spool_keys"):
        service.receive(make_engine(new=new), parcel)
    engine = make_engine(new=new, old=old)
    assert service.receive(engine, parcel) == 1
    assert SECRET in service.show(engine, event).text


def test_an_entry_that_was_changed_is_set_aside_still_sealed(
    make_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    file, public = _pair(tmp_path, "now")
    _, parcel = _parcel(public, harm=True)
    engine = make_engine(now=file)
    assert service.receive(engine, parcel) == 1
    [left] = (engine.settings.home / unfiled.FOLDER).iterdir()
    assert SECRET not in left.read_text()


def test_a_plain_entry_is_read_beside_sealed_ones() -> None:
    assert spool_sealing.opened({}, b'{"capture": {}}') == b'{"capture": {}}'


@pytest.mark.parametrize("text", ["", "x25519:", "x25519:c2hvcnQ=", "hunter2", "x25519:%%%"])
def test_what_is_no_public_key_is_refused_before_anything_is_spooled(
    text: str,
) -> None:
    with pytest.raises(SettingsError, match="REGROW_SPOOL_KEY"):
        spool_sealing.public_of_text(text)


def test_a_sealed_entry_opens_with_its_own_key_alone() -> None:
    (mine, public), (other, _) = spool_sealing.new_pair(), spool_sealing.new_pair()
    entry = spool_sealing.seal(spool_sealing.public_of_text(public), b"told")
    mark = spool_sealing.mark_of_private(mine)
    privates: Mapping[bytes, bytes] = {mark: mine}
    assert spool_sealing.opened(privates, entry) == b"told"
    with pytest.raises(LetterRefusedError):
        spool_sealing.opened({mark: other}, entry)
