from __future__ import annotations

import socket
from pathlib import Path

import pytest

from regrow.errors import SettingsError
from worker.stack import leftovers, plan
from worker.stack.errors import StackError
from worker.stack.home import Home
from worker.stack.plan import Plan, Wish
from worker.stack.rules import RUNNING, TESTING


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from this checkout's own config/regrow.toml."""
    monkeypatch.chdir(tmp_path)


def planned(folder: Path, **environ: str) -> Plan:
    wish = Wish.of({"REGROW_HOME": str(folder / "var"), **environ})
    home = Home(wish.home)
    home.prepare()
    return plan.make(wish, home)


def test_the_profile_is_development_unless_one_is_named(tmp_path: Path) -> None:
    assert planned(tmp_path).settings.profile == "development"
    assert planned(tmp_path, REGROW_PROFILE="").settings.profile == "development"
    assert planned(tmp_path, REGROW_PROFILE="testing").settings.profile == "testing"


def test_a_settings_file_shared_with_production_does_not_choose_the_profile_here(tmp_path: Path) -> None:
    Path("config").mkdir()
    Path("config/regrow.toml").write_text('profile = "production"')
    assert planned(tmp_path).settings.profile == "development"


def test_restarts_are_quicker_in_the_testing_profile_alone(tmp_path: Path) -> None:
    assert planned(tmp_path).policy == RUNNING
    assert planned(tmp_path, REGROW_PROFILE="testing").policy == TESTING


def test_without_a_redis_one_of_our_own_serves_as_broker_too(tmp_path: Path) -> None:
    made = planned(tmp_path)
    assert made.server is not None
    assert made.settings.redis.url.get_secret_value() == made.server.url
    assert made.settings.celery.broker_url.get_secret_value() == made.server.url
    assert made.environment["REGROW_REDIS_URL"] == made.server.url


@pytest.mark.parametrize("variable", ["REGROW_REDIS_URL", "CELERY_BROKER_URL"])
def test_a_given_redis_is_used_and_none_is_started(tmp_path: Path, variable: str) -> None:
    made = planned(tmp_path, **{variable: "redis://elsewhere:6379/3"})
    assert made.server is None
    assert made.settings.redis.url.get_secret_value() == "redis://elsewhere:6379/3"


def test_a_rabbitmq_broker_still_needs_a_redis_of_our_own(tmp_path: Path) -> None:
    made = planned(tmp_path, CELERY_BROKER_URL="amqp://guest@elsewhere//")
    assert made.server is not None
    assert made.settings.celery.broker_url.get_secret_value() == "amqp://guest@elsewhere//"


def test_the_stack_env_of_a_killed_stack_is_not_mistaken_for_a_given_redis(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "stack.env").write_text("REGROW_REDIS_URL=redis://127.0.0.1:1/0\nAPI_KEY=old\n")
    made = planned(tmp_path)
    assert made.server is not None
    assert made.settings.redis.url.get_secret_value() == made.server.url


def test_the_database_is_sqlite_in_the_state_folder_unless_one_is_given(tmp_path: Path) -> None:
    ours = f"sqlite:///{tmp_path}/var/regrow.sqlite3"
    for profile in ("development", "production"):
        assert planned(tmp_path, REGROW_PROFILE=profile).environment["REGROW_DATABASE_URL"] == ours
    given = planned(tmp_path, REGROW_DATABASE_URL="mysql+pymysql://u@h/d")
    assert given.settings.database.url.get_secret_value() == "mysql+pymysql://u@h/d"


def test_a_given_key_is_used_and_not_repeated(tmp_path: Path) -> None:
    made = planned(tmp_path, API_KEY="mine")
    assert not made.key_made_here
    assert made.settings.web.api_key is not None
    assert made.settings.web.api_key.get_secret_value() == "mine"
    assert not (tmp_path / "var" / "api_key").exists()


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with pytest.raises(StackError, match=f"port {port} is taken.*REGROW_PORT"):
            planned(tmp_path, REGROW_PORT=port)


def test_a_port_that_nobody_asked_for_gives_way_to_the_next_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        Path("config").mkdir()
        Path("config/regrow.toml").write_text(f"[web]\nport = {taken}\n")
        assert taken < planned(tmp_path).port < taken + 100


@pytest.mark.parametrize("port", ["eighty", "0", "70000"])
def test_a_port_that_is_none_is_a_settings_error(tmp_path: Path, port: str) -> None:
    with pytest.raises(SettingsError, match="REGROW_PORT"):
        planned(tmp_path, REGROW_PORT=port)


def test_others_can_join_with_nothing_but_the_published_variables(tmp_path: Path) -> None:
    made = planned(tmp_path)
    home = Home(tmp_path / "var")
    joining = made.joining(home)
    assert set(joining) == {
        "REGROW_URL",
        "REGROW_REDIS_URL",
        "REGROW_DATABASE_URL",
        "CELERY_BROKER_URL",
        "CELERY_RESULT_BACKEND",
        "REGROW_HOME",
        "REGROW_PROFILE",
        "API_KEY",
    }
    assert all(joining.values())
    assert joining["REGROW_URL"] == f"http://127.0.0.1:{made.port}"


def test_children_carry_a_token_of_this_stack_that_is_never_handed_on(tmp_path: Path) -> None:
    made = planned(tmp_path, **{leftovers.TOKEN: "of an outer stack"})
    assert made.environment[leftovers.TOKEN] == made.token != "of an outer stack"
    assert leftovers.TOKEN not in made.joining(Home(tmp_path / "var"))


def test_the_worker_may_drain_to_its_limit_before_it_is_killed(tmp_path: Path) -> None:
    made = planned(tmp_path, SHUTDOWN_TIMEOUT="50")
    patience = {child.name: child.patience for child in made.children()}
    assert patience["worker"] > 50 + 10
    assert patience["worker"] > patience["web"]


def test_secrets_are_not_in_any_command_line(tmp_path: Path) -> None:
    made = planned(tmp_path)
    assert made.server is not None
    commands = [child.command for child in (*made.children(), made.valkey(made.server))]
    said = " ".join(" ".join(command) for command in commands)
    assert made.server.password not in said
    assert made.environment["API_KEY"] not in said
