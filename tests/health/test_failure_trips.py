"""Failures of real parts, seen through a worker's sweeps: what is told, when, and that it is told once.

Each trip prints its timeline: seconds since the fault, and what the events and the overview said.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health import service
from regrow.health.causes import root_causes
from regrow.health.reading import graph_of
from tests.conftest import lacking
from tests.servers import MariaServer, free_port
from tests.shipped import switched_off
from tests.waiting import eventually


class Trip:
    """Ticks of a worker on one engine, and what they told."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.began = time.monotonic()
        self.lines: list[str] = []

    def fault(self, what: str) -> None:
        self.began = time.monotonic()
        self._say(what)

    def tick(self) -> None:
        """A tick of the worker; whatever is due is probed."""
        summary = service.run_due(self.engine)
        for name in summary["changed"]:
            state = service.states(self.engine).get(name)
            self._say(f"{name} is {state.word if state else 'unknown'}")
        if summary["not_written"]:
            self._say(f"not written to {', '.join(summary['not_written'])}", once=True)

    def until(self, name: str, word: str, seconds: float = 40.0) -> None:
        """Tick until a check's confirmed status is this word."""

        def there() -> bool:
            self.tick()
            return self.word(name) == word

        eventually(there, seconds, 0.2, f"{name} is {word}")

    def word(self, name: str) -> str:
        return {check.name: check.word for check in service.overview(self.engine).checks}[name]

    def told(self, name: str) -> list[tuple[str, str]]:
        rows = reversed(service.changes(self.engine, check=name))
        return [(row.change.kind, row.change.to_status) for row in rows]

    def _say(self, what: str, *, once: bool = False) -> None:
        line = f"{time.monotonic() - self.began:5.1f} s  {what}"
        if not once or not any(what in known for known in self.lines):
            self.lines.append(line)
            print(line)


@pytest.fixture
def trip(tmp_path, make_settings):
    """Makes trips on stores of one's own: ``trip(redis_url, database_url, name="TOML of the check")``."""
    made = []

    def make(redis_url: str, database_url: str = "", **checks: str) -> Trip:
        own = "".join(f"[health.checks.{name}]\n{body}\n" for name, body in checks.items())
        file = tmp_path / "regrow.toml"
        file.write_text(switched_off(but=checks) + own)
        engine = Engine(
            make_settings(
                redis_url, database_url, REGROW_CONFIG=str(file), REGROW_DATABASE__CONNECT_TIMEOUT="2"
            )
        )
        with contextlib.suppress(StoreUnavailableError):
            engine.database.upgrade()
        made.append(engine)
        return Trip(engine)

    yield make
    for engine in made:
        engine.close()


QUICK = "interval = 0.5\ntimeout = 2.0\nfailures = 3\nsuccesses = 2\n"


class Door:
    """A port that can be opened and closed."""

    def __init__(self) -> None:
        self.port, self._socket = free_port(), None
        self._lock = threading.Lock()

    def open(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port), backlog=64)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def toml(self, more: str = "") -> str:
        return f'kind = "tcp"\nhost = "127.0.0.1"\nport = {self.port}\n{QUICK}{more}'


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


def test_a_database_that_stops_and_comes_back_is_told_though_its_events_could_not_be_written(
    trip, own_mysql: MariaServer, redis_url: str
) -> None:
    with sa.create_engine(own_mysql.url("mysql")).connect() as admin:
        admin.exec_driver_sql("CREATE DATABASE regrow")
    ours = trip(redis_url, own_mysql.url("regrow"), database=QUICK)
    ours.until("database", "healthy")
    ours.fault("MariaDB is killed")
    own_mysql.kill()
    ours.until("database", "unhealthy")
    assert service.overview(ours.engine).status == "unhealthy"
    # REGROW_TEST_OUTAGE=60: so many seconds of ticks without it.
    for_good = time.monotonic() + float(os.environ.get("REGROW_TEST_OUTAGE", "0"))
    while time.monotonic() < for_good:
        ours.tick()
        assert ours.word("database") == "unhealthy"
        time.sleep(0.5)
    own_mysql.start()
    ours._say("MariaDB is back")
    ours.until("database", "healthy")
    assert ours.told("database") == [("status", "healthy"), ("status", "unhealthy"), ("status", "healthy")]


