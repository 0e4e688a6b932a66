"""What stands around every endpoint, on every kind of answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from regrow.web.app import create_app
from regrow.web.shield import CONTENT_POLICY
from tests.web.conftest import KEY, MakeClient, MakeEngine


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/health/live", 200),
        ("GET", "/metrics", 401),
        ("GET", "/nothing", 404),
        ("DELETE", "/health/live", 405),
        ("GET", "/?refresh=1", 422),
    ],
)
def test_every_answer_carries_the_headers(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == CONTENT_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


def test_a_defect_is_told_without_its_inside_and_with_the_headers(
    make_engine: MakeEngine, redis_url: str, sqlite_url: str
) -> None:
    app = create_app(make_engine(redis_url, sqlite_url))

    @app.get("/defect")
    def defect() -> None:
        raise RuntimeError("the password is hunter2")

    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
        answer = client.get("/defect")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.headers["content-security-policy"] == CONTENT_POLICY


def test_static_files_are_kept_by_browsers_and_change_their_address_with_their_content(
    client: TestClient,
) -> None:
    page = client.get("/").text
    address = page.split('rel="stylesheet" href="')[1].split('"')[0]
    answer = client.get(address)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert "?v=" in address
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000"])
def test_on_loopback_loopback_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_on_loopback_no_other_name_is_answered(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "web.allowed_hosts" in answer.json()["detail"]


def test_a_name_can_be_allowed(make_client: MakeClient) -> None:
    client = make_client(REGROW_WEB__ALLOWED_HOSTS='["regrow.example"]')
    assert client.get("/health/live", headers={"Host": "Regrow.example:443"}).status_code == 200
    assert client.get("/health/live", headers={"Host": "other.example"}).status_code == 400


def test_bound_to_every_address_any_name_is_answered_unless_names_are_given(make_client: MakeClient) -> None:
    wide = make_client(REGROW_WEB__HOST="0.0.0.0")
    assert wide.get("/health/live", headers={"Host": "web.internal"}).status_code == 200
    strict = make_client(REGROW_WEB__HOST="0.0.0.0", REGROW_WEB__ALLOWED_HOSTS='["regrow.example"]')
    assert strict.get("/health/live", headers={"Host": "web.internal"}).status_code == 400


def test_a_body_is_refused_by_its_declared_length(make_client: MakeClient) -> None:
    client = make_client(MAX_CONTENT_LENGTH="1000")
    answer = client.post("/sign-in", content=b"x" * 1001)
    assert answer.status_code == 413
    assert "MAX_CONTENT_LENGTH" in answer.json()["detail"]


def test_a_body_without_a_declared_length_is_refused_while_it_is_read(make_client: MakeClient) -> None:
    def unannounced() -> Iterator[bytes]:
        for _ in range(20):  # more than the limit, less than what a form may hold
            yield b"key=" + b"x" * 100

    assert make_client(MAX_CONTENT_LENGTH="1000").post("/sign-in", content=unannounced()).status_code == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "abc", "+5"])
def test_a_length_that_is_no_number_is_refused(client: TestClient, length: str) -> None:
    assert client.post("/sign-in", headers={"Content-Length": length}).status_code == 413


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/", "/static/regrow.css"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    asked, got = client.head(path), client.get(path)
    assert (asked.status_code, asked.content) == (got.status_code, b"")
    assert asked.headers["content-type"] == got.headers["content-type"]


def test_head_does_not_open_what_get_does_not(client: TestClient) -> None:
    assert client.head("/metrics").status_code == 401
    assert client.head("/metrics", headers={"X-API-Key": KEY}).status_code == 200
