"""The conservation ledger: accepted = live + resolved + discarded + purged, whatever happens in whatever order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regrow.database import Database
from regrow.database.tables import audit, dead_letters, ledger_deltas
from regrow.dead_letters import service, store
from regrow.dead_letters.rules import State
from regrow.engine import Engine
from regrow.errors import LetterNotFoundError, TransitionRefusedError
from regrow.settings import Settings
from tests.dead_letters.conftest import Clock, Post, call, free, rows

DAY = 86_400


def _deltas(engine: Engine) -> int:
    return int(rows(engine.database, sa.select(sa.func.count()).select_from(ledger_deltas))[0][0])


def test_two_hundred_letters_of_two_services_are_two_rows_in_the_books(letters: Engine) -> None:
    service.capture_many(letters, [call(n, service="a" if n % 4 else "b") for n in range(200)])
    assert _deltas(letters) == 2
    a, b = service.read_ledger(letters).accounts
    assert (a.service, a.booked.accepted, a.live, a.balance) == ("a", 150, 150, 0)
    assert (b.service, b.booked.accepted, b.live, b.balance) == ("b", 50, 50, 0)


def test_a_letter_is_booked_on_every_step_of_its_life(letters: Engine, clock: Clock, post: Post) -> None:
    first = service.capture(letters, call(1))
    service.capture(letters, call(1, event_id=first))  # told twice
    clock.advance(60)
    service.process_batch(letters, held=free)
    service.settle_many(letters, [post.attempts[0]] * 2)  # settled once, told twice
    service.settle(letters, post.attempts[0])
    second = service.capture(letters, call(2))
    clock.advance(60)
    service.process_batch(letters, held=free)
    service.record_failure(letters, post.attempts[1])
    service.discard(letters, second, actor="ann", reason="test")
    (account,) = service.read_ledger(letters).accounts
    assert (account.booked.accepted, account.live, account.resolved, account.discarded) == (2, 0, 1, 1)
    assert service.fold_ledger(letters)["unbalanced"] == {}
    clock.advance(8 * DAY)
    assert service.cleanup(letters)["purged"] == 2
    for _ in range(2):
        (account,) = service.read_ledger(letters).accounts
        assert (account.booked.accepted, account.booked.purged, account.differences) == (2, 2, {})
        service.fold_ledger(letters)
    assert _deltas(letters) == 0


def test_a_letter_that_vanishes_and_one_settled_past_the_books_are_found(letters: Engine) -> None:
    service.capture_many(letters, [call(n) for n in range(3)])
    kept = [row[0] for row in rows(letters.database, sa.select(dead_letters.c.id))]
    with letters.database.transaction() as connection:
        connection.execute(sa.delete(dead_letters).where(dead_letters.c.id == kept[0]))
        connection.execute(
            sa.update(dead_letters).where(dead_letters.c.id == kept[1]).values(state=State.RESOLVED)
        )
    summary = service.fold_ledger(letters)
    assert summary["unbalanced"] == {"payments": {"live": 2, "resolved": -1}}
    assert service.read_ledger(letters).accounts[0].balance == 1


def test_a_difference_is_corrected_by_hand_with_a_reason_and_an_audit_row(letters: Engine) -> None:
    service.capture_many(letters, [call(n) for n in range(3)])
    with letters.database.transaction() as connection:
        connection.execute(sa.delete(ledger_deltas))
    with pytest.raises(TransitionRefusedError, match="reason"):
        service.correct_ledger(letters, actor="ann", reason=" ")
    assert not service.correct_ledger(letters, actor="ann", reason="an old worker").balanced
    assert service.read_ledger(letters).balanced
    [(actor, act, subject)] = rows(letters.database, sa.select(audit.c.actor, audit.c.act, audit.c.subject))
    assert (actor, act, subject) == ("ann", "ledger.correct", "payments")


@pytest.fixture(scope="module")
def empty_books(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated database as a file; to migrate for each example takes longer than the example."""
    file = tmp_path_factory.mktemp("empty") / "regrow.sqlite3"
    database = Database(f"sqlite:///{file}")
    database.upgrade()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return file.read_bytes()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["capture", "redrive", "settle", "fail", "discard", "purge", "fold"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_the_equation_holds(
    tmp_path_factory: pytest.TempPathFactory,
    make_settings: Callable[..., Settings],
    empty_books: bytes,
    steps: list[tuple[str, int]],
) -> None:
    clock, post = Clock(), Post()
    file = tmp_path_factory.mktemp("books") / "regrow.sqlite3"
    file.write_bytes(empty_books)
    engine = Engine(make_settings(database_url=f"sqlite:///{file}"), sender=post, clock=clock)
    events: list[str] = []
    acts: dict[str, Callable[[int], object]] = {
        "capture": lambda n: events.extend(
            service.capture_many(
                engine, [call(i, service=f"s{i % 2}", idempotency_key=f"k{i % 5}") for i in range(n)]
            )
        ),
        "redrive": lambda _: (clock.advance(60), service.process_batch(engine, held=free)),
        "settle": lambda n: post.home and service.settle(engine, post.attempts[n % len(post.home)]),
        "fail": lambda n: post.home and service.record_failure(engine, post.attempts[n % len(post.home)]),
        "discard": lambda n: (
            events and service.discard(engine, events[n % len(events)], actor="a", reason="r")
        ),
        "purge": lambda _: (clock.advance(8 * DAY), service.cleanup(engine)),
        "fold": lambda _: service.fold_ledger(engine),
    }
    try:
        for act, number in steps:
            with suppress(TransitionRefusedError, LetterNotFoundError):
                acts[act](number)
            found = service.read_ledger(engine)
            assert found.balanced, (act, found.as_json())
    finally:
        engine.close()


def test_folders_writers_and_readers_at_once_stay_exact(
    make_settings: Callable[..., Settings], mysql_url: str
) -> None:
    engine = Engine(make_settings(database_url=mysql_url), clock=Clock())
    engine.database.upgrade()
    writing = threading.Event()

    def write(seed: int) -> None:
        rng = Random(seed)
        for _ in range(12):
            services = [f"s{rng.randrange(3)}" for _ in range(rng.randrange(2, 12))]
            events = service.capture_many(engine, [call(n, service=name) for n, name in enumerate(services)])
            service.discard(engine, events[0], actor="ann", reason="test")
            other = service.show(engine, events[1]).letter.id
            engine.database.run(
                lambda connection, one=other: store.resolve(connection, one, "none", engine.clock())
            )

    def fold() -> None:
        while not writing.is_set():
            service.fold_ledger(engine)

    def look() -> int:
        looks = 0
        while not writing.is_set() or not looks:
            found = service.read_ledger(engine)
            assert found.balanced, found.as_json()
            looks += 1
        return looks

    with ThreadPoolExecutor(7) as pool:
        beside = [pool.submit(work) for work in (fold, fold, look)]
        for done in [pool.submit(write, seed) for seed in range(4)]:
            done.result(60)
        writing.set()
        for done in beside:
            done.result(60)
    assert service.fold_ledger(engine)["unbalanced"] == {}
    total = service.read_ledger(engine).total()
    assert (total.resolved, total.discarded, _deltas(engine)) == (48, 48, 0)
    engine.close()


def test_books_are_opened_on_letters_of_an_earlier_version(letters: Engine, clock: Clock) -> None:
    first, _ = (service.capture(letters, call(n)) for n in (1, 2))
    service.discard(letters, first, actor="ann", reason="test")
    letters.database.downgrade("0003")
    letters.database.upgrade()
    found = service.read_ledger(letters)
    assert found.balanced
    assert (found.total().booked.accepted, found.total().discarded) == (2, 1)
    assert found.opened_at is not None, "what was purged before is unknown, and said so"
