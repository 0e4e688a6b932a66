"""Who is let in: the whole matrix of endpoints, keys, profiles and addresses."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.web.conftest import KEY, MakeClient

PUBLIC = ["/health/live", "/health/ready", "/health", "/sign-in"]
DETAIL = [
    "/health/detailed",
    "/health/circuit-breakers",
    "/health/dlq",
    "/metrics",
    "/status",
    "/openapi.json",
]
PAGES = ["/", "/reports"]

AS_BROWSER = {"Accept": "text/html"}


def served(status: int) -> bool:
    """200, or 503 with an answer: on empty stores nothing is known to be healthy."""
    return status in {200, 503}


def test_what_is_public_needs_no_key(make_client: MakeClient) -> None:
    stranger = make_client("203.0.113.9", REGROW_PROFILE="production")
    for path in PUBLIC:
        assert served(stranger.get(path).status_code), path


def test_detail_needs_the_key_even_on_a_developers_machine(client: TestClient) -> None:
    for path in DETAIL:
        refused = client.get(path)
        assert refused.status_code == 401, path
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.headers["content-type"] == "application/problem+json"
        assert "X-API-Key" in refused.json()["detail"]


@pytest.mark.parametrize("header", [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}])
def test_the_key_opens_everything_from_everywhere(make_client: MakeClient, header: dict[str, str]) -> None:
    holder = make_client("203.0.113.9", REGROW_PROFILE="production")
    for path in (*DETAIL, *PAGES):
        assert served(holder.get(path, headers=header).status_code), path


@pytest.mark.parametrize(
    "header",
    [
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {KEY}x"},
        {"X-API-Key": "wrong", "Authorization": f"Bearer {KEY}"},
    ],
)
def test_a_wrong_key_opens_nothing_not_even_what_is_open_without_one(
    client: TestClient, header: dict[str, str]
) -> None:
    for path in (*DETAIL, *PAGES):
        assert client.get(path, headers=header).status_code == 401, path


@pytest.mark.parametrize("given", [{}, {"X-API-Key": "anything"}, {"X-API-Key": ""}])
def test_without_a_configured_key_detail_is_closed_and_says_how_to_open_it(
    make_client: MakeClient, given: dict[str, str]
) -> None:
    client = make_client(API_KEY="")
    for path in DETAIL:
        refused = client.get(path, headers=given)
        assert refused.status_code == 403, path
        assert "API_KEY or API_KEY_FILE" in refused.json()["detail"]


@pytest.mark.parametrize("profile", ["development", "testing"])
@pytest.mark.parametrize("key", [KEY, ""])
def test_pages_are_open_on_a_developers_own_machine(make_client: MakeClient, profile: str, key: str) -> None:
    local = make_client(REGROW_PROFILE=profile, API_KEY=key)
    for path in PAGES:
        assert local.get(path, headers=AS_BROWSER).status_code == 200, path


@pytest.mark.parametrize(
    ("address", "environ", "headers"),
    [
        ("127.0.0.1", {"REGROW_PROFILE": "production"}, {}),
        ("127.0.0.1", {"REGROW_WEB__HOST": "0.0.0.0"}, {}),
        ("192.0.2.7", {}, {}),
        ("127.0.0.1", {}, {"X-Forwarded-For": "203.0.113.9"}),
        ("127.0.0.1", {}, {"Forwarded": "for=203.0.113.9"}),
    ],
    ids=[
        "production",
        "bound to every address",
        "from elsewhere",
        "through a proxy",
        "through a modern proxy",
    ],
)
def test_pages_are_closed_everywhere_else(
    make_client: MakeClient, address: str, environ: dict[str, str], headers: dict[str, str]
) -> None:
    visitor = make_client(address, **environ)
    for path in PAGES:
        assert visitor.get(path, headers=headers).status_code == 401
        sent_on = visitor.get(path, headers={**AS_BROWSER, **headers})
        assert (sent_on.status_code, sent_on.headers["location"]) == (303, f"/sign-in?then={path}")


def test_production_without_a_key_shows_no_page_and_says_why(make_client: MakeClient) -> None:
    client = make_client(REGROW_PROFILE="production", API_KEY="")
    for path in PAGES:
        refused = client.get(path, headers=AS_BROWSER)
        assert refused.status_code == 403
        assert "API_KEY or API_KEY_FILE" in refused.text


def test_after_ten_wrong_keys_even_the_right_one_must_wait(client: TestClient) -> None:
    for _ in range(10):
        assert client.get("/status", headers={"X-API-Key": "guess"}).status_code == 401
    waits = client.get("/status", headers={"X-API-Key": KEY})
    assert waits.status_code == 429
    assert 1 <= int(waits.headers["retry-after"]) <= 60


def test_guessing_does_not_lock_out_who_is_signed_in(client: TestClient) -> None:
    client.post("/sign-in", data={"key": KEY})
    for _ in range(12):
        client.get("/status", headers={"X-API-Key": "guess"})
    assert client.get("/status").status_code == 200


def test_a_reader_without_the_key_learns_no_more_than_words(make_client: MakeClient) -> None:
    stranger = make_client("203.0.113.9", REGROW_PROFILE="production")
    assert stranger.get("/health").json() == {"status": "unknown", "beat": "unknown", "draining": False}
    assert stranger.get("/health/live").json() == {"status": "alive"}
    assert stranger.get("/health/ready").json() == {
        "status": "ready",
        "dependencies": {"redis": "up", "database": "up"},
    }


def test_there_are_no_docs_pages_that_load_scripts_from_elsewhere(client: TestClient) -> None:
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404


def test_the_schema_names_the_endpoints(client: TestClient) -> None:
    told = client.get("/openapi.json", headers={"X-API-Key": KEY}).json()
    assert {"/health/live", "/health/detailed", "/metrics", "/reports/{report_id}"} <= set(told["paths"])
    assert "/sign-in" not in told["paths"]
