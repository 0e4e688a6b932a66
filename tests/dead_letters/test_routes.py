"""Which way a letter goes home, and what travels with it."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import headers as known_headers
from regrow.dead_letters import redriving, routes, service
from regrow.dead_letters.home import HEADER, Raw
from regrow.dead_letters.posting import EFFECT_KEY, kept_headers, posting_of
from regrow.dead_letters.route import Outbound
from regrow.dead_letters.store import Letter
from regrow.engine import Engine
from regrow.errors import RouteError
from regrow.settings import load_settings
from tests.dead_letters.conftest import Clock, Post, call, free, take

WRITTEN = """
[brokers.orders]
url = "amqp://orders.example.com//"

[dead_letters.routes.invoice]
task = "billing.send"
queue = "billing"

[dead_letters.routes.parcel]
kind = "celery"
task = "ship.send"
broker = "orders"

[dead_letters.routes.letter]
kind = "celery"
task = "ship.send"
broker = "orders"
confirm = "outcome"

[dead_letters.routes.event]
kind = "amqp"

[dead_letters.routes.audit]
kind = "amqp"
exchange = "audit"
routing_key = "all"
broker = "orders"
confirm = "outcome"

[dead_letters.routes.hook]
kind = "webhook"
url = "http://127.0.0.1:1/hook?token=secret"
signing_keys = ["0123456789abcdef"]

