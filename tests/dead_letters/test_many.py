"""Many at once: leased and settled in few statements, and still one settlement per letter."""

from __future__ import annotations

from regrow.dead_letters import service, store
from regrow.dead_letters.home import attempt_reference
from regrow.engine import Engine
from tests.dead_letters.conftest import Clock, call, return_overdue, take


def outcomes(engine: Engine, letter: str) -> list[str | None]:
    return [attempt.outcome for attempt in service.show(engine, letter).attempts]


def test_each_letter_of_a_batch_has_a_fence_of_its_own_that_the_database_knows(
    letters: Engine, clock: Clock
) -> None:
    service.capture_many(letters, [call(number) for number in range(10)])
    clock.advance(3600)
    batch = take(letters, seconds=60, limit=10)
    assert len({one.token for one in batch}) == 10
    for one in batch:
        details = service.show(letters, one.letter.id)
        known = {name: getattr(details.letter, name) for name in store.Addressed.__dataclass_fields__}
        assert store.Addressed(**known) == one.letter
        assert [attempt.token for attempt in details.attempts] == [one.token]
        assert details.body == one.body

    clock.advance(61)  # at the same moment returned and leased again: another fence
    return_overdue(letters)
    again = take(letters, seconds=60, limit=10)
    assert not {one.token for one in batch} & {one.token for one in again}


def test_outcomes_told_together_settle_each_letter_once(letters: Engine, clock: Clock) -> None:
    events = service.capture_many(letters, [call(number) for number in range(4)])
    clock.advance(3600)
    batch = {one.letter.id: one for one in take(letters, seconds=60, limit=10)}
    clock.advance(61)
    return_overdue(letters)
    again = {one.letter.id: one for one in take(letters, seconds=60, limit=10)}
    twice, before, discarded, plain = [service.show(letters, event).letter.id for event in events]
    assert service.settle(letters, attempt_reference(before, again[before].token))
    by_hand = store.Next(store.State.DISCARDED, reason="by hand")
    letters.database.run(lambda c: store.move(c, store.locked(c, discarded), by_hand, now=clock.now))
    told = [
        (twice, batch[twice].token),  # a late success of the earlier attempt: true, so it settles
        (twice, again[twice].token),
        (before, again[before].token),
        (discarded, again[discarded].token),
        (plain, again[plain].token),
    ]
    won = service.settle_many(letters, [attempt_reference(*one) for one in told])
    assert won == [True, False, False, False, True]
    assert outcomes(letters, twice) == ["succeeded", "succeeded_again"]
    assert outcomes(letters, before) == ["lease_expired", "succeeded"]
    assert outcomes(letters, discarded) == ["lease_expired", "succeeded_again"]
    assert outcomes(letters, plain) == ["lease_expired", "succeeded"]
    assert service.counts(letters)["resolved"] == 3
    assert service.counts(letters)["discarded"] == 1


def test_none_told_is_none_settled(letters: Engine) -> None:
    assert service.settle_many(letters, []) == []
