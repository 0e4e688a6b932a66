"""HTTP and TCP probes against a local server that is slow, wrong, endless or gone."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from regrow.health.checks import disk, probe_of
from regrow.health.checks.http import BODY_LIMIT
from regrow.outgoing import plain
from regrow.settings.checks import DiskCheck, HttpCheck, TcpCheck
from tests.servers import free_port


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.seen = []
        self.done = threading.Event()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        try:
            getattr(self, self.path.strip("/").split("?")[0])()
        except OSError:
            self.close_connection = True

    do_HEAD = do_GET

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def ok(self):
        self.answer(200, b"all is well", Set_Cookie="session=1; Path=/")

    def broken(self):
        self.answer(503, b"all is well")

    def elsewhere(self):
        self.answer(302, Location=f"http://127.0.0.1:{self.server.server_port}/ok")

    def slow(self):
        time.sleep(0.4)
        self.answer(200)

    def silent(self):
        self.server.done.wait(20)

    def dripping(self):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.server.done.wait(0.1):
            self.wfile.write(b".")
            self.wfile.flush()

    def torrent(self):
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        while not self.server.done.is_set():
            self.wfile.write(b"x" * 65536)

    def cut(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"short")
        self.close_connection = True


@pytest.fixture(scope="module")
def server():
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(server, make_settings):
    settings = make_settings()

    def ask(path, **declared):
        url = f"http://127.0.0.1:{server.server_port}/{path}"
        check = HttpCheck.model_validate({"kind": "http", "url": url, "timeout": 1.5, **declared})
        began = time.monotonic()
        found = probe_of(check, settings)()
        assert time.monotonic() - began < check.timeout + 10  # and room for a busy machine
        return found

    return ask


def test_an_expected_answer_is_healthy(ask):
    found = ask("ok", expect_body="is well")
    assert (found.status, found.data["http_status"]) == ("healthy", 200)


def test_a_wrong_status_is_unhealthy_and_named(ask):
    found = ask("broken", expect_body="is well")
    assert found.status == "unhealthy"
    assert "503" in found.message


def test_a_missing_text_is_unhealthy(ask):
    assert ask("ok", expect_body="is ill").status == "unhealthy"


def test_a_redirect_is_an_answer_and_not_followed(ask, server):
    server.seen.clear()
    assert ask("elsewhere").status == "unhealthy"
    assert ask("elsewhere", expect_status=[302]).status == "healthy"
    assert [path for path, _ in server.seen] == ["/elsewhere", "/elsewhere"]


def test_a_slow_answer_is_degraded(ask):
    assert ask("slow", slow=0.2).status == "degraded"
    assert ask("slow", slow=5).status == "healthy"


@pytest.mark.parametrize("path", ["silent", "dripping"])
def test_an_answer_that_does_not_come_or_does_not_end_is_unhealthy_in_time(ask, path):
    found = ask(path)
    assert found.status == "unhealthy"
    assert "did not answer" in found.message


def test_no_more_of_a_body_is_read_than_the_limit(ask):
    assert ask("torrent", timeout=10).status == "healthy"
    found = ask("torrent", timeout=10, expect_body="needle")
    assert found.status == "unhealthy"
    assert "too long" in found.message
    assert BODY_LIMIT == 1_048_576


def test_an_answer_that_breaks_off_is_unhealthy(ask):
    assert ask("cut").status == "unhealthy"


def test_head_asks_for_no_body(ask):
    assert ask("ok", method="HEAD").status == "healthy"


def test_headers_are_sent_cookies_are_not_kept_and_no_secret_is_told(ask, server):
    server.seen.clear()
    found = ask("ok?key=s3cr3t", headers={"X-Key": "s3cr3t"})
    ask("ok")
    assert server.seen[0][1]["X-Key"] == "s3cr3t"
    assert "Cookie" not in server.seen[1][1]
    assert "s3cr3t" not in repr(found)
    assert plain("https://me:s3cr3t@example.org:8443/a?b=c#d") == "https://example.org:8443/a"


def test_a_header_that_cannot_be_sent_is_a_failed_probe_and_not_the_services_fault(ask):
    with pytest.raises(Exception) as raised:
        ask("ok", headers={"X-Key": "line\nbreak"})
    assert not isinstance(raised.value, AssertionError)


def test_nobody_listening_is_unhealthy(ask, make_settings):
    check = HttpCheck.model_validate({"kind": "http", "url": f"http://127.0.0.1:{free_port()}/"})
    assert probe_of(check, make_settings())().status == "unhealthy"
    with pytest.raises(ValidationError):
        HttpCheck.model_validate({"kind": "http", "url": "file:///etc/passwd"})


# TCP


def tcp(port, make_settings, timeout=1.0):
    check = TcpCheck(kind="tcp", host="127.0.0.1", port=port, timeout=timeout)
    return probe_of(check, make_settings())()


def test_a_listening_port_is_healthy(server, make_settings):
    assert tcp(server.server_port, make_settings).status == "healthy"


def test_a_refusing_port_is_unhealthy(make_settings):
    assert tcp(free_port(), make_settings).status == "unhealthy"


def test_a_port_that_takes_nobody_in_is_unhealthy_within_the_timeout(make_settings):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        try:
            for _ in range(4):  # fill the backlog: the next connection hangs in SYN
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(full.getsockname())
                waiting.append(one)
            began = time.monotonic()
            found = tcp(full.getsockname()[1], make_settings)
            assert time.monotonic() - began < 15  # the kernel alone would try for minutes
        finally:
            for one in waiting:
                one.close()
    assert found.status == "unhealthy"


# Disk


def test_the_disk_is_measured_and_judged(tmp_path, make_settings):
    found = probe_of(DiskCheck(kind="disk", path=str(tmp_path)), make_settings())()
    assert found.data["path"] == str(tmp_path)
    assert 0 <= found.data["percent"] <= 100


def test_a_disk_that_is_not_there_is_unhealthy(tmp_path, make_settings):
    found = probe_of(DiskCheck(kind="disk", path=str(tmp_path / "gone")), make_settings())()
    assert (found.status, "No such file" in found.message) == ("unhealthy", True)


def test_a_disk_without_inodes_left_is_as_bad_as_one_without_bytes():
    check = DiskCheck(kind="disk")
    space = disk.Space(total=100, used=10, free=90, inodes=1000, free_inodes=50)
    found = disk.verdict(check, "/data", space)
    assert (found.status, "inodes" in found.message) == ("unhealthy", True)
    assert disk.verdict(check, "/data", disk.Space(100, 79, 21)).status == "healthy"
    assert disk.verdict(check, "/data", disk.Space(100, 80, 20)).status == "degraded"
    assert disk.verdict(check, "/data", disk.Space(100, 90, 10)).status == "unhealthy"
    assert disk.verdict(check, "/data", disk.Space(0, 0, 0)).status == "unhealthy"
