"""Real servers under load get SIGTERM: what is in hand ends well, new ones get 503, the exit code is 0."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.drain.load import ROOT, Load, Server
from tests.waiting import eventually

UVICORN = ("uvicorn", "tests.drain.shop:app", "--port", "{port}", "--log-level", "info")
GUNICORN = (
    *("gunicorn", "-c", "tests/drain/gunicorn_conf.py", "--bind", "127.0.0.1:{port}"),
    *("--no-control-socket", "tests.drain.shop:application"),
)
SERVERS = {
    "uvicorn": UVICORN,
    "gunicorn-sync": (*GUNICORN, "--workers", "2"),
    "gunicorn-gthread": (*GUNICORN, "--worker-class", "gthread", "--threads", "8"),
}
LINGER = 0.6


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(name: str, **environ: str) -> Server:
        environ = {"SHUTDOWN_TIMEOUT": "10", "REGROW_SHUTDOWN__LINGER": str(LINGER), **environ}
        made.append(Server(tmp_path, *SERVERS[name], **environ))
        return made[-1].start()

    yield make
    for server in made:
        server.close()


@pytest.mark.parametrize("name", SERVERS)
def test_under_load_nothing_in_hand_fails_new_requests_get_503_and_it_exits_0(
    serve: Callable[..., Server], name: str
) -> None:
    server = serve(name)
    load = Load(server.port)
    with load.running(keeping=4, anew=3):
        eventually(lambda: sum(one.status == 200 for one in load.tried) > 20, what="load")
        asked = server.signal(signal.SIGTERM)
        code = server.ends()
        ended = time.monotonic()
    print(load.timeline(name, asked, ended))
    # A worker of one request at a time leaves others waiting in the socket: these are new to it.
    assert set(load.told(0, asked)) <= ({200, 503} if name == "gunicorn-sync" else {200})
    assert set(load.told(asked, asked + LINGER / 2)) <= {200, 503}, "it goes on listening, and answers"
    away = [one for one in load.tried if one.status == 503]
    assert away
    assert {one.retry_after for one in away} == {"5"}
    assert code == 0
    workers = 2 if name == "gunicorn-sync" else 1
    assert sorted(server.did()) == ["consumer stopped"] * workers + ["pool closed"] * workers


def test_readiness_says_no_first_while_requests_are_still_taken(serve: Callable[..., Server]) -> None:
    server = serve("uvicorn", REGROW_SHUTDOWN__NOTICE="1.5")
    server.signal(signal.SIGTERM)
    eventually(lambda: server.get("/health/ready")[0] == 503, what="readiness says no")
    status, headers, _ = server.get("/work?seconds=0")
    assert status == 200
    assert headers["connection"] == "close", "the next request must find another server"
    eventually(lambda: server.get("/work?seconds=0")[0] == 503, what="then it takes nothing any more")
    assert server.ends() == 0


def test_a_second_ctrl_c_waits_for_nothing_and_cleans_up_all_the_same(serve: Callable[..., Server]) -> None:
    server = serve("uvicorn")
    slow = threading.Thread(target=_quietly, args=(server, "/work?seconds=60"))
    slow.start()
    time.sleep(0.3)  # it is in hand; nothing depends on it
    server.signal(signal.SIGINT)
    eventually(lambda: server.get("/health/ready")[0] == 503)
    server.signal(signal.SIGINT)
    assert server.ends(8) == 0
    slow.join(5)
    assert server.did() == ["consumer stopped", "pool closed"]


def test_what_takes_too_long_is_cut_off_and_said(serve: Callable[..., Server]) -> None:
    server = serve("uvicorn", SHUTDOWN_TIMEOUT="0.5")
    slow = threading.Thread(target=_quietly, args=(server, "/work?seconds=60"))
    slow.start()
    time.sleep(0.3)
    server.signal(signal.SIGTERM)
    assert server.ends(10) == 0
    slow.join(5)
    assert "drain.timed_out" in server.says()
    assert server.did() == ["consumer stopped", "pool closed"]


def test_a_stream_in_hand_is_sent_to_its_end_and_an_event_stream_holds_nothing_up(
    serve: Callable[..., Server],
) -> None:
    server = serve("uvicorn")
    events = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    events.request("GET", "/events")
    assert events.getresponse().read(12) == b"data: tick\n\n"
    stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    stream.request("GET", "/stream")
    answer = stream.getresponse()
    first = answer.read(2)
    asked = server.signal(signal.SIGTERM)
    assert first + answer.read() == b"".join(b"%d\n" % number for number in range(10))
    assert server.ends() == 0
    assert time.monotonic() - asked < 10, "not the whole of SHUTDOWN_TIMEOUT"
    assert "drain.timed_out" not in server.says()


def test_a_websocket_gets_its_answer_and_is_told_to_come_again(serve: Callable[..., Server]) -> None:
    server = serve("uvicorn")
    address = f"ws://127.0.0.1:{server.port}/talk"
    with connect(address) as idle, connect(address) as busy:
        busy.send("a question")
        time.sleep(0.1)  # so that it is most likely being answered; either way it must be
        server.signal(signal.SIGTERM)
        assert busy.recv(timeout=5) == "answer to a question"
        for one in (idle, busy):
            with pytest.raises(ConnectionClosed) as closed:
                one.recv(timeout=5)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        with pytest.raises(InvalidStatus) as refused, connect(address):
            pass
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"] == "5"
    assert server.ends() == 0
    assert server.did()[:2] == ["session ended", "session ended"]


PLAIN = """
from wsgiref.simple_server import make_server
import regrow, sys
from tests.drain.shop import application
server = make_server("127.0.0.1", int(sys.argv[1]), application)
regrow.drain.install()
server.serve_forever()
"""


def test_a_server_that_knows_nothing_of_signals_ends_as_well(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    environ = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "SHUTDOWN_TIMEOUT": "10", "REGROW_SHUTDOWN__LINGER": "0.3"}
    server = Server(tmp_path, "plain", "{port}", **environ).start()
    try:
        server.signal(signal.SIGTERM)
        assert server.ends() == 0
        assert server.did() == ["consumer stopped", "pool closed"]
        assert "Traceback" not in server.says()
    finally:
        server.close()


def _quietly(server: Server, path: str) -> None:
    try:
        server.get(path)
    except (OSError, http.client.HTTPException):
        return
