"""Routes that run a letter in our own process: counted before they run, settled by what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from regrow.dead_letters import redriving, routes, service
from regrow.dead_letters.route import Outbound
from regrow.engine import Engine
from regrow.errors import CircuitOpenError, DeliveryFailedError, DeliveryRefusedError
from tests.dead_letters.conftest import Clock, call, free, return_overdue, take


@dataclass(frozen=True)
class Here:
    """A route that does what the test says."""

    run: Callable[[Outbound], None]
    target = "here"
    settled = "return"
    runs_here = True
    longest = 30.0
    breaker = "payments"

    def send(self, outbound: Outbound) -> None:
        self.run(outbound)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def here(monkeypatch) -> Callable[[Callable[[Outbound], None]], None]:
    return lambda run: monkeypatch.setattr(routes, "find", lambda *_: Here(run))


def _redrive(letters: Engine, clock: Clock) -> dict[str, int]:
    clock.advance(3600)
    return redriving.process_batch(letters, held=free)


def test_what_returns_is_settled_and_counts_one_attempt(letters: Engine, clock: Clock, here) -> None:
    seen: list[tuple[str, str, str]] = []

    def run(outbound: Outbound) -> None:
        letter = service.show(letters, event).letter
        seen.append((letter.state.value, outbound.effect_key, outbound.reference))

    here(run)
    event = service.capture(letters, call(idempotency_key="order-1"))
    assert _redrive(letters, clock)["resolved"] == 1
    found = service.show(letters, event)
    assert seen == [("dispatched", "order-1", f"{found.letter.id}:{found.attempts[0].token}")]
    assert (found.letter.state, found.letter.attempts, found.attempts[0].outcome) == (
        "resolved",
        1,
        "succeeded",
    )


def test_what_fails_waits_as_long_as_the_receiver_asks_within_reason(
    letters: Engine, clock: Clock, here
) -> None:
    asked = iter([600.0, 10.0**9])

    def run(_outbound: Outbound) -> None:
        raise DeliveryFailedError("busy", retry_after=next(asked))

    here(run)
    event = service.capture(letters, call())
    for number, least in enumerate((600.0, 86_400.0), start=1):
        assert _redrive(letters, clock)["failed"] == 1
        letter = service.show(letters, event).letter
        assert (letter.state, letter.attempts) == ("pending", number)
        asked_for = timedelta(seconds=least)
        assert asked_for <= letter.due_at - clock.now <= 1.2 * asked_for
        clock.now = letter.due_at


def test_a_refusal_for_good_waits_for_a_person(letters: Engine, clock: Clock, here) -> None:
    def run(_outbound: Outbound) -> None:
        raise DeliveryRefusedError("410 Gone")

    here(run)
    event = service.capture(letters, call())
    assert _redrive(letters, clock)["quarantined"] == 1
    assert service.show(letters, event).letter.reason == "410 Gone"


def test_an_open_breaker_costs_nothing_its_own_or_one_inside(letters: Engine, clock: Clock, here) -> None:
    def run(_outbound: Outbound) -> None:
        raise CircuitOpenError("bank", 30.0)

    here(run)
    event = service.capture(letters, call())
    assert _redrive(letters, clock)["refused"] == 1
    letter = service.show(letters, event).letter
    assert (letter.state, letter.attempts) == ("pending", 0)


def test_failures_open_the_services_breaker_and_the_rest_is_held(letters: Engine, clock: Clock, here) -> None:
    ran = []

    def run(outbound: Outbound) -> None:
        ran.append(outbound.letter.id)
        raise DeliveryFailedError("down")

    here(run)
    service.capture_many(letters, [call(number) for number in range(12)])
    done = _redrive(letters, clock)
    threshold = letters.settings.breaker("payments").failure_threshold
    assert (len(ran), done["failed"], done["refused"]) == (threshold, threshold, 12 - threshold)


def test_one_that_kills_its_worker_costs_an_attempt_each_time(letters: Engine, clock: Clock, here) -> None:
    class Killed(BaseException):
        pass

    def run(_outbound: Outbound) -> None:
        raise Killed

    here(run)
    event = service.capture(letters, call(max_retries=2))
    for _ in range(2):
        with pytest.raises(Killed):
            _redrive(letters, clock)
        clock.advance(3600)
        assert return_overdue(letters) == 1
    letter = service.show(letters, event).letter
    assert (letter.state, letter.attempts) == ("quarantined", 2)


def test_a_worker_that_lost_its_lease_does_not_run_it(
    letters: Engine, clock: Clock, here, monkeypatch
) -> None:
    ran: list[str] = []
    here(lambda outbound: ran.append(outbound.token))
    service.capture(letters, call())
    clock.advance(3600)
    stale = take(letters, owner="zombie", seconds=5)
    clock.advance(6)
    assert redriving.process_batch(letters, held=free)["resolved"] == 1
    # The zombie wakes up, believes in its lease, and finds that it is no longer its own.
    monkeypatch.setattr(redriving.rules, "may_publish", lambda *_: True)
    assert redriving._send_home(letters, stale[0], set()) == "released"
    assert len(ran) == 1
