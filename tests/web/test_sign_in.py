"""Signing in and out with a browser's form."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.web.conftest import KEY, MakeClient


@pytest.fixture
def visitor(make_client: MakeClient) -> TestClient:
    return make_client("203.0.113.9", REGROW_PROFILE="production")


def test_the_right_key_signs_in_and_leads_back(visitor: TestClient) -> None:
    answer = visitor.post("/sign-in", data={"key": f" {KEY} ", "then": "/reports"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/reports")
    assert visitor.get("/reports").status_code == 200
    assert visitor.get("/status").status_code == 200


def test_the_session_is_out_of_reach_of_scripts_and_other_sites(visitor: TestClient) -> None:
    cookie = visitor.post("/sign-in", data={"key": KEY}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert "max-age=43200" in cookie
    assert "secure" not in cookie
    assert KEY not in cookie


def test_behind_tls_the_session_never_travels_in_the_clear(visitor: TestClient) -> None:
    answer = visitor.post("/sign-in", data={"key": KEY}, headers={"X-Forwarded-Proto": "https"})
    assert "; secure" in answer.headers["set-cookie"].lower()


def test_a_wrong_key_shows_the_form_again_and_gives_no_session(visitor: TestClient) -> None:
    answer = visitor.post("/sign-in", data={"key": "wrong", "then": "/reports"})
    assert answer.status_code == 401
    assert "That is not the key" in answer.text
    assert 'value="/reports"' in answer.text
    assert "wrong" not in answer.text.replace("wrong keys", "")
    assert "set-cookie" not in answer.headers


def test_signing_out_ends_it(visitor: TestClient) -> None:
    visitor.post("/sign-in", data={"key": KEY})
    answer = visitor.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert visitor.get("/reports").status_code == 401


def test_ten_wrong_keys_in_the_form_are_enough(visitor: TestClient) -> None:
    for _ in range(10):
        assert visitor.post("/sign-in", data={"key": "guess"}).status_code == 401
    waits = visitor.post("/sign-in", data={"key": KEY})
    assert waits.status_code == 429
    assert "Too many wrong keys" in waits.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1.evil.example:8000"},
    ],
)
@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
def test_forms_of_other_sites_are_refused(visitor: TestClient, path: str, headers: dict[str, str]) -> None:
    answer = visitor.post(path, data={"key": KEY}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {"Origin": "http://127.0.0.1:8000"}]
)
def test_our_own_form_is_taken(visitor: TestClient, headers: dict[str, str]) -> None:
    assert visitor.post("/sign-in", data={"key": KEY}, headers=headers).status_code == 303


def test_a_link_cannot_lead_elsewhere(visitor: TestClient) -> None:
    answer = visitor.post("/sign-in", data={"key": KEY, "then": "//evil.example/"})
    assert answer.headers["location"] == "/"


def test_what_stands_in_the_address_is_escaped(visitor: TestClient) -> None:
    answer = visitor.get("/sign-in", params={"then": '/"><script>alert(1)</script>'})
    assert "<script>" not in answer.text


def test_without_a_configured_key_the_form_says_what_to_do(make_client: MakeClient) -> None:
    answer = make_client(REGROW_PROFILE="production", API_KEY="").get("/sign-in")
    assert answer.status_code == 403
    assert "API_KEY or API_KEY_FILE" in answer.text


def test_a_huge_form_is_refused(visitor: TestClient) -> None:
    assert visitor.post("/sign-in", data={"key": "x" * 10_000}).status_code == 413
