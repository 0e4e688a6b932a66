"""The life of letters, driven at random over a real database: whatever happens in whatever order, the fence holds."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from datetime import timedelta
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from regrow.database.tables import dead_letter_attempts
from regrow.dead_letters import leasing, service
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.home import attempt_reference
from regrow.dead_letters.pacing import Gate
from regrow.dead_letters.rules import SETTLED, State
from regrow.dead_letters.store import Leased, Letter
from regrow.engine import Engine
from regrow.errors import TransitionRefusedError
from regrow.settings import load_settings
from tests.dead_letters.conftest import Clock, Post, call, free, return_overdue, take

CAUSES = {
    "unknown": Cause(),
    "transient": Cause(("TimeoutError",)),
    "refused": Cause(("regrow.errors.CircuitOpenError",), retry_after=5.0),
    "lost": Cause(("billiard.exceptions.WorkerLostError",)),
    "permanent": Cause(told="permanent"),  # type: ignore[arg-type]
}
KEYS = st.sampled_from([None, None, None, "a", "b"])


def _engine(file: Path, clock: Clock, post: Post) -> Engine:
    environ = {
        "REGROW_PROFILE": "testing",
        "REGROW_HOME": str(file.parent),
        "REGROW_REDIS_URL": "redis://127.0.0.1:1/0",
        "REGROW_DATABASE_URL": f"sqlite:///{file}",
    }
    return Engine(load_settings(environ=environ), sender=post, clock=clock)


@cache
def _migrated() -> Path:
    """An empty database, made once and copied for each example."""
    folder = tempfile.mkdtemp(prefix="rg-machine-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = Path(folder) / "empty.sqlite3"
    engine = _engine(file, Clock(), Post())
    engine.database.upgrade()
    engine.close()
    return file


class Letters(RuleBasedStateMachine):
    """What the test knows of each letter beside what the database says: who won, and whether it was discarded."""

    events = Bundle("events")
    leases = Bundle("leases")  # (letter id, token) of every attempt that ever was
    fresh = Bundle("fresh")  # those that have not been published yet

    @initialize(target=events)
    def begin(self) -> object:
        self.folder = tempfile.TemporaryDirectory(prefix="rg-machine-")
        self.clock, self.post = Clock(), Post()
        file = Path(self.folder.name) / "x.sqlite3"
        shutil.copy(_migrated(), file)
        self.engine = _engine(file, self.clock, self.post)
        self.won: dict[str, int] = {}
        self.discarded: set[str] = set()
        self.told: set[str] = set()
        self.number = 0
        return multiple(*(self.capture(key, None, None) for key in (None, "a", "a")))

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
            self.folder.cleanup()

    # What can happen

    @rule(
        target=events, key=KEYS, most=st.none() | st.integers(0, 2), useful=st.sampled_from([None, None, 90])
    )
    def capture(self, key: str | None, most: int | None, useful: int | None) -> str:
        self.number += 1
        until = self.clock.now + timedelta(seconds=useful) if useful else None
        captured = call(self.number, order_key=key, max_retries=most, useful_until=until)
        event = service.capture(self.engine, captured)
        return self._letter(event).id

    @rule(target=events, event=events)
    def fail_again_elsewhere(self, event: str) -> str:
        """The same message fails once more without our header."""
        key = self._letter(event).idempotency_key
        return self._letter(service.capture(self.engine, call(0, idempotency_key=key))).id

    @rule(seconds=st.sampled_from([1.0, 3.0, 120.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def lapse(self) -> None:
        """Every lease and every deadline passes, and what came back is due."""
        self.clock.advance(12)
        return_overdue(self.engine)
        self.clock.advance(6)

    @rule(target=fresh, limit=st.integers(1, 3))
    def lease(self, limit: int) -> object:
        self.clock.advance(2)
        return multiple(*take(self.engine, limit=limit))

    @rule(target=leases, leased=consumes(fresh))
    def publish(self, leased: Leased) -> tuple[str, str]:
        """Published, and written down as dispatched; by a zombie too, whose lease is over."""
        mine = (leased.letter.id, leased.token)
        was = self._letter(leased.letter.id)
        done = self.engine.database.run(
            lambda c: leasing.dispatched(
                c, [mine], now=self.clock.now, deadline=self.clock.now + timedelta(seconds=10)
            )
        )
        current = was.state == State.LEASED and was.lease_token == leased.token
        assert bool(done) == current
        return mine

    @rule(target=leases, leased=consumes(fresh))
    def publish_and_die(self, leased: Leased) -> tuple[str, str]:
        return leased.letter.id, leased.token

    @rule(attempt=leases)
    def succeed(self, attempt: tuple[str, str]) -> None:
        was = self._letter(attempt[0])
        won = service.settle(self.engine, attempt_reference(*attempt))
        assert won == (was.state not in SETTLED), "a success of any attempt settles what is not settled"
        self.won[attempt[0]] = self.won.get(attempt[0], 0) + won
        self.told.add(attempt[1])
        assert self._attempt(attempt[1]).outcome == ("succeeded" if won else self._before_or_again(attempt))

    def _before_or_again(self, attempt: tuple[str, str]) -> str:
        found = str(self._attempt(attempt[1]).outcome)
        return found if found in {"succeeded", "succeeded_again"} else "succeeded_again"

    @rule(attempt=leases, why=st.sampled_from(sorted(CAUSES)))
    def fail(self, attempt: tuple[str, str], why: str) -> None:
        was = self._letter(attempt[0])
        current = was.lease_token == attempt[1] and was.state in {State.LEASED, State.DISPATCHED}
        amends = self._attempt(attempt[1]).outcome == "failed" and self._attempt(attempt[1]).error is None
        counted = service.record_failure(self.engine, attempt_reference(*attempt), why, CAUSES[why])
        if not current and not amends:
            assert counted is None
            assert self._letter(attempt[0]) == was, "a failure counts with the current token alone"
        self.told.add(attempt[1])
        assert self._attempt(attempt[1]).outcome is not None

    @rule(attempt=leases)
    def fail_silently(self, attempt: tuple[str, str]) -> None:
        service.record_failure(self.engine, attempt_reference(*attempt))
        self.told.add(attempt[1])

    @rule()
    def redrive(self) -> None:
        service.process_batch(self.engine, held=free)

    @rule()
    def redrive_behind_an_open_breaker(self) -> None:
        before = self._attempts()
        done = service.process_batch(self.engine, held=lambda *_: {"payments": Gate("open", 5.0)})
        assert done["leased"] == 0
        assert self._attempts() == before, "held is untouched"

    @precondition(lambda self: self.number)
    @rule(event=events)
    def retry(self, event: str) -> None:
        was = self._letter(event)
        try:
            after = service.retry(self.engine, event, actor="ann")
        except TransitionRefusedError:
            parked = was.state == State.PENDING and was.rank is None
            assert parked or was.state not in {State.PENDING, State.QUARANTINED}
            assert self._letter(event) == was
        else:
            assert after.id == was.id

    @precondition(lambda self: self.number)
    @rule(event=events)
    def discard(self, event: str) -> None:
        was = self._letter(event)
        try:
            service.discard(self.engine, event, actor="ann", reason="not needed")
        except TransitionRefusedError:
            assert was.state not in {State.PENDING, State.QUARANTINED}
        else:
            self.discarded.add(was.id)

    @rule(attempt=leases)
    def discard_and_then_hear_of_a_success(self, attempt: tuple[str, str]) -> None:
        self.lapse()
        self.discard(attempt[0])
        if attempt[0] in self.discarded:
            assert service.settle(self.engine, attempt_reference(*attempt)) is False
            self.told.add(attempt[1])

    # What must hold, always

    @invariant()
    def settled_once(self) -> None:
        if hasattr(self, "engine"):
            assert all(wins <= 1 for wins in self.won.values())

    @invariant()
    def what_is_settled_stays_settled(self) -> None:
        if not hasattr(self, "engine"):
            return
        for letter in self._letters():
            if letter.id in self.discarded:
                assert letter.state == State.DISCARDED
            if self.won.get(letter.id):
                assert letter.state == State.RESOLVED
            assert (letter.settled_at is not None) == (letter.state in SETTLED)
            assert (letter.lease_token is not None) == (letter.state in {State.LEASED, State.DISPATCHED})
            assert letter.state != State.QUARANTINED or letter.reason

    @invariant()
    def one_of_an_order_key_is_in_flight_and_it_is_the_first(self) -> None:
        if not hasattr(self, "engine"):
            return
        for key in ("a", "b"):
            mine = sorted(
                (x for x in self._letters() if x.order_key == key and x.state not in SETTLED),
                key=lambda x: x.id,
            )
            flying = [x for x in mine if x.state in {State.LEASED, State.DISPATCHED}]
            assert flying == [x for x in mine[:1] if x in flying]
            assert all(x.rank is None for x in mine[1:] if x.state == State.PENDING)
            assert not mine or mine[0].state != State.PENDING or mine[0].rank is not None

    @invariant()
    def what_was_told_is_written_down(self) -> None:
        if hasattr(self, "engine"):
            assert all(self._attempt(token).outcome for token in self.told)

    @invariant()
    def the_books_balance(self) -> None:
        if hasattr(self, "engine"):
            assert service.read_ledger(self.engine).balanced

    def _letter(self, event: str) -> Letter:
        return service.show(self.engine, event).letter

    def _letters(self) -> list[Letter]:
        return service.list_letters(self.engine, limit=1000)

    def _attempts(self) -> int:
        with self.engine.database.snapshot() as connection:
            count = sa.select(sa.func.count()).select_from(dead_letter_attempts)
            return int(connection.execute(count).scalar_one())

    def _attempt(self, token: str) -> sa.Row[tuple[object, ...]]:
        with self.engine.database.snapshot() as connection:
            query = sa.select(dead_letter_attempts).where(dead_letter_attempts.c.token == token)
            return connection.execute(query).one()


TestLetters = Letters.TestCase
TestLetters.settings = settings(
    max_examples=8,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