[dead_letters.routes.report]
kind = "handler"
handler = "shop.reports:again"
"""


@pytest.fixture
def find(tmp_path: Path, post: Post) -> Iterator[Callable[..., object]]:
    """Where a letter of these facts would go, with the routes above declared."""
    (tmp_path / "regrow.toml").write_text(WRITTEN)
    settings = load_settings(
        tmp_path / "regrow.toml",
        "testing",
        {"REGROW_REDIS_URL": "redis://127.0.0.1:1/0", "REGROW_HOME": str(tmp_path)},
    )
    engine = Engine(settings, sender=post)
    blank = {field.name: None for field in dataclasses.fields(Letter)}
    yield lambda **facts: routes.find(
        engine, Letter(**{**blank, "service": "shop", "confirm": "outcome", **facts})
    )
    engine.close()


@pytest.mark.parametrize(
    ("facts", "target", "settled", "breaker"),
    [
        # What is declared comes before what the letter says.
        (
            {"message_type": "invoice", "task": "old", "queue": "old"},
            "task billing.send on queue billing",
            "outcome",
            "regrow.broker",
        ),
        (
            {"message_type": "parcel"},
            "task ship.send on queue celery of broker orders",
            "publish",
            "regrow.broker:orders",
        ),
        (
            {"message_type": "letter"},
            "task ship.send on queue celery of broker orders",
            "outcome",
            "regrow.broker:orders",
        ),
        (
            {"message_type": "event", "exchange": "shop", "routing_key": "order.paid", "queue": "mail"},
            "exchange 'shop' with key 'order.paid'",
            "publish",
            "regrow.broker",
        ),
        (
            {"message_type": "audit"},
            "exchange 'audit' with key 'all' of broker orders",
            "outcome",
            "regrow.broker:orders",
        ),
        ({"message_type": "hook"}, "webhook http://127.0.0.1:1/hook", "return", "shop"),
        ({"message_type": "report"}, "handler shop.reports:again", "return", "shop"),
        # What is not declared goes where it came from.
        (
            {"message_type": "charge", "task": "shop.charge", "queue": "shop"},
            "task shop.charge on queue shop",
            "outcome",
            "regrow.broker",
        ),
        (
            {"message_type": "charge", "task": "shop.charge"},
            "task shop.charge on queue celery",
            "outcome",
            "regrow.broker",
        ),
        (
            {"message_type": "charge", "task": "shop.charge", "broker": "orders", "confirm": "publish"},
            "task shop.charge on queue celery of broker orders",
            "publish",
            "regrow.broker:orders",
        ),
        # From a dead-letter queue: to the queue it died in, not to all that its exchange serves.
        (
            {
                "message_type": "x",
                "queue": "mail",
                "exchange": "shop",
                "routing_key": "a",
                "broker": "orders",
            },
            "queue 'mail' of broker orders",
            "publish",
            "regrow.broker:orders",
        ),
    ],
)
def test_the_way_home(find, facts: dict[str, str], target: str, settled: str, breaker: str) -> None:
    route = find(**facts)
    assert (route.target, route.settled, route.breaker) == (target, settled, breaker)
    assert route.runs_here == (settled == "return")


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        ({"message_type": "sms"}, r"declare \[dead_letters.routes.sms\]"),
        ({"message_type": "sms", "queue": "phone"}, r"declare \[dead_letters.routes.sms\]"),
        ({"message_type": "event", "queue": "phone"}, "declare exchange and routing_key"),
        ({"message_type": "t", "task": "t", "broker": "far"}, r"write \[brokers.far\]"),
    ],
)
def test_without_a_way_home_the_remedy_is_named(find, facts: dict[str, str], remedy: str) -> None:
    with pytest.raises(RouteError, match=remedy):
        find(**facts)


def test_a_task_on_another_broker_carries_no_callbacks_that_nobody_would_hear(find, post: Post) -> None:
    route = find(message_type="letter")
    route.engine._senders["orders"] = post
    engine = route.engine
    engine.database.upgrade()
    service.capture(engine, call(message_type="letter", idempotency_key="order-7"))
    leased = take(engine, now=datetime(2100, 1, 1, tzinfo=UTC))
    route.send(Outbound.of(leased[0]))
    ((_, message),) = post.home
    assert (message.callbacks, message.errbacks) == ([], [])
    assert message.headers[HEADER] == f"{leased[0].letter.id}:{leased[0].token}"
    assert message.headers[EFFECT_KEY] == "order-7"


def test_a_redriven_message_says_that_it_was_sent_now_not_when_its_first_one_was(find, post: Post) -> None:
    route = find(message_type="invoice")
    route.engine.database.upgrade()
    service.capture(route.engine, call(message_type="invoice"))
    leased = take(route.engine, now=datetime(2100, 1, 1, tzinfo=UTC))
    outbound = Outbound.of(leased[0])
    first = {"task": "billing.send", "id": "abc", known_headers.SENT_AT: 5.0}
    before = route.engine.clock().timestamp() - 1
    route.send(dataclasses.replace(outbound, body=dataclasses.replace(outbound.body, headers=first)))
    ((_, message),) = post.home
    assert message.headers[known_headers.SENT_AT] > before


@pytest.mark.parametrize("which", ["orders", "own"])
def test_a_broker_that_is_away_holds_up_its_own_letters_alone(
    find, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    engine = find(message_type="letter").engine
    engine.clock = clock
    engine.database.upgrade()
    orders = engine._senders["orders"] = Post(away=which == "orders")
    post.away = which == "own"
    monkeypatch.setattr(redriving._random, "shuffle", list.sort)  # "far" has its turn before "near"
    far = [call(n, service="far", message_type=kind) for n, kind in enumerate(("letter", "charge", "letter"))]
    service.capture_many(engine, [*far, call(4, service="near")])
    clock.advance(3600)
    done = redriving.process_batch(engine, held=free)
    if which == "orders":
        assert (len(post.home), done["released"]) == (2, 2), "whoever goes elsewhere goes"
    else:
        assert (len(orders.home), done["released"]) == (2, 1), "and the run ends where ours is away"
    assert {letter.attempts for letter in service.list_letters(engine, state="pending")} == {0}


_text = st.text(string.printable, max_size=8)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31)
    | st.floats(allow_nan=False)
    | _text
    | st.binary(max_size=8)
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
    | st.datetimes(timezones=st.just(UTC)),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_text, below, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(_text.filter(lambda name: not name.startswith(("x-", "regrow"))), _values, max_size=4))
def test_every_header_of_amqp_comes_home_as_it_was(headers: dict[str, object]) -> None:
    kept = kept_headers(headers, {})
    again = posting_of("", "q", Raw(b"", "", ""), kept, reference="L:T", effect_key="k").headers
    assert {name: again[name] for name in headers} == headers


def test_what_the_broker_wrote_about_deaths_stays_behind_and_properties_come_along() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    headers = {"x-death": [{"time": at}], "x-first-death-queue": "q", "x-delivery-count": 3, "x-tenant": "a"}
    properties = {"message_id": "m", "timestamp": 1, "priority": 3, "expiration": "1", "user_id": "guest"}
    kept = kept_headers({**headers, "price": Decimal("1.5")}, properties)
    posting = posting_of("shop", "paid", Raw(b"{}", "t", "u"), kept, reference="L:T", effect_key="k")
    assert posting.headers == {"x-tenant": "a", "price": Decimal("1.5"), HEADER: "L:T", EFFECT_KEY: "k"}
    assert posting.properties == {"message_id": "m", "timestamp": 1, "priority": 3}
