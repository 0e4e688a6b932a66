"""``POST /dead-letters``: who may, what is kept, what is refused, and that nothing is kept by halves."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regrow.dead_letters import service
from regrow.engine import Engine
from regrow.web import intake
from tests.servers import MariaServer
from tests.web.conftest import KEY, MakeClient, MakeEngine

INTAKE = "an intake key of its own"
ONE = {"message": {"order": 1}, "message_type": "order", "error": {"class": "shop.Sold", "message": "out"}}


@pytest.fixture
def bringer(make_client: MakeClient) -> TestClient:
    """A client that holds the intake key, from an address of its own."""
    client = make_client(
        "10.0.0.9", REGROW_WEB__INTAKE_KEY=INTAKE, REGROW_DEAD_LETTERS__MAX_BODY_BYTES="2000"
    )
    client.headers["X-API-Key"] = INTAKE
    return client


def engine_of(client: TestClient) -> Engine:
    return client.app.state.reader.engine  # type: ignore[attr-defined]


def test_one_message_is_kept_and_told_again_is_known(bringer: TestClient) -> None:
    told = [bringer.post("/dead-letters", json=ONE, headers={"Idempotency-Key": "r-1"}) for _ in range(2)]
    assert [answer.status_code for answer in told] == [201, 200]
    assert [answer.json()["known"] for answer in told] == [False, True]
    event = told[0].json()["event_id"]
    assert told[1].json()["event_id"] == event
    found = service.show(engine_of(bringer), event)
    assert (json.loads(found.body.body), found.letter.seen) == ({"order": 1}, 1)
    assert (found.letter.error_class, found.letter.message_type, found.letter.service) == (
        "shop.Sold",
        "order",
        "order",
    )


def test_many_are_kept_in_order_and_a_message_told_under_its_key_is_one_letter(bringer: TestClient) -> None:
    many = [{**ONE, "message": number, "idempotency_key": f"k-{number % 2}"} for number in range(4)]
    answer = bringer.post("/dead-letters", json=many, headers={"Idempotency-Key": "r-2"})
    assert answer.status_code == 201
    events = [event["event_id"] for event in answer.json()["events"]]
    shown = [service.show(engine_of(bringer), event) for event in events]
    assert [found.letter.idempotency_key for found in shown] == ["http:k-0", "http:k-1"] * 2
    assert {found.letter.seen for found in shown} == {2}


def test_it_says_what_it_is_and_never_where_it_goes(bringer: TestClient) -> None:
    call = {"task": "shop.charge", "id": "abc", "args": "not even a list", "queue": "shop"}
    event = bringer.post("/dead-letters", json={"message": call, "message_type": "x"}).json()["event_id"]
    letter = service.show(engine_of(bringer), event).letter
    assert (letter.task, letter.task_id, letter.queue) == (None, None, None)
    assert letter.idempotency_key == f"event:{event}", "nor can it pass for the message of a task"
    refused = bringer.post("/dead-letters", json={**ONE, "task": "shop.charge"})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("task: Extra inputs")


def test_the_intake_key_opens_the_intake_alone(bringer: TestClient, make_client: MakeClient) -> None:
    for path in ("/health/detailed", "/health/dlq", "/metrics", "/openapi.json"):
        assert bringer.get(path).status_code == 401
    stranger = make_client("10.0.0.8", REGROW_WEB__INTAKE_KEY=INTAKE)
    assert stranger.post("/dead-letters", json=ONE).status_code == 401
    assert stranger.post("/dead-letters", json=ONE, headers={"X-API-Key": "wrong"}).status_code == 401
    assert (
        stranger.post("/dead-letters", json=ONE, headers={"Authorization": f"Bearer {INTAKE}"}).status_code
        == 201
    )
    assert stranger.post("/dead-letters", json=ONE, headers={"X-API-Key": KEY}).status_code == 201


def test_a_browsers_session_will_not_do(make_client: MakeClient) -> None:
    browser = make_client()
    browser.post("/sign-in", data={"key": KEY}, headers={"Origin": "http://127.0.0.1:8000"})
    assert browser.get("/health/dlq").status_code == 200
    assert browser.post("/dead-letters", json=ONE).status_code == 401


def test_without_any_key_nobody_may(make_client: MakeClient) -> None:
    answer = make_client(API_KEY="").post("/dead-letters", json=ONE)
    assert (answer.status_code, "web.intake_key" in answer.json()["detail"]) == (403, True)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "the body is not JSON"),
        (b'{"message": NaN, "message_type": "t"}', "NaN is no JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "0 messages; send 1 to 200"),
        (json.dumps([ONE] * 201).encode(), "201 messages"),
        (b"3", "the message: Input should be"),
        (json.dumps([ONE, {"message": 1}]).encode(), "[1].message_type: Field required"),
        (json.dumps({**ONE, "failed_at": "2026-01-01T00:00:00"}).encode(), "failed_at: "),
        (json.dumps({**ONE, "max_retries": -1}).encode(), "max_retries: "),
        (json.dumps({**ONE, "error": {"clas": "x"}}).encode(), "error.clas: Extra inputs"),
    ],
)
def test_what_cannot_be_kept_is_named_with_its_place_and_nothing_is_kept(
    bringer: TestClient, body: bytes, told: str
) -> None:
    answer = bringer.post("/dead-letters", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert service.list_letters(engine_of(bringer)) == []


def test_sizes_are_bounded_each_with_its_limit(bringer: TestClient, make_client: MakeClient) -> None:
    large = [ONE, {**ONE, "message": "x" * 2000}]
    answer = bringer.post("/dead-letters", json=large)
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith("[1]: ")
    assert "dead_letters.max_body_bytes" in answer.json()["detail"]
    assert service.list_letters(engine_of(bringer)) == []
    small = make_client(MAX_CONTENT_LENGTH="50")
    answer = small.post("/dead-letters", json=ONE, headers={"X-API-Key": KEY})
    assert (answer.status_code, "MAX_CONTENT_LENGTH" in answer.json()["detail"]) == (413, True)


def test_only_json_and_only_so_many_at_once(bringer: TestClient) -> None:
    assert (
        bringer.post("/dead-letters", content=b"{}", headers={"Content-Type": "text/plain"}).status_code
        == 415
    )
    gate = bringer.app.state.intake  # type: ignore[attr-defined]
    gate.free = 0
    answer = bringer.post("/dead-letters", json=ONE)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    gate.free = intake.AT_ONCE
    assert bringer.post("/dead-letters", json=ONE).status_code == 201
    assert bringer.post(
        "/dead-letters", content=b"{", headers={"Content-Type": "application/json"}
    ).status_code
    assert gate.free == intake.AT_ONCE, "a refusal gives its place back"


def test_while_the_database_is_away_nothing_is_kept_and_the_same_may_be_sent_again(
    own_mysql: MariaServer, redis_url: str, make_engine: MakeEngine, make_client: MakeClient
) -> None:
    import sqlalchemy as sa

    with sa.create_engine(own_mysql.url()).connect() as admin:
        admin.exec_driver_sql("CREATE DATABASE regrow")
    engine = make_engine(redis_url, own_mysql.url("regrow"), REGROW_DATABASE__CONNECT_TIMEOUT="1")
    client = make_client(engine=engine)
    headers = {"X-API-Key": KEY, "Idempotency-Key": "again"}
    own_mysql.kill()
    away = client.post("/dead-letters", json=[ONE, ONE], headers=headers)
    assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
    own_mysql.start()
    assert client.post("/dead-letters", json=[ONE, ONE], headers=headers).status_code == 201
    assert len(service.list_letters(engine)) == 2


def test_it_is_described(bringer: TestClient) -> None:
    described = bringer.get("/openapi.json", headers={"X-API-Key": KEY}).json()
    post = described["paths"]["/dead-letters"]["post"]
    one, many = post["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert one["required"] == ["message", "message_type"]
    assert "task" not in one["properties"]
    assert many["maxItems"] == 200
    assert "$ref" not in json.dumps(post["requestBody"])
    assert {"200", "201", "401", "413", "415", "422", "503"} <= set(post["responses"])
    assert "Idempotency-Key" in [parameter["name"] for parameter in post["parameters"]]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)
_names = st.sampled_from(sorted(intake.FailedMessage.model_fields))
_fields = st.dictionaries(_names, _json | st.sampled_from(["order", "2026-01-01T00:00:00Z", "high"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_json | _fields.map(lambda found: {"message_type": "t", "message": 1, **found}) | st.lists(_fields))
def test_whatever_comes_in_is_kept_whole_or_refused(bringer: TestClient, body: object) -> None:
    before = service.counts(engine_of(bringer))["pending"]
    answer = bringer.post(
        "/dead-letters", content=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {201, 413, 422}
    if answer.status_code == 201:
        event = answer.json().get("event_id")
        if event:
            kept = service.show(engine_of(bringer), event).body.body
            assert json.loads(kept) == body["message"]  # type: ignore[index]
    else:
        assert service.counts(engine_of(bringer))["pending"] == before
