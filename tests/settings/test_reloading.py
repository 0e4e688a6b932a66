"""A changed regrow.toml is taken up whole or not at all; what processes are built around waits for a restart."""

from __future__ import annotations

import json
import socket
import time

import pytest
import structlog

from regrow.engine import Engine, get_engine, set_engine
from regrow.health import settings_standing
from regrow.settings import load_settings
from regrow.settings.reloading import EVERY, FIXED, SETTLED, Reloader

CHECK = '[health.checks.shop]\nkind = "tcp"\nhost = "127.0.0.1"\nport = 1\n'


class House:
    """An engine on a file, and a clock that every look lets run on."""

    def __init__(self, file, environ):
        self.file, self.now = file, 0.0
        self.environ = {**environ, "REGROW_CONFIG": str(file)}
        self.engine = Engine(self.load(), reloader=Reloader(self.load, file, monotonic=lambda: self.now))

    def load(self):
        return load_settings(environ=self.environ)

    def write(self, text):
        """As an editor does: a new file in the place of the old one."""
        fresh = self.file.with_name("fresh")
        fresh.write_text(text)
        fresh.replace(self.file)
        self.look()
        self.look()

    def look(self):
        self.now += EVERY
        self.engine.refresh()

    @property
    def checks(self):
        return set(self.engine.settings.health.checks)


@pytest.fixture
def make_house(tmp_path):
    made = []

    def make(text):
        file = tmp_path / "regrow.toml"
        file.write_text(text)
        environ = {
            "REGROW_PROFILE": "testing",
            "REGROW_REDIS_URL": "redis://127.0.0.1:1/0",
            "REGROW_DATABASE_URL": f"sqlite:///{tmp_path / 'x'}",
        }
        made.append(House(file, environ))
        return made[-1]

    yield make
    for house in made:
        house.engine.close()


@pytest.fixture
def house(make_house):
    return make_house("")


def test_a_changed_file_holds_from_the_next_look_on(house):
    assert "shop" not in house.checks
    house.write(CHECK + '[maintenance.night]\nrepeat = "daily"\nhours = "01:00-02:00"\neverything = true\n')
    assert "shop" in house.checks
    assert "night" in house.engine.settings.maintenance
    house.write("[breakers.payments]\nfailure_threshold = 2\n")
    assert "shop" not in house.checks
    assert house.engine.settings.breaker("payments").failure_threshold == 2
    assert house.engine.settings_standing.is_in_force


def test_a_file_that_an_editor_has_emptied_and_is_about_to_write_is_not_taken_up(house):
    house.write(CHECK)
    house.file.write_text("")
    house.look()
    assert "shop" in house.checks
    house.file.write_text(CHECK + "interval = 7\n")
    house.look()
    assert house.engine.settings.health.checks["shop"].interval != 7
    house.now += SETTLED
    house.engine.refresh()
    assert house.engine.settings.health.checks["shop"].interval == 7


def test_the_file_is_looked_at_every_few_seconds_and_read_when_it_has_changed(house, monkeypatch):
    read = []
    monkeypatch.setattr(house.engine._reloader, "_load", lambda: read.append(1) or house.load())
    for _ in range(3):
        house.look()
    assert read == []
    house.write(CHECK)
    house.engine.refresh()
    house.look()
    assert read == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CHECK + "[health.checks.disk]\nwarning = 700\n", "health.checks.disk.*warning = 700"),
        (CHECK + "[health.checks.dis", "not valid TOML"),
        (CHECK + "[helth]\ninterval = 3\n", "helth is not a setting"),
        (CHECK + 'depends_on = ["nobody"]\n', "nobody"),
    ],
)
def test_a_bad_file_is_refused_whole_and_told_once_with_file_and_key(house, text, said):
    before = house.engine.settings
    with structlog.testing.capture_logs() as told:
        house.write(text)
        house.look()
    assert house.engine.settings is before
    refusals = [entry for entry in told if entry["event"] == "settings.refused"]
    assert len(refusals) == 1
    assert str(house.file) in refusals[0]["problem"]
    standing = house.engine.settings_standing
    assert not standing.is_in_force
    assert refusals[0]["problem"] in (standing.refused or "")
    house.write(CHECK)
    assert "shop" in house.checks
    assert house.engine.settings_standing.is_in_force


def test_a_file_that_is_gone_changes_nothing_until_it_is_back(house):
    house.write(CHECK)
    house.file.unlink()
    house.look()
    house.look()
    assert "shop" in house.checks
    assert "is gone" in (house.engine.settings_standing.refused or "")
    house.write(CHECK + "timeout = 3\n")
    assert house.engine.settings_standing.refused is None
    assert house.engine.settings.health.checks["shop"].timeout == 3


