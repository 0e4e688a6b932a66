"""The spool: what it accepted is on disk, is read back whole, and is never evicted, whoever dies."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.dead_letters.spool import Spool
from regrow.dead_letters.spool_records import encode, scan
from regrow.dead_letters.spool_source import Entry, Lost, Source
from regrow.errors import LetterRefusedError, SettingsError, SpoolUnavailableError
from tests.waiting import eventually

PAYLOADS = st.lists(st.binary(max_size=60), min_size=1, max_size=8)


def payloads(found: list[Entry | Lost]) -> list[bytes]:
    return [entry.payload for entry in found if isinstance(entry, Entry)]


def adopted(folder: Path) -> list[Source]:
    return list(Source.adopt(folder))


# Records


@given(PAYLOADS, st.data())
def test_a_torn_end_never_costs_a_record_before_it(written: list[bytes], data: st.DataObject) -> None:
    records = [encode(number, payload) for number, payload in enumerate(written, 1)]
    whole = b"".join(records)
    cut = data.draw(st.integers(0, len(whole)))
    complete = sum(len(b"".join(records[:count])) <= cut for count in range(1, len(records) + 1))
    assert [record.payload for record in scan(whole[:cut])] == written[:complete]


@given(PAYLOADS, st.data())
def test_a_damaged_record_costs_itself_alone(written: list[bytes], data: st.DataObject) -> None:
    records = [encode(number, payload) for number, payload in enumerate(written, 1)]
    hit = data.draw(st.integers(0, len(records) - 1))
    at = data.draw(st.integers(0, len(records[hit]) - 1))
    broken = bytearray(records[hit])
    broken[at] ^= data.draw(st.integers(1, 255))
    found = scan(b"".join([*records[:hit], bytes(broken), *records[hit + 1 :]]))
    assert [record.number for record in found] == [n for n in range(1, len(records) + 1) if n != hit + 1]


# One process


def test_what_was_appended_is_read_in_order_and_only_its_owner_may_look(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.check()
    assert spool.append([b"a", b"b"]) == range(1, 3)
    assert spool.append([b"c"]) == range(3, 4)
    assert spool.read(0) == [Entry(1, b"a"), Entry(2, b"b"), Entry(3, b"c")]
    assert spool.read(2) == [Entry(3, b"c")]
    assert spool.read(3) == []
    assert [len(spool.read(0, limit=2)), len(spool.read(0, most_bytes=1))] == [2, 1]
    for path in [spool.folder, *spool.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    spool.close()


def test_entries_go_when_they_were_received_and_numbers_go_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=100)
    for number in range(10):
        spool.append([b"x" * 40])
        assert spool.last == number + 1
    held = spool.bytes_held
    spool.forget(5)
    assert spool.bytes_held < held
    assert [entry.number for entry in spool.read(5)] == [6, 7, 8, 9, 10]
    assert spool.source is not None
    assert spool.source.after == 4, "the fifth shares its segment with the sixth"
    spool.forget(10)
    assert (spool.bytes_held, spool.read(10)) == (0, [])
    assert spool.append([b"next"]) == range(11, 12)
    spool.forget(11)
    spool.close()
    assert list(tmp_path.iterdir()) == [], "nothing is left of a source that was received"


def test_a_full_spool_refuses_loudly_evicts_nothing_and_takes_again_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, max_bytes=300, segment_bytes=100)
    kept = [b"%d" % number * 60 for number in range(3)]
    for payload in kept:
        spool.append([payload])
    with pytest.raises(SpoolUnavailableError, match="full"):
        spool.append([b"x" * 60])
    assert payloads(spool.read(0)) == kept
    assert "spool.full" in caplog.text
    with pytest.raises(LetterRefusedError, match="more than the spool may hold"):
        spool.append([b"x" * 400])
    spool.forget(2)
    assert spool.append([b"x" * 60]) == range(4, 5)
    spool.close()


def test_a_disk_that_is_full_accepts_nothing_and_loses_nothing(tmp_path: Path) -> None:
    script = f"""