def test_a_redis_that_is_killed_and_comes_back_is_told_by_the_database_alone(trip, own_redis) -> None:
    ours = trip(own_redis.url, redis=QUICK)
    ours.until("redis", "healthy")
    ours.fault("Redis is killed")
    own_redis.kill()
    ours.until("redis", "unhealthy")
    own_redis.start()
    ours._say("Redis is back")
    ours.until("redis", "healthy")
    assert ours.told("redis") == [("status", "healthy"), ("status", "unhealthy"), ("status", "healthy")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if not done or done.returncode:
        lacking("tmpfs", "only root may mount one here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_is_degraded_then_unhealthy_and_well_again_when_emptied(
    trip, redis_url: str, small_disk: Path
) -> None:
    ours = trip(redis_url, disk=f'path = "{small_disk}"\n{QUICK}')
    ours.until("disk", "healthy")
    ours.fault("85% of the disk are filled")
    (small_disk / "one").write_bytes(bytes(int(3.4 * (1 << 20))))
    ours.until("disk", "degraded")
    ours._say("95% of the disk are filled")
    (small_disk / "two").write_bytes(bytes(int(0.4 * (1 << 20))))
    ours.until("disk", "unhealthy")
    ours._say("the disk is emptied")
    for file in small_disk.iterdir():
        file.unlink()
    ours.until("disk", "healthy")
    assert [to for _, to in ours.told("disk")] == ["healthy", "degraded", "unhealthy", "healthy"]


def test_a_flapping_service_makes_one_notice_and_one_when_it_is_steady(
    trip, redis_url: str, door: Door
) -> None:
    ours = trip(redis_url, shop=door.toml())
    now, ran_on = ours.engine.clock, 0.0
    ours.engine.clock = lambda: now() + timedelta(seconds=ran_on)

    def probe(*, up: bool) -> None:
        nonlocal ran_on
        ran_on += 0.5  # the next interval, without waiting for it
        door.open() if up else None
        service.run_due(ours.engine, force=True)
        door.close()

    for _ in range(21):
        probe(up=True)
    ours.fault("the service goes down and up at each probe")
    for number in range(60):
        probe(up=bool(number % 2))
    assert ours.word("shop") == "flapping"
    for _ in range(21):
        probe(up=True)
    for kind, to in ours.told("shop"):
        ours._say(f"event {kind}, {to}")
    assert ours.told("shop") == [("status", "healthy"), ("flapping", "healthy"), ("steady", "healthy")]


def test_a_parent_that_fails_with_twenty_children_is_one_root(trip, redis_url: str, door: Door) -> None:
    door.open()
    children = {f"app-{n}": door.toml('depends_on = ["parent"]\n') for n in range(20)}
    ours = trip(redis_url, parent=door.toml("required = true\n"), **children)
    ours.until("parent", "healthy")
    door.close()
    ours.fault("the parent goes down, and with it twenty children")
    ours.until("parent", "unhealthy")
    ours.until("app-19", "unhealthy")
    eventually(lambda: ours.tick() or all(ours.word(name) == "unhealthy" for name in children), 30)
    events = [row.change for row in service.changes(ours.engine, limit=100) if row.change.number > 1]
    assert len(events) == 21
    (root,) = root_causes(events, graph_of(ours.engine.settings))
    assert (root.check, len(root.children)) == ("parent", 20)
    overview = service.overview(ours.engine)
    ours._say(f"{len(events)} events, one root; the overview: {overview.status}: {overview.message}")
    assert overview.message == "unhealthy: parent; because of parent: 20 more"
