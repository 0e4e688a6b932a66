"""A letter that kills who takes it home ends in quarantine; what deploys and neighbours do to it does not count."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.database.tables import dead_letters
from regrow.dead_letters import overdue, redrivers, rules, service
from regrow.dead_letters.store import Letter
from regrow.engine import Engine
from tests.dead_letters.conftest import Clock, Post, call, free, return_overdue, take

KILLER = 3


@pytest.fixture
def engine(
    make_settings: Callable[..., object], redis_url: str, database_url: str, clock: Clock, post: Post
) -> Iterator[Engine]:
    """Each lease is looked at after its end alone, and nothing is late otherwise."""
    settings = make_settings(redis_url, database_url, REGROW_DEAD_LETTERS__OUTCOME_DEADLINE="86400")
    engine = Engine(settings, sender=post, clock=clock)
    engine.database.upgrade()
    yield engine
    engine.close()


def _run_in_a_process(engine: Engine) -> int:
    """A redrive in a process of its own; its exit status as waitpid says it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            service.process_batch(engine, held=free)
            code = 0
        except SystemExit:
            code = 15
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def _letters(engine: Engine) -> dict[int, Letter]:
    found = service.list_letters(engine)
    return {int(service.show(engine, x.id).letter.error_message.removeprefix("n=")): x for x in found}


def _numbered(count: int) -> list[object]:
    return [call(number, error=ValueError(f"n={number}"), priority="high") for number in range(count)]


