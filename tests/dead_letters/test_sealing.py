"""What letters say is sealed when a key is set, goes home opened, rotates, and can be destroyed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from regrow.database.tables import audit, data_keys, dead_letter_attempts, dead_letter_bodies, dead_letters
from regrow.dead_letters import archives, erasing, retention, sealing, service
from regrow.dead_letters.captured import of_message
from regrow.dead_letters.sealing import Seal, SealBrokenError
from regrow.engine import Engine
from regrow.errors import KeyUnavailableError, RouteError, SettingsError, TransitionRefusedError
from regrow.settings import Settings
from tests.dead_letters.conftest import Clock, Post, call, free, rows

DAY = 86_400
SECRET = "4711-very-secret"


def _key_file(folder: Path, name: str) -> Path:
    file = folder / name
    if not file.exists():
        file.write_text(f"{sealing.text_of_key(sealing.new_key())}\n")
    return file


@pytest.fixture
def open_engine(
    make_settings: Callable[..., Settings], sqlite_url: str, clock: Clock, post: Post, tmp_path: Path
) -> Iterator[Callable[..., Engine]]:
    """``open_engine("b", "a")``: an engine on the same database, with these keys, the first one current."""
    with _engines(make_settings, sqlite_url, clock, post, tmp_path) as make:
        yield make


@pytest.fixture
def open_on_each(
    make_settings: Callable[..., Settings], database_url: str, clock: Clock, post: Post, tmp_path: Path
) -> Iterator[Callable[..., Engine]]:
    """The same on each real database in turn."""
    with _engines(make_settings, database_url, clock, post, tmp_path) as make:
        yield make


@contextmanager
def _engines(
    make_settings: Callable[..., Settings], url: str, clock: Clock, post: Post, folder: Path
) -> Iterator[Callable[..., Engine]]:
    opened: list[Engine] = []

    def make(*keys: str) -> Engine:
        chosen = make_settings(database_url=url)
        files = {name: _key_file(folder, name) for name in keys}
        letters = chosen.dead_letters.model_copy(update={"keys": files})
        engine = Engine(chosen.model_copy(update={"dead_letters": letters}), sender=post, clock=clock)
        if not opened:
            engine.database.upgrade()
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        engine.close()


def _secret_call(number: int = 1, **options: object) -> Any:
    told = {
        "error": {"class": "E", "message": f"no {SECRET}", "traceback": f"at {SECRET}"},
        "subject": "cust-7",
    }
    captured = call(number, **{**told, **options})
    return dataclasses.replace(captured, body=json.dumps([SECRET, number]).encode(), headers={"auth": SECRET})


def _everything(engine: Engine) -> str:
    """All that the tables hold, as one text."""
    tables = (dead_letters, dead_letter_bodies, dead_letter_attempts, data_keys, audit)
    return " ".join(str(row) for table in tables for row in rows(engine.database, sa.select(table)))


@given(st.binary(), st.text(max_size=8), st.text(max_size=8), st.integers(0, 40))
def test_what_is_sealed_opens_in_its_own_place_alone(plain: bytes, field: str, other: str, flip: int) -> None:
    key = sealing.new_key()
    sealed = Seal(key, "letter-1").seal("body", plain)
    assert Seal(key, "letter-1").open("body", sealed) == plain
    for seal, where in ((Seal(key, "letter-2"), "body"), (Seal(key, "letter-1"), f"{field}!{other}")):
        with pytest.raises(SealBrokenError):
            seal.open(where, sealed)
    harmed = bytearray(sealed)
    harmed[flip % len(harmed)] ^= 1
    with pytest.raises(SealBrokenError):
        Seal(key, "letter-1").open("body", bytes(harmed))


def test_nothing_that_a_letter_says_is_in_the_database_and_it_goes_home_whole(
    open_on_each: Callable[..., Engine], clock: Clock, post: Post
) -> None:
    engine = open_on_each("a")
    captured = dataclasses.replace(_secret_call(), quarantine=f"poison: no {SECRET}")
    poison = service.capture(engine, captured)
    event = service.capture(engine, _secret_call(2))
    clock.advance(60)
    service.process_batch(engine, held=free)
    assert SECRET in str(post.home[0][1]), "opened on its way home"
    service.record_failure(engine, post.attempts[0], f"again {SECRET}")
    assert SECRET not in _everything(engine)
    assert "cust-7" not in _everything(engine)
    found = service.show(engine, event)
    assert found.letter.error_message == f"no {SECRET}"
    assert found.letter.traceback == f"at {SECRET}"
    assert json.loads(found.body.body) == [SECRET, 2]
    assert found.body.headers == {"auth": SECRET}
    assert found.attempts[0].error == f"again {SECRET}"
    assert service.show(engine, poison).letter.reason == "poison: (sealed)"
    assert {one.error_message for one in service.list_letters(open_on_each())} == {"(sealed)"}, "needs no key"


def test_one_key_serves_a_service_and_its_digest_is_no_plain_hash(open_engine: Callable[..., Engine]) -> None:
    engine = open_engine("a")
    service.capture_many(engine, [_secret_call(n, subject=None) for n in range(20)])
    service.capture(engine, _secret_call(99, subject=None))
    assert len(rows(engine.database, sa.select(data_keys.c.id))) == 2, "the service's, and that of digests"
    [digest, *_] = rows(engine.database, sa.select(dead_letters.c.digest))
    assert digest[0].startswith("hmac:")


def test_without_its_key_nothing_is_kept_in_plain_and_nothing_is_lost(
    open_engine: Callable[..., Engine], clock: Clock, post: Post, tmp_path: Path
) -> None:
    service.capture(open_engine("a"), _secret_call())
    wrong = open_engine("b")
    with pytest.raises(KeyUnavailableError, match=r"'a'.*rotate-keys"):
        service.capture(wrong, _secret_call(2))
    assert service.counts(wrong)["pending"] == 1
    clock.advance(60)
    for engine in (wrong, open_engine()):
        assert service.process_batch(engine, held=free)["released"] == 1, "it waits for its key, at no cost"
        with pytest.raises(KeyUnavailableError, match="'a'"):
            service.prove_keys(engine)
        clock.advance(60)
    (tmp_path / "a").write_text(sealing.text_of_key(sealing.new_key()))
    with pytest.raises(KeyUnavailableError, match="does not hold the key"):
        service.prove_keys(open_engine("a"))
    assert post.home == []


def test_for_people_a_letter_whose_key_is_missing_is_withheld_with_the_reason(
    open_engine: Callable[..., Engine],
) -> None:
    event = service.capture(open_engine("a"), _secret_call())
    found = service.show_redacted(open_engine("b"), event)
    assert "'a'" in found.text
    assert found.letter.service == "payments", "what is not sealed is told"
    assert SECRET not in str(found)


def test_an_outcome_is_kept_even_when_its_error_cannot_be_sealed(
    open_engine: Callable[..., Engine], clock: Clock, post: Post
) -> None:
    event = service.capture(open_engine("a"), _secret_call())
    clock.advance(60)
    service.process_batch(open_engine("a"), held=free)
    assert service.record_failure(open_engine("b"), post.attempts[0], SECRET) is not None
    assert "withheld" in str(service.show(open_engine("a"), event).attempts[0].error)


def test_a_file_without_a_key_is_named_with_the_remedy(
    open_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("c2hvcnQ=")
    with pytest.raises(SettingsError, match=r"dead_letters\.keys\.bad: .*new-key"):
        service.prove_keys(open_engine("bad"))


def test_a_worker_says_at_its_start_whether_letters_are_sealed(open_engine: Callable[..., Engine]) -> None:
    with capture_logs() as logs:
        service.prove_keys(open_engine())
        service.prove_keys(open_engine("b", "a"))
    assert [entry["event"] for entry in logs] == ["letters.plain", "letters.sealed"]
    assert (logs[1]["current"], logs[1]["others"]) == ("b", ["a"])


def test_after_a_rotation_the_old_key_can_go(
    open_on_each: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = open_on_each("a")
    events = [service.capture(old, _secret_call(n, subject=f"cust-{n}")) for n in range(5)]
    both = open_on_each("b", "a")
    monkeypatch.setattr(erasing, "_CHUNK", 2)
    held = erasing.load(both.settings)
    assert held is not None
    both.database.run(lambda connection: erasing._rewrap(connection, held))  # stopped after one batch
    assert service.show(both, events[0]).letter.error_message == f"no {SECRET}"
    assert service.rotate_keys(both) == {"rewrapped": 4, "wrapped_by": {"b": 6}}
    assert service.rotate_keys(both)["rewrapped"] == 0
    assert {service.show(open_on_each("b"), event).body.headers["auth"] for event in events} == {SECRET}
    with pytest.raises(SettingsError, match=r"dead_letters\.keys"):
        service.rotate_keys(open_on_each())


def test_a_subject_is_erased_in_database_and_archives_and_others_are_not(
    open_on_each: Callable[..., Engine], clock: Clock
) -> None:
    engine = open_on_each("a")
    gone, archived, other = (
        service.capture(engine, _secret_call(n, subject=subject))
        for n, subject in enumerate(("cust-7", "cust-7", "cust-8"))
    )
    service.discard(engine, archived, actor="ann", reason="test")
    clock.advance(8 * DAY)
    service.cleanup(engine)
    with pytest.raises(TransitionRefusedError, match="1 letters of it are not settled"):
        service.erase(engine, subject="cust-7", actor="ann", reason="asked to")
    assert service.show(engine, gone).letter.error_message == f"no {SECRET}", (
        "refused, so nothing is destroyed"
    )
    with pytest.raises(TransitionRefusedError, match="reason"):
        service.erase(engine, subject="cust-7", actor="ann", reason=" ")
    done = service.erase(engine, subject="cust-7", actor="ann", reason="asked to", force=True)
    assert done == {"discarded": 1, "keys": 1, "letters": 1, "plain_in_archives": []}
    found = service.show(engine, gone)
    assert (found.letter.state, found.letter.erased_at, found.body.body) == ("discarded", clock(), b"")
    assert found.letter.error_message == ""
    assert service.show(engine, other).letter.error_message == f"no {SECRET}"
    [path] = archives.whole_files(retention.archive_folder(engine.settings))  # type: ignore[arg-type]
    [line] = archives.letters(path)
    assert SECRET not in json.dumps(line)
    [key] = rows(
        engine.database, sa.select(data_keys.c.wrapped).where(data_keys.c.id == line["letter"]["data_key"])
    )
    assert key[0] is None, "what could open it exists no more"
    assert "dead_letters.erase" in _everything(engine)
    assert service.read_ledger(engine).balanced
    again = service.capture(engine, _secret_call(9))
    assert service.show(engine, again).letter.error_message == f"no {SECRET}", "sealed under a new key"


def test_what_a_letter_became_is_erased_with_its_subject_also_when_sealing_began_in_between(
    open_engine: Callable[..., Engine], clock: Clock, post: Post
) -> None:
    plain, sealing_now = open_engine(), open_engine("a")
    message = {"task": "shop.charge", "args": ["secret"], "id": "t-7"}
    service.capture(plain, of_message(message, confirm="publish", subject="cust-7"))
    clock.advance(60)
    service.process_batch(plain, held=free)
    service.record_failure(sealing_now, post.attempts[0], "ValueError: no funds")
    newest, first = service.list_letters(sealing_now)
    assert (newest.generation, newest.subject, first.data_key) == (2, first.subject, None)
    assert newest.data_key is not None
    done = service.erase(sealing_now, subject="cust-7", actor="ann", reason="asked to", force=True)
    assert (done["keys"], done["letters"]) == (1, 2)


def test_a_service_that_was_never_sealed_is_emptied_and_its_archives_are_named(
    open_engine: Callable[..., Engine], clock: Clock
) -> None:
    engine = open_engine()
    events = [service.capture(engine, _secret_call(n)) for n in range(2)]
    service.discard(engine, events[0], actor="ann", reason="test")
    clock.advance(8 * DAY)
    service.cleanup(engine)
    service.discard(engine, events[1], actor="ann", reason="test")
    done = service.erase(engine, service="payments", actor="ann", reason="closed")
    assert (done["letters"], done["keys"], len(done["plain_in_archives"])) == (1, 0, 1)
    assert SECRET not in _everything(engine)


def test_a_letter_that_was_changed_in_its_table_is_not_sent(
    open_engine: Callable[..., Engine], clock: Clock, post: Post
) -> None:
    engine = open_engine("a")
    events = [service.capture(engine, _secret_call(n)) for n in range(2)]
    ids = [service.show(engine, event).letter.id for event in events]
    with engine.database.transaction() as connection:
        columns = dead_letter_bodies.c
        [foreign] = connection.execute(sa.select(columns.body).where(columns.letter_id == ids[1])).one()
        connection.execute(
            sa.update(dead_letter_bodies).where(columns.letter_id == ids[0]).values(body=foreign)
        )
    clock.advance(60)
    assert service.process_batch(engine, held=free)["quarantined"] == 1
    assert len(post.home) == 1
    with pytest.raises(RouteError, match="changed"):
        service.show(engine, events[0])
