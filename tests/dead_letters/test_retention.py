"""Archived, verified, purged: in this order, whatever happens in between."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.database import Database
from regrow.database.tables import archived_letters, capture_events, dead_letter_bodies, dead_letters
from regrow.dead_letters import archives, retention, service
from regrow.dead_letters.captured import of_message
from regrow.engine import Engine
from regrow.errors import ArchiveError, LetterNotFoundError, TransitionRefusedError
from tests.dead_letters.conftest import Clock, Post, call, free, rows

DAY = 86_400


@pytest.fixture
def on_sqlite(
    make_settings: Callable[..., Any], sqlite_url: str, clock: Clock, post: Post
) -> Iterator[Engine]:
    """For what is about files; ``letters`` is on each real database in turn."""
    engine = Engine(make_settings(database_url=sqlite_url), sender=post, clock=clock)
    engine.database.upgrade()
    yield engine
    engine.close()


def _settled(engine: Engine, count: int = 3) -> list[str]:
    events = service.capture_many(engine, [call(n) for n in range(count)])
    for event in events:
        service.discard(engine, event, actor="ann", reason="test")
    return events


def _folder(engine: Engine) -> Path:
    folder = retention.archive_folder(engine.settings)
    assert folder is not None
    return folder


def _in_files(engine: Engine) -> list[str]:
    """The ids in all archives, verified."""
    return sorted(
        letter_id
        for path in archives.whole_files(_folder(engine))
        for letter_id in archives.verify(path).letter_ids
    )


def _ids(engine: Engine) -> list[str]:
    return sorted(row[0] for row in rows(engine.database, sa.select(dead_letters.c.id)))


def test_a_purged_letter_is_found_again_with_all_that_belonged_to_it(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(
        letters, of_message({"text": "✉\ud83d"}, error=ValueError("no"), task="t", queue="q")
    )
    service.capture(letters, call(2))
    clock.advance(60)
    service.process_batch(letters, held=free)
    service.record_failure(letters, post.attempts[0], "again")
    service.record_failure(letters, post.attempts[1], "again")
    service.discard(letters, event, actor="ann", reason="not needed")
    kept = service.show(letters, event)
    clock.advance(8 * DAY)
    done = service.cleanup(letters)
    assert (done["archived"], done["archives"], done["purged"]) == (1, 1, 1)
    assert service.counts(letters)["pending"] == 1, "what is not settled stays"
    archive, line = service.find_archived(letters, event)
    assert line["letter"]["id"] == kept.letter.id
    assert archives.binary(line["body"]["body"]) == kept.body.body
    assert [one["error"] for one in line["attempts"]] == ["again"]
    assert [one["event_id"] for one in line["events"]] == [event]
    assert [one["act"] for one in line["audit"]] == ["dead_letter.discard"]
    with pytest.raises(TransitionRefusedError, match="reason"):
        service.export_archive(letters, archive.id, actor="ann", reason="")
    exported = service.export_archive(letters, archive.id, actor="ann", reason="an audit")
    assert [one["letter"]["id"] for one in exported] == [kept.letter.id]
    [checked] = service.verify_archives(letters)
    assert (checked.archive.letters, checked.problem) == (1, None)
    assert service.read_ledger(letters).balanced
    with pytest.raises(LetterNotFoundError):
        service.find_archived(letters, "nonsense")


def test_many_letters_are_several_archives(
    on_sqlite: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _settled(on_sqlite, 7)
    before = _ids(on_sqlite)
    clock.advance(8 * DAY)
    monkeypatch.setattr(retention, "LETTERS", 3)
    assert service.cleanup(on_sqlite)["archives"] == 3
    assert _in_files(on_sqlite) == before
    _settled(on_sqlite, 2)
    clock.advance(8 * DAY)
    monkeypatch.setattr(retention, "BYTES", 1)
    assert service.cleanup(on_sqlite)["archives"] == 2, "one letter an archive, when each is over the limit"


class Killed(BaseException):
    """As kill -9: nothing of ours runs after it."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[int]]]:
    """Die at the n-th step: before or after a transaction, an fsync, a rename, a removal."""

    def arm(at: int) -> list[int]:
        steps = [0]

        def step() -> None:
            steps[0] += 1
            if steps[0] == at:
                raise Killed

        def around(real: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any, **named: Any) -> Any:
                step()
                result = real(*arguments, **named)
                step()
                return result

            return run

        monkeypatch.setattr(Database, "run", around(Database.run))
        monkeypatch.setattr(os, "fsync", around(os.fsync))
        monkeypatch.setattr(Path, "replace", around(Path.replace))
        monkeypatch.setattr(Path, "unlink", around(Path.unlink))
        return steps

    yield arm
    monkeypatch.undo()