import resource, sys
from pathlib import Path
from regrow.dead_letters.spool import Spool
from regrow.errors import SpoolUnavailableError
spool = Spool(Path({str(tmp_path)!r}))
spool.append([b"before"])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))  # the next record is torn in the middle
try:
    spool.append([b"x" * 500])
    sys.exit(3)
except SpoolUnavailableError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert spool.append([b"after"]) == range(2, 3)
print([entry.payload for entry in spool.read(0)])
sys.stdout.flush()  # _exit would not
import os; os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "takes nothing now" in done.stdout
    assert "spool.refuses" in done.stderr, "said loudly, without any logging configured"
    (source,) = adopted(tmp_path)
    assert source.read(0) == [Entry(1, b"before"), Entry(2, b"after")]
    source.remove()


def test_callers_that_come_together_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, syncs, entered, go = Spool(tmp_path), [], threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(file: int) -> None:
        syncs.append(file)
        entered.set()
        go.wait(10)
        real(file)

    monkeypatch.setattr(os, "fdatasync", slow)
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(spool.append, [b"first"])
        assert entered.wait(10)
        others = [pool.submit(spool.append, [b"%d" % number]) for number in range(39)]
        eventually(lambda: len(spool._waiting) == 39, 10)
        go.set()
        numbers = [first.result(10)[0], *(other.result(10)[0] for other in others)]
    assert sorted(numbers) == list(range(1, 41))
    assert len(syncs) == 2, "one for the first, one for all who waited for it"
    by_number = {entry.number: entry.payload for entry in spool.read(0)}
    assert all(by_number[numbers[position + 1]] == b"%d" % position for position in range(39))
    spool.close()


def test_an_unusable_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot be written.*mode 0700"):
        Spool(tmp_path / "file" / "spool").check()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(SettingsError, match="others may write"):
        Spool(tmp_path / "open").check()


# Several processes


APPENDING = """
import sys
from pathlib import Path
from regrow.dead_letters.spool import Spool
spool = Spool(Path(sys.argv[1]))
spool.append([b"one", b"two"])
print("accepted", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_adopted_and_what_a_living_one_holds_is_not(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", APPENDING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"accepted\n"
        assert adopted(tmp_path) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
    (source,) = adopted(tmp_path)
    assert adopted(tmp_path) == [], "one adopter at a time"
    (segment,) = source.folder.glob("*.log")
    with segment.open("ab") as file:
        file.write(encode(3, b"torn")[:-2])
    assert source.read(source.after) == [Entry(1, b"one"), Entry(2, b"two")]
    source.close()
    (again,) = adopted(tmp_path)
    again.remove()
    (aside,) = tmp_path.iterdir()
    assert aside.read_bytes() == encode(3, b"torn")[:-2], "never accepted, or damaged since: put aside"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


def test_a_forked_child_leaves_its_parents_source_alone_and_writes_its_own(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"parent"])
    child = os.fork()
    if child == 0:
        try:
            assert spool.read(0) == []
            spool.append([b"child"])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    spool.append([b"parent still"])
    assert payloads(spool.read(0)) == [b"parent", b"parent still"]
    (source,) = adopted(tmp_path)
    assert payloads(source.read(0)) == [b"child"], "the parent's own is still locked"
    source.remove()
    spool.forget(2)
    spool.close()


def test_damage_in_the_middle_is_told_by_its_numbers(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=60)
    for number in range(1, 7):  # two to a segment
        spool.append([b"%d" % number * 20])
    assert spool.source is not None
    segments = sorted(spool.source.folder.glob("*.log"))
    spool.source.close()  # as if this process had died
    whole = segments[1].read_bytes()
    segments[1].write_bytes(whole[:30] + b"?" + whole[31:])
    (source,) = adopted(tmp_path)
    found = source.read(0)
    assert [entry.number for entry in found if isinstance(entry, Entry)] == [1, 2, 4, 5, 6]
    assert Lost(3, 3) in found
    source.remove()
    spool._begin()
