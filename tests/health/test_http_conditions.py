"""What an HTTP answer must say, how fast, and for how long its certificate must last; TLS on bare TCP too."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from regrow.health.checks import http, probe_of
from regrow.health.checks.bodies import remarks_on
from regrow.settings.checks import HttpCheck, TcpCheck
from tests.health.certificates import certificate, serving
from tests.servers import free_port
from tests.settings.test_errors import complaint

BODY = {
    "status": "ok",
    "version": "2.4.1",
    "queue": {"depth": 12, "full": False},
    "nodes": [{"up": True, "lag": 0.5}, {"up": True, "lag": 3}],
}


def check(**declared):
    return HttpCheck.model_validate({"kind": "http", "url": "http://shop/health", **declared})


def said(text, **declared):
    return [(remark.status, remark.message) for remark in remarks_on(check(**declared), text)]


@pytest.mark.parametrize(
    ("condition", "broken"),
    [
        ({"path": "$.status", "equals": "ok"}, None),
        ({"path": "$.status", "equals": "fine"}, '$.status is "ok", not "fine"'),
        ({"path": "$.queue.depth", "at_most": 12, "at_least": 12}, None),
        ({"path": "$.queue.depth", "at_most": 10}, "$.queue.depth is 12, not 10 or less"),
        ({"path": "$.queue.depth", "at_least": 13}, "$.queue.depth is 12, not 13 or more"),
        ({"path": "$.queue.full", "equals": False}, None),
        ({"path": "$.queue.full", "equals": 0}, "$.queue.full is false, not 0"),
        ({"path": "$.queue.full", "at_most": 1}, "$.queue.full is false, not 1 or less"),
        ({"path": "$.nodes[*].lag", "at_most": 1}, "$.nodes[*].lag is 3, not 1 or less"),
        ({"path": "$.nodes[*].up", "equals": True}, None),
        ({"path": "$.version", "matches": r"^2\."}, None),
        ({"path": "$.version", "matches": r"^3\."}, r'$.version is "2.4.1", not like ^3\.'),
        ({"path": "$.queue"}, None),
        ({"path": "$.queue", "equals": 1}, "$.queue is a structure, not 1"),
        ({"path": "$.absent"}, "the body has no $.absent"),
        ({"path": "$.absent", "equals": None}, "the body has no $.absent"),
    ],
)
def test_every_place_that_a_path_finds_must_be_as_it_should(condition, broken):
    expected = [("unhealthy", broken)] if broken else []
    assert said(json.dumps(BODY), expect_json=[condition]) == expected


@pytest.mark.parametrize("text", ["", "no", "[" * 100_000])
def test_a_body_that_is_no_json_is_unhealthy(text):
    assert said(text, expect_json=[{"path": "$.a"}]) == [("unhealthy", "the body is no JSON")]


def test_json_that_is_a_bare_value_has_no_places():
    assert said("12", expect_json=[{"path": "$.a"}]) == [("unhealthy", "the body has no $.a")]


def test_text_and_pattern_must_both_be_there():
    assert said("all is well", expect_body="is", expect_pattern=r"w\w+l$") == []
    assert [message for _, message in said("all is ill", expect_body="good", expect_pattern="well$")] == [
        "the expected text is missing",
        "well$ is not found in the body",
    ]


def test_a_pattern_that_never_ends_is_given_up_and_is_nobodys_fault():
    ((status, message),) = said("a" * 60 + "!", expect_pattern="^(a|aa)+$")
    assert (status, "no end" in message) == ("unknown", True)


def test_a_wrong_status_alone_is_told_whatever_else_the_body_says():
    found = http.verdict(check(expect_body="ok"), http.Answer(500, "no", 0.1), now=0)
    assert found.message == "http://shop/health answered 500; expected 200, 201, 202, 203, 204"


@pytest.mark.parametrize(("seconds", "status"), [(0.1, "healthy"), (0.6, "degraded"), (2.1, "unhealthy")])
def test_an_answer_is_slow_and_too_slow(seconds, status):
    assert http.verdict(check(slow=0.5, too_slow=2), http.Answer(200, "", seconds), now=0).status == status


@pytest.mark.parametrize(
    ("days", "status"), [(30, "healthy"), (20.9, "degraded"), (6.9, "unhealthy"), (-1, "unhealthy")]
)
def test_a_certificate_is_judged_by_the_days_it_has_left(days, status):
    found = http.verdict(check(), http.Answer(200, "", 0.1, certificate_ends=days * 86_400), now=0)
    assert found.status == status


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("expect_pattern = '(a'", "expect_pattern = '(a': this is no regular expression: missing )"),
        ("expect_json = [{path = '$.a['}]", "expect_json[0].path = '$.a[': this is no JSONPath: unexpected"),
        ("slow = 2\ntoo_slow = 1", "slow (2) must not be above too_slow (1)"),
        ("certificate_warning = 3", "certificate_critical (7) must not be above certificate_warning (3)"),
        ("ca_bundle = '/not/there.pem'", "ca_bundle = '/not/there.pem': there is no such file"),
        ("method = 'HEAD'\nexpect_body = 'ok'", "an answer to HEAD has no body to look into; use GET"),
        ("body = 'x'", "GET sends no body; use POST"),
    ],
)
def test_a_wrong_condition_is_refused_with_file_key_and_reason(tmp_path, lines, message):
    told = complaint(tmp_path, f"[health.checks.x]\nkind = 'http'\nurl = 'http://h/'\n{lines}\n")
    assert told.startswith(f"{tmp_path}/regrow.toml: health.checks.x")
    assert message in told


# Over TLS, on real sockets


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        body = json.dumps(BODY).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if body == b'{"probe": true}' else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def serve():
    servers = []

    def serve(file=None):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
        server.daemon_threads = True
        if file is not None:
            server.socket = serving(file).wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server.server_port

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_post_sends_its_body(serve, make_settings):
    url = f"http://127.0.0.1:{serve()}/"
    posted = check(url=url, method="POST", body='{"probe": true}')
    assert probe_of(posted, make_settings())().status == "healthy"


@pytest.mark.parametrize(("days", "status"), [(90, "healthy"), (10, "degraded"), (2, "unhealthy")])
def test_the_certificate_of_a_real_server_is_looked_at(serve, make_settings, tmp_path, days, status):
    file = certificate(tmp_path, days)
    port = serve(file)
    asked = check(url=f"https://127.0.0.1:{port}/", ca_bundle=file, expect_json=[{"path": "$.status"}])
    connected = TcpCheck(kind="tcp", host="127.0.0.1", port=port, tls=True, ca_bundle=file)
    for found in (probe_of(asked, make_settings())(), probe_of(connected, make_settings())()):
        assert found.status == status, found
        assert ("certificate ends in" in found.message) == (status != "healthy")


def test_a_certificate_that_nobody_vouches_for_or_that_has_ended_is_unhealthy(serve, make_settings, tmp_path):
    good, ended = certificate(tmp_path, 90), certificate(tmp_path, -1)
    for file, trusted in ((good, None), (ended, ended)):
        port = serve(file)
        asked = check(url=f"https://127.0.0.1:{port}/", ca_bundle=trusted)
        connected = TcpCheck(kind="tcp", host="127.0.0.1", port=port, tls=True, ca_bundle=trusted)
        for found in (probe_of(asked, make_settings())(), probe_of(connected, make_settings())()):
            assert found.status == "unhealthy"
            assert "certificate" in found.message


def test_a_port_that_speaks_no_tls_is_unhealthy(serve, make_settings):
    connected = TcpCheck(kind="tcp", host="127.0.0.1", port=serve(), tls=True)
    assert probe_of(connected, make_settings())().status == "unhealthy"
    closed = TcpCheck(kind="tcp", host="127.0.0.1", port=free_port(), tls=True)
    assert probe_of(closed, make_settings())().status == "unhealthy"