def test_what_processes_are_built_around_waits_for_a_restart_and_the_rest_holds(house):
    before = house.engine.settings
    house.write(CHECK + "[database]\npool_size = 3\n[web]\nport = 9\n")
    after = house.engine.settings
    assert "shop" in house.checks
    assert all(getattr(after, name) == getattr(before, name) for name in FIXED)
    assert house.engine.settings_standing.waiting == ("database", "web")
    house.write(CHECK)
    assert house.engine.settings_standing.is_in_force


@pytest.mark.parametrize(
    ("before", "after", "waiting", "problem"),
    [
        (CHECK + '[startup]\nrequired = ["shop"]\n', "", ("startup", "health"), "startup.required"),
        (
            "",
            '[brokers.b]\nurl = "amqp://h//"\n[health.checks.shop]\nkind = "queue"\nbroker = "b"\n',
            ("brokers", "health"),
            "health.checks.shop.broker",
        ),
        (
            "[celery]\ntask_time_limit = 900\ntask_soft_time_limit = 100\n",
            CHECK + '[recovery.services.shop]\nkind = "command"\nargv = ["x"]\ntimeout = 150\n',
            ("celery", "health", "recovery"),
            "celery.task_soft_time_limit",
        ),
    ],
)
def test_a_file_whose_halves_need_each_other_waits_as_a_whole(make_house, before, after, waiting, problem):
    house = make_house(before)
    settings = house.engine.settings
    with structlog.testing.capture_logs() as told:
        house.write(after)
        house.look()
    assert house.engine.settings is settings
    standing = house.engine.settings_standing
    assert (standing.refused, set(standing.waiting)) == (None, set(waiting))
    (line,) = [entry for entry in told if entry["event"].startswith("settings.")]
    assert line["event"] == "settings.waiting"
    assert problem in line["problem"]
    house.write(before)
    assert house.engine.settings_standing.is_in_force


def test_every_host_says_what_it_does_not_go_by(engine, house):
    house.engine.__dict__["redis"] = engine.redis
    settings_standing.tell(house.engine)
    assert settings_standing.read(engine) == {}
    house.write("nonsense")
    settings_standing.tell(house.engine)
    (told,) = settings_standing.read(engine).values()
    assert "not valid TOML" in told["refused"]
    house.write("")
    settings_standing.tell(house.engine)
    assert settings_standing.read(engine) == {}
    del house.engine.__dict__["redis"]


def test_hosts_that_are_gone_are_dropped_by_the_next_one_that_tells(engine, house):
    house.engine.__dict__["redis"] = engine.redis
    now = engine.clock().timestamp()
    for host, at in (("gone", now - 181), ("there", now - 10)):
        engine.redis.hset(settings_standing.KEY, host, json.dumps({"at": at, "file": "regrow.toml"}))
    house.write("nonsense")
    settings_standing.tell(house.engine)
    assert set(engine.redis.hkeys(settings_standing.KEY)) == {"there", socket.gethostname()}
    del house.engine.__dict__["redis"]


def test_a_defect_in_taking_it_up_is_loud_and_the_file_does_not_pass_for_being_in_force(house, monkeypatch):
    def defect():
        raise ZeroDivisionError

    monkeypatch.setattr(house.engine._reloader, "_load", defect)
    with pytest.raises(ZeroDivisionError):
        house.write(CHECK)
    assert "ZeroDivisionError" in house.engine.settings_standing.refused
    monkeypatch.undo()
    house.write(CHECK + "interval = 30\n")
    assert house.engine.settings_standing.is_in_force
    assert "shop" in house.checks


def test_what_changes_while_the_file_is_first_read_is_a_change(tmp_path, monkeypatch):
    file = tmp_path / "regrow.toml"
    file.write_text("")
    monkeypatch.setenv("REGROW_CONFIG", str(file))
    monkeypatch.setenv("REGROW_PROFILE", "testing")
    monkeypatch.setenv("REGROW_REDIS_URL", "redis://127.0.0.1:1/0")
    read = load_settings

    def and_then_it_changes():
        settings = read()
        file.write_text(CHECK)
        return settings

    monkeypatch.setattr("regrow.engine.load_settings", and_then_it_changes)
    set_engine(None)
    try:
        engine = get_engine()
        reloader = engine._reloader
        reloader._monotonic = iter([time.monotonic() + EVERY, time.monotonic() + 2 * EVERY]).__next__
        engine.refresh()
        engine.refresh()
        assert "shop" in engine.settings.health.checks
    finally:
        set_engine(None)


def test_without_a_file_there_is_nothing_to_look_at(make_settings):
    engine = Engine(make_settings())
    engine.refresh()
    assert engine.settings_standing.is_in_force