def test_killed_at_any_step_a_letter_is_in_one_archive_and_then_purged(
    make_settings: Callable[..., Any], sqlite_url: str, clock: Clock, kill_at: Callable[[int], list[int]]
) -> None:
    engine = Engine(make_settings(database_url=sqlite_url), clock=clock)
    engine.database.upgrade()
    monkey = pytest.MonkeyPatch()
    monkey.setattr(retention, "LETTERS", 2)
    expected: list[str] = []
    kills = 0
    for at in range(1, 200):
        _settled(engine, 3)
        expected += _ids(engine)
        clock.advance(8 * DAY)
        steps = kill_at(at)
        try:
            service.cleanup(engine)
            killed = False
        except Killed:
            killed = True
        steps[0] = 10_000  # from here on it lives
        there, filed = set(_ids(engine)), set(_in_files(engine))
        assert there | filed == set(expected), "nothing is purged that is not in a whole archive"
        service.cleanup(engine)
        assert _ids(engine) == []
        assert _in_files(engine) == sorted(expected), "each in one archive, none in two"
        assert not list(_folder(engine).glob("*.partial"))
        assert service.read_ledger(engine).balanced
        kills += killed
        if not killed:
            break
    assert kills > 20
    assert [
        row[0] for row in rows(engine.database, sa.select(sa.func.count()).select_from(archived_letters))
    ] == [len(expected)]
    monkey.undo()
    engine.close()


