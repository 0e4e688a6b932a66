"""An app hands over 100 failed messages; they come home and settle, whatever is killed on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from regrow.celery import CelerySender
from regrow.database.tables import dead_letter_attempts, dead_letters
from regrow.dead_letters import capture_many, send_through, service
from tests.acceptance.conftest import Deployment
from tests.waiting import eventually

ORDERS = 100


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_all_settle_once_though_child_and_main_are_killed_in_the_middle(
    request: pytest.FixtureRequest,
    deploy: Callable[..., Deployment],
    redis_url: str,
    mysql_url: str,
    tally: Callable[[str], dict[str, int]],
    broker: str,
) -> None:
    broker_url = redis_url if broker == "redis" else str(request.getfixturevalue("rabbitmq_url"))
    regrow = deploy(redis_url, mysql_url, broker_url)
    runs = f"shop:{broker}"
    worker = regrow.start_worker()
    regrow.start_beat()
    shop = regrow.start_shop(runs)

    enqueue = regrow.start(
        "enqueue", ["-m", "tests.acceptance.shop", str(ORDERS)], **regrow.shop_environ(runs)
    )
    worker.kill_a_child()
    assert enqueue.process is not None
    assert enqueue.process.wait(60) == 0, enqueue.tail()
    eventually(lambda: _total(regrow) == ORDERS, 60, what=f"{ORDERS} letters in the database")

    eventually(lambda: service.counts(regrow.engine)["resolved"] >= 1, 60, what="the first letters settle")
    worker.kill_a_child()
    worker.kill_main()
    worker.start()
    eventually(
        lambda: service.counts(regrow.engine)["resolved"] == ORDERS,
        90,
        what=f"all settle: {service.counts(regrow.engine)}\n{worker.tail()}\n{shop.tail()}",
    )

    assert _total(regrow) == ORDERS, _unexpected(regrow)
    assert set(_settlements(regrow).values()) == {1}, "each letter has exactly one settling attempt"
    assert set(tally(runs)) == {str(order) for order in range(ORDERS)}, "each order reached its task"


def _total(regrow: Deployment) -> int:
    return sum(service.counts(regrow.engine).values())


def _unexpected(regrow: Deployment) -> list[tuple[object, ...]]:
    c = dead_letters.c
    query = sa.select(
        c.idempotency_key, c.generation, c.state, c.task, c.error_class, c.error_message, c.reason
    )
    with regrow.engine.database.snapshot() as connection:
        found = connection.execute(query.where(sa.or_(c.task != "shop.charge", c.generation > 1)))
        return [tuple(row) for row in found]


def _settlements(regrow: Deployment) -> Counter[str]:
    query = sa.select(dead_letters.c.id, sa.func.count(dead_letter_attempts.c.token)).join(
        dead_letter_attempts,
        sa.and_(
            dead_letter_attempts.c.letter_id == dead_letters.c.id,
            dead_letter_attempts.c.outcome == "succeeded",
        ),
        isouter=True,
    )
    with regrow.engine.database.snapshot() as connection:
        found = connection.execute(query.group_by(dead_letters.c.id))
        return Counter({row[0]: row[1] for row in found})


@pytest.mark.slow
def test_a_plain_app_tells_failures_too_and_what_never_succeeds_waits_for_a_person(
    deploy: Callable[..., Deployment],
    redis_url: str,
    sqlite_url: str,
    tally: Callable[[str], dict[str, int]],
) -> None:
    regrow = deploy(redis_url, sqlite_url)
    regrow.start_worker()
    regrow.start_beat()
    shop = regrow.start_shop("shop:moody")
    send_through(CelerySender.from_broker(redis_url, {}))
    try:
        mends, never = capture_many(
            [
                {"message": {"task": "shop.moody", "args": [1, 2], "queue": "shop"}, "max_retries": 4},
                {"message": {"task": "shop.moody", "args": [2, 0], "queue": "shop"}, "max_retries": 2},
            ]
        )
    finally:
        send_through(None)

    def outcomes(event: str) -> tuple[str, list[str | None]]:
        details = service.show(regrow.engine, event)
        return details.letter.state.value, [attempt.outcome for attempt in details.attempts]

    eventually(lambda: outcomes(mends) == ("resolved", ["failed", "succeeded"]), 60, what=shop.tail())
    eventually(lambda: outcomes(never) == ("quarantined", ["failed", "failed"]), 60, what=shop.tail())
    assert tally("shop:moody") == {"moody-1": 2, "moody-2": 2}
    assert "2 of 2 redrives" in str(service.show(regrow.engine, never).letter.reason)