def test_a_letter_that_kills_its_redriving_worker_is_quarantined_and_its_neighbours_go_home(
    engine: Engine, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(message: object, *, queue: str) -> None:
        if message.args == [KILLER]:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(post, "send_home", send)
    service.capture_many(engine, _numbered(6))
    clock.advance(60)
    deaths = 0
    for _ in range(8):
        deaths += os.WIFSIGNALED(_run_in_a_process(engine))
        clock.advance(engine.settings.dead_letters.lease + 1)
    found = _letters(engine)
    assert deaths == rules.MOST_CRASHES
    assert found.pop(KILLER).state == "quarantined"
    assert (
        "3 redriving workers in a row died" in service.show(engine, _letters(engine)[KILLER].id).letter.reason
    )
    assert {letter.state for letter in found.values()} == {"dispatched"}
    assert {letter.crashes for letter in found.values()} == {0}, "who went home is no suspect any more"


def test_a_worker_that_is_told_to_end_gives_its_letters_back_at_once_and_they_are_no_suspects(
    engine: Engine, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deploys, and lost brokers, after which Celery ends its children by SIGTERM."""

    def send(message: object, *, queue: str) -> None:
        raise SystemExit(-241)  # what billiard makes of SIGTERM

    monkeypatch.setattr(post, "send_home", send)
    service.capture_many(engine, _numbered(4))
    clock.advance(60)
    for _ in range(2 * rules.MOST_CRASHES):
        _run_in_a_process(engine)
        assert service.counts(engine)["leased"] == 1, "the one of which nobody knows whether it was sent"
        clock.advance(engine.settings.dead_letters.lease + 1)
    return_overdue(engine)
    assert service.counts(engine)["pending"] == 4
    assert {letter.crashes for letter in _letters(engine).values()} == {0}


def test_a_lease_that_ran_out_says_nothing_of_a_letter_when_nobody_knows_that_its_worker_died(
    engine: Engine, clock: Clock
) -> None:
    """The worker left in order, or Redis was flushed: both are no deaths. A run that never ended is one."""
    service.capture_many(engine, _numbered(1))
    with redrivers.at_work(engine.redis) as owner:
        pass
    for number, name in enumerate([owner, "unknown", "unknown", owner]):
        clock.advance(60)
        assert take(engine, owner=name, seconds=5)
        clock.advance(6)
        assert return_overdue(engine) == 1, number
        assert _letters(engine)[0].crashes == 0
    engine.redis.set(redrivers.run_key("killed"), "at work")
    clock.advance(60)
    take(engine, owner="killed", seconds=5)
    clock.advance(6)
    return_overdue(engine)
    assert _letters(engine)[0].crashes == 1


@pytest.mark.parametrize(
    ("crashes", "how_many"), [([], 0), ([0, 0, 0], 3), ([0, 0, 1, 0], 2), ([1, 0, 0], 1), ([2, 1], 1)]
)
def test_a_suspect_goes_alone(crashes: list[int], how_many: int) -> None:
    assert rules.together(crashes) == how_many


def test_a_batch_that_parking_made_shorter_does_not_end_its_services_run(
    engine: Engine, clock: Clock, post: Post
) -> None:
    """Two of the three candidates wait behind the first one; what stands behind them goes in the same run."""
    service.capture_many(engine, [call(n, order_key="a", priority="high") for n in range(3)])
    clock.advance(5)
    service.capture_many(engine, [call(n, priority="high") for n in range(10, 14)])
    with engine.database.transaction() as connection:  # as captures leave them that did not see each other
        connection.execute(
            sa.update(dead_letters).where(dead_letters.c.order_key == "a").values(rank=dead_letters.c.due_at)
        )
    clock.advance(60)
    done = service.process_batch(engine, 3, held=free)
    assert done["dispatched"] == 5
    assert sorted(message.args[0] for _, message in post.home) == [0, 10, 11, 12, 13]


def test_a_run_waits_for_a_line_whose_head_is_not_the_one_on_its_way(
    engine: Engine, clock: Clock, post: Post
) -> None:
    """The head came in while a later letter was sent, as from a clock that is behind: asked once a second."""
    service.capture_many(engine, [call(n, order_key="a") for n in range(2)])
    clock.advance(60)
    with engine.database.transaction() as connection:
        later = sa.select(sa.func.max(dead_letters.c.id)).scalar_subquery()
        newest = connection.execute(sa.select(later)).scalar()
        connection.execute(
            sa.update(dead_letters)
            .where(dead_letters.c.id == newest)
            .values(state="dispatched", inflight_key="a", deadline=clock.now + timedelta(hours=1))
        )
    pauses: list[float] = []
    done = service.process_batch(engine, held=free, pause=pauses.append, elapsed=lambda: sum(pauses))
    assert done["dispatched"] == 0
    assert set(pauses) == {1.0}
    assert sum(pauses) <= engine.settings.dead_letters.drain_budget + 1


def test_a_letter_that_a_person_sends_again_is_no_suspect(engine: Engine) -> None:
    event = service.capture(engine, call(1))
    with engine.database.transaction() as connection:
        connection.execute(sa.update(dead_letters).values(state="quarantined", crashes=rules.MOST_CRASHES))
    service.retry(engine, event, actor="ann", reason="the worker is mended")
    assert service.show(engine, event).letter.crashes == 0


def test_letters_in_line_are_looked_at_some_at_a_time_and_none_is_forgotten_for_ever(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "_CHUNK", 10)
    service.capture_many(engine, [call(n, order_key=f"k{n % 4}", max_retries=0) for n in range(4)])
    service.capture_many(engine, [call(n, order_key=f"k{n % 4}") for n in range(4, 40)])
    forgotten = service.capture(engine, call(99, order_key="alone"))
    with engine.database.transaction() as connection:
        connection.execute(
            sa.update(dead_letters).where(dead_letters.c.order_key == "alone").values(rank=None)
        )
    runs = 0
    while service.show(engine, forgotten).letter.rank is None:
        overdue.wake_forgotten(engine, ["payments"])
        runs += 1
    assert runs == 4, "36 wait behind others, it is the 37th, and ten are looked at in a run"
    with engine.database.snapshot() as connection:
        parked = sa.select(sa.func.count()).where(dead_letters.c.rank.is_(None))
        assert connection.execute(parked.where(dead_letters.c.state == "pending")).scalar() == 36
    overdue.wake_forgotten(engine, ["payments"])  # and from the beginning again


def test_a_look_at_the_line_reads_no_more_rows_than_it_looks_at(
    make_settings: Callable[..., object], mysql_url: str, clock: Clock, post: Post
) -> None:
    """Counted by MariaDB itself: 3,000 wait behind a quarantined one, and a look at 200 reads hundreds."""
    engine = Engine(make_settings(database_url=mysql_url), sender=post, clock=clock)
    engine.database.upgrade()
    service.capture(engine, call(0, order_key="a", max_retries=0))
    service.capture_many(engine, [call(n, order_key="a") for n in range(1, 3001)])
    reads = sa.text(
        "SELECT SUM(VARIABLE_VALUE) FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME LIKE 'HANDLER_READ%'"
    )
    with engine.database.transaction() as connection:
        connection.execute(sa.text("ANALYZE TABLE dead_letters"))
        before = int(connection.execute(reads).scalar())
        woken, after = overdue.ordering.wake_forgotten(connection, "payments", "", 200)
        spent = int(connection.execute(reads).scalar()) - before
    assert (woken, bool(after)) == (0, True)
    assert spent < 1000
    engine.close()