def test_a_full_disk_purges_nothing_and_leaves_nothing_behind(
    on_sqlite: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _settled(on_sqlite)
    clock.advance(8 * DAY)
    monkeypatch.setattr(
        archives, "_new", lambda path: path.touch() or os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")
    )
    with pytest.raises(ArchiveError, match=os.strerror(errno.ENOSPC)):
        service.cleanup(on_sqlite)
    assert len(_ids(on_sqlite)) == 3
    assert [path.name for path in _folder(on_sqlite).iterdir()] == [".lock"]


@pytest.mark.parametrize("harm", ["cut", "flip", "trailer", "gone"])
def test_what_is_not_proven_to_be_in_an_archive_is_not_purged(
    on_sqlite: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    _settled(on_sqlite)
    clock.advance(8 * DAY)
    write = archives.write

    def harmed(*arguments: Any, **named: Any) -> Path:
        path = write(*arguments, **named)
        whole = path.read_bytes()
        lines = gzip.decompress(whole).splitlines(keepends=True)
        match harm:
            case "cut":
                path.write_bytes(whole[:-20])
            case "flip":
                path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
            case "trailer":
                path.write_bytes(gzip.compress(b"".join(lines[:1] + lines[2:])))
            case "gone":
                path.unlink()
        return path

    monkeypatch.setattr(archives, "write", harmed)
    with pytest.raises(ArchiveError):
        service.cleanup(on_sqlite)
    assert len(_ids(on_sqlite)) == 3
    assert service.read_ledger(on_sqlite).balanced


def test_an_archive_that_was_changed_or_is_missing_is_named(on_sqlite: Engine, clock: Clock) -> None:
    for _ in range(2):
        _settled(on_sqlite)
        clock.advance(8 * DAY)
        service.cleanup(on_sqlite)
    first, second = archives.whole_files(_folder(on_sqlite))
    lines = gzip.decompress(first.read_bytes()).splitlines(keepends=True)
    forged = json.loads(lines[1])
    forged["letter"]["reason"] = "forged"
    first.write_bytes(gzip.compress(b"".join([lines[0], json.dumps(forged).encode() + b"\n", *lines[2:]])))
    second.unlink()
    problems = {checked.path: checked.problem for checked in service.verify_archives(on_sqlite)}
    assert "trailer" in str(problems[first])
    assert "not there" in str(problems[second])


def test_a_run_beside_another_leaves_it_alone(on_sqlite: Engine, clock: Clock) -> None:
    _settled(on_sqlite)
    clock.advance(8 * DAY)
    with archives.alone_in(_folder(on_sqlite)):
        assert "another run" in service.cleanup(on_sqlite)["note"]
    assert len(_ids(on_sqlite)) == 3


def test_a_folder_that_cannot_be_written_purges_nothing_and_says_what_to_do(
    make_settings: Callable[..., Any], sqlite_url: str, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    chosen = make_settings(
        database_url=sqlite_url, REGROW_DEAD_LETTERS__ARCHIVE=str(tmp_path / "file" / "in")
    )
    engine = Engine(chosen, clock=clock)
    engine.database.upgrade()
    _settled(engine)
    clock.advance(8 * DAY)
    with pytest.raises(ArchiveError, match=r"dead_letters\.archive"):
        service.cleanup(engine)
    assert len(_ids(engine)) == 3
    engine.close()


def test_without_an_archive_only_when_that_is_said(
    make_settings: Callable[..., Any], sqlite_url: str, clock: Clock
) -> None:
    engine = Engine(make_settings(database_url=sqlite_url, REGROW_DEAD_LETTERS__ARCHIVE="off"), clock=clock)
    engine.database.upgrade()
    _settled(engine)
    clock.advance(8 * DAY)
    assert service.cleanup(engine)["purged"] == 3
    assert not (engine.settings.home / "archive").exists()
    assert service.read_ledger(engine).balanced
    engine.close()


def test_an_archive_whose_file_is_lost_before_the_purge_is_given_up_in_the_end(
    letters: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _settled(letters)
    clock.advance(8 * DAY)
    monkeypatch.setattr(retention, "_purge", lambda *_: None)  # died before it
    service.cleanup(letters)
    monkeypatch.undo()
    [path] = archives.whole_files(_folder(letters))
    path.unlink()
    assert service.cleanup(letters)["purged"] == 0, "it may be on another machine"
    clock.advance(2 * DAY)
    assert service.cleanup(letters)["purged"] == 3
    assert len(_in_files(letters)) == 3


def test_an_archive_given_up_in_the_middle_of_its_purge_is_remembered_with_what_it_alone_holds(
    letters: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch, kill_at: Callable[[int], list[int]]
) -> None:
    monkeypatch.setattr(retention, "_CHUNK", 2)
    _settled(letters, 5)
    clock.advance(8 * DAY)
    # Before and after each of: two fsyncs and a rename, the record, the first two letters.
    steps = kill_at(10)
    with pytest.raises(Killed):
        service.cleanup(letters)
    steps[0] = 10_000
    [path] = archives.whole_files(_folder(letters))
    left = _ids(letters)
    assert len(left) == 3
    elsewhere = path.rename(path.with_name("lost"))
    service.cleanup(letters)
    [unfinished] = service.list_archives(letters)
    assert (unfinished.purged, unfinished.letters, unfinished.given_up_at) == (2, 5, None)
    clock.advance(2 * DAY)
    service.cleanup(letters)
    anew, given_up = service.list_archives(letters)
    assert (given_up.purged, given_up.letters, given_up.given_up_at) == (2, 5, clock())
    assert (given_up.id, given_up.purged_at) == (unfinished.id, None)
    assert (anew.purged, anew.letters, anew.purged_at) == (3, 3, clock())
    assert _in_files(letters) == left
    assert _ids(letters) == []
    ledger = service.read_ledger(letters)
    assert (ledger.balanced, ledger.total().booked.purged) == (True, 5)
    problems = {one.archive.id: one.problem for one in service.verify_archives(letters)}
    assert "2 of its 5 letters had been purged and are in no other archive" in str(problems[given_up.id])
    gone = set(archives.verify(elsewhere.rename(path)).letter_ids) - set(left)
    service.cleanup(letters)  # the file was found again, and is let be
    for letter_id in gone:
        assert service.find_archived(letters, letter_id)[0].id == given_up.id
    assert [one.problem for one in service.verify_archives(letters)] == [None, None]


def test_events_of_purged_letters_are_known_until_no_spool_can_hold_them(
    letters: Engine, clock: Clock
) -> None:
    [event] = _settled(letters, 1)
    live = service.capture(letters, call(9))
    clock.advance(8 * DAY)
    service.cleanup(letters)
    service.capture(letters, call(0, event_id=event))  # told again, late
    assert service.counts(letters)["pending"] == 1
    clock.advance((letters.settings.dead_letters.tombstone_days + 1) * DAY)
    assert service.cleanup(letters)["forgotten"] == 1
    assert [row[0] for row in rows(letters.database, sa.select(capture_events.c.event_id))] == [live]


def test_bodies_and_attempts_go_with_their_letter(on_sqlite: Engine, clock: Clock) -> None:
    _settled(on_sqlite)
    clock.advance(8 * DAY)
    service.cleanup(on_sqlite)
    assert rows(on_sqlite.database, sa.select(dead_letter_bodies.c.letter_id)) == []


def test_a_run_asks_once_which_archives_are_known_however_many_there_are(
    on_sqlite: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LETTERS", 1)
    asked: list[str] = []
    sa.event.listen(
        on_sqlite.database.engine, "before_cursor_execute", lambda *told: asked.append(str(told[2]))
    )
    counts = []
    for more in (1, 4):
        _settled(on_sqlite, more)
        clock.advance(8 * DAY)
        service.cleanup(on_sqlite)
        asked.clear()
        service.cleanup(on_sqlite)
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_an_archive_that_was_recorded_meanwhile_is_not_removed(on_sqlite: Engine, clock: Clock) -> None:
    _settled(on_sqlite, 1)
    clock.advance(8 * DAY)
    service.cleanup(on_sqlite)
    [path] = archives.whole_files(_folder(on_sqlite))
    assert not retention._record(on_sqlite, path, archives.verify(path), [clock()], {})
    assert path.exists(), "nothing else has its letters"
