"""Two failures of the mission, each with its timeline (`pytest -s`): a restart under load, a database that comes back."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from regrow.celery import CelerySender
from regrow.database.tables import capture_events
from regrow.dead_letters import capture, send_through
from regrow.engine import Engine
from tests.acceptance.conftest import Deployment
from tests.acceptance.processes import Process
from tests.drain.load import Load
from tests.servers import MariaServer, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-acceptance-tests"
LETTER = json.dumps({"message": {"order": 7}, "message_type": "orders.pay"}).encode()
HEADERS = {"X-API-Key": KEY, "Content-Type": "application/json"}


def start_web(regrow: Deployment, port: int) -> Process:
    web = regrow.start("web", ["-m", "regrow.web"], REGROW_PORT=str(port), API_KEY=KEY)
    eventually(lambda: ask(port, "GET", "/health/ready")[0] == 200, 60, what="web is ready")
    return web


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, HEADERS)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def kept(engine: Engine) -> int:
    with engine.database.snapshot() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(capture_events)).scalar_one()


def test_web_restarted_by_sigterm_under_load_fails_nothing_in_hand_and_loses_nothing(
    deploy: Callable[..., Deployment], redis_url: str, mysql_url: str
) -> None:
    regrow, port = deploy(redis_url, mysql_url), free_port()
    web = start_web(regrow, port)
    load = Load(port, "/dead-letters", LETTER, HEADERS)
    with load.running(keeping=3, anew=2):
        eventually(lambda: sum(200 <= one.status < 300 for one in load.tried) > 30, what="load")
        asked = time.monotonic()
        assert web.process is not None
        web.process.send_signal(signal.SIGTERM)
        code = web.process.wait(40)
        ended = time.monotonic()
        seen = len(load.tried)
        start_web(regrow, port)
        back = time.monotonic()
        eventually(
            lambda: any(200 <= one.status < 300 for one in load.tried[seen:]),
            30,
            what="it takes letters again",
        )
    print(load.timeline("web under load", asked, ended))
    print(f"  {back - asked:+6.2f}  another one is ready")
    assert code == 0, web.tail()
    before = load.told(0, asked - 1)
    assert all(200 <= status < 300 for status in before), before
    # What began in the last second may not have reached the server yet: it is new, and told to come again.
    assert set(load.told(asked - 1, asked)) <= {200, 201, 202, 503}
    away = [one for one in load.tried if one.status == 503]
    assert away
    assert {one.retry_after for one in away} == {"5"}
    accepted = sum(200 <= one.status < 300 for one in load.tried)
    assert kept(regrow.engine) >= accepted, "whatever was said to be kept is kept"


def test_a_database_that_was_lost_is_used_again_within_seconds_of_its_return(
    deploy: Callable[..., Deployment], redis_url: str, own_mysql: MariaServer
) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=own_mysql.port, user="root") as admin:
        admin.cursor().execute("CREATE DATABASE regrow CHARACTER SET utf8mb4")
    regrow, port = deploy(redis_url, own_mysql.url("regrow")), free_port()
    start_web(regrow, port)
    worker = regrow.start_worker()
    send_through(CelerySender.from_broker(redis_url, {}))
    try:
        began = time.monotonic()
        told = ["database lost and back: seconds from the loss"]

        def note(what: str) -> None:
            told.append(f"  {time.monotonic() - began:+6.2f}  {what}")

        own_mysql.kill()
        note("MariaDB is killed")
        eventually(lambda: ask(port, "GET", "/health/ready")[0] == 503, 30, what="readiness says no")
        note("/health/ready is 503")
        assert ask(port, "POST", "/dead-letters", LETTER)[0] == 503
        waiting = capture({"n": 1}, message_type="load")
        note("a capture waits in the broker")
        own_mysql.start()
        back = time.monotonic()
        note("MariaDB answers again")
        eventually(lambda: ask(port, "GET", "/health/ready")[0] == 200, 30, what="readiness says yes")
        note(f"/health/ready is 200: {time.monotonic() - back:.2f} s after its return")
        eventually(lambda: ask(port, "POST", "/dead-letters", LETTER)[0] < 300, 30, what="web keeps letters")
        note(f"web keeps a letter: {time.monotonic() - back:.2f} s")
        eventually(
            lambda: known(regrow.engine, waiting), 30, what=f"the waiting one is kept\n{worker.tail()}"
        )
        note(f"the worker has kept the one that waited: {time.monotonic() - back:.2f} s")
        print("\n".join(told))
    finally:
        send_through(None)


def known(engine: Engine, event: str) -> bool:
    with engine.database.snapshot() as connection:
        found = sa.select(capture_events.c.event_id).where(capture_events.c.event_id == event)
        return connection.execute(found).first() is not None
