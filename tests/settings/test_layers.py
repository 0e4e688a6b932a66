"""Which layer wins: defaults, your file, the profile, the environment; and what fills the gaps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from regrow.errors import SettingsError
from regrow.settings import VARIABLES, Settings, load_settings

STORES = {"REGROW_REDIS_URL": "redis://redis/0", "REGROW_DATABASE_URL": "mysql+pymysql://u@db/regrow"}


def load(tmp_path: Path, toml: str = "", profile: str | None = None, **environ: str) -> Settings:
    file = tmp_path / "regrow.toml"
    file.write_text(toml)
    return load_settings(file, profile, {"REGROW_HOME": str(tmp_path / "home"), **STORES, **environ})


def at(settings: Settings, place: tuple[str, ...]) -> Any:
    value: Any = settings
    for name in place:
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


def test_each_layer_lies_over_the_one_below(tmp_path: Path) -> None:
    file = "[startup]\ninterval = 6.0\n"
    overlay = f"{file}[profiles.development.startup]\ninterval = 7.0\n"
    assert load(tmp_path).startup.interval == 5.0
    assert load(tmp_path, file).startup.interval == 6.0
    assert load(tmp_path, overlay).startup.interval == 6.0
    assert load(tmp_path, overlay, "development").startup.interval == 7.0
    assert load(tmp_path, overlay, "development", DEPENDENCY_CHECK_INTERVAL="8").startup.interval == 8.0


def test_the_testing_profile_shortens_every_interval_to_seconds(tmp_path: Path) -> None:
    settings = load(tmp_path, profile="testing")
    assert max(settings.schedule.model_dump().values()) <= 30
    assert settings.health.interval <= 5


def test_a_table_that_is_not_mentioned_keeps_its_values(tmp_path: Path) -> None:
    settings = load(tmp_path, "[redis]\nmax_retries = 9\n[health.checks]\n[profiles.production.redis]\n")
    assert (settings.redis.max_retries, settings.redis.max_connections) == (9, 32)
    assert "redis" in settings.health.checks


def test_the_profile_is_the_callers_then_the_environments_then_the_files(tmp_path: Path) -> None:
    file = 'profile = "development"\n'
    assert load(tmp_path).profile == "production"
    assert load(tmp_path, file).profile == "development"
    assert load(tmp_path, file, REGROW_PROFILE="testing").profile == "testing"
    assert load(tmp_path, file, "production", REGROW_PROFILE="testing").profile == "production"


def test_the_file_is_the_callers_then_the_environments_then_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ=STORES).redis.max_retries == 5
    (tmp_path / "config").mkdir()
    for number, name in enumerate(("config/regrow.toml", "named.toml", "given.toml")):
        (tmp_path / name).write_text(f"[redis]\nmax_retries = {number}\n")
    named = {**STORES, "REGROW_CONFIG": "named.toml"}
    assert load_settings(environ=STORES).redis.max_retries == 0
    assert load_settings(environ=named).redis.max_retries == 1
    assert load_settings(Path("given.toml"), environ=named).redis.max_retries == 2


VALUES = {
    "REGROW_HOME": ("/srv/regrow", Path("/srv/regrow")),
    "REGROW_PROFILE": ("testing", "testing"),
    "REGROW_REDIS_URL": ("rediss://other/3", "rediss://other/3"),
    "REGROW_REDIS_PASSWORD": ("pw", "pw"),
    "REGROW_DATABASE_URL": ("sqlite:////srv/x.db", "sqlite:////srv/x.db"),
    "REGROW_DATABASE_PASSWORD": ("pw", "pw"),
    "REGROW_PORT": ("8123", 8123),
    "REGROW_ALLOWED_HOSTS": ('["a.example"]', ("a.example",)),
    "CELERY_BROKER_URL": ("amqp://guest@mq//", "amqp://guest@mq//"),
    "CELERY_RESULT_BACKEND": ("redis://results/1", "redis://results/1"),
    "RECOVERY_INTERVAL": ("61", 61.0),
    "MAX_RECOVERY_ATTEMPTS": ("4", 4),
    "RECOVERY_BACKOFF": ("1.5", 1.5),
    "STARTUP_TIMEOUT": ("301", 301.0),
    "DEPENDENCY_CHECK_INTERVAL": ("5.5", 5.5),
    "HEALTH_CHECK_INTERVAL": ("31", 31.0),
    "HEALTH_HISTORY_SIZE": ("101", 101),
    "REDIS_MAX_RETRIES": ("6", 6),
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": ("7", 7),
    "SHUTDOWN_TIMEOUT": ("31", 31.0),
    "API_KEY": ("k", "k"),
    "MAX_CONTENT_LENGTH": ("1024", 1024),
}


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_every_documented_variable_sets_its_setting(tmp_path: Path, name: str) -> None:
    text, value = VALUES[name]
    assert at(load(tmp_path, **{name: text}), VARIABLES[name]) == value


@pytest.mark.parametrize("name", sorted(set(VARIABLES) - {"REGROW_PROFILE"}))
def test_every_documented_variable_can_come_from_a_file(tmp_path: Path, name: str) -> None:
    text, value = VALUES[name]
    (tmp_path / "secret").write_text(f"{text}\n")
    if name in STORES:
        (tmp_path / "regrow.toml").write_text("")
        others = {other: url for other, url in STORES.items() if other != name}
        settings = load_settings(
            tmp_path / "regrow.toml", environ={**others, f"{name}_FILE": str(tmp_path / "secret")}
        )
    elif name == "REGROW_HOME":
        settings = load_settings(environ={**STORES, "REGROW_HOME_FILE": str(tmp_path / "secret")})
    else:
        settings = load(tmp_path, **{f"{name}_FILE": str(tmp_path / "secret")})
    assert at(settings, VARIABLES[name]) == value


def test_a_variable_wins_over_its_file_and_an_empty_one_counts_as_unset(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from the file")
    both = load(tmp_path, API_KEY="from the variable", API_KEY_FILE=str(tmp_path / "key"))
    assert at(both, ("web", "api_key")) == "from the variable"
    empty = load(tmp_path, API_KEY="", API_KEY_FILE=str(tmp_path / "key"), STARTUP_TIMEOUT="")
    assert at(empty, ("web", "api_key")) == "from the file"
    assert empty.startup.timeout == 300.0
    assert load(tmp_path, REGROW_REDIS__MAX_RETRIES="").redis.max_retries == 5


def test_any_setting_has_a_variable_with_two_underscores_between_tables(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k\n")
    settings = load(
        tmp_path,
        REGROW_DEAD_LETTERS__BATCH_SIZE="7",
        REGROW_HEALTH__CHECKS__CELERY_WORKER__MAX_AGE="44",
        REGROW_HEALTH__CHECKS__BROKER__QUEUES='["a", "b"]',
        REGROW_TEMP_FILES__ROOTS='[{"path": "/srv/tmp", "max_age": 60}]',
        REGROW_TEMP_FILES__DRY_RUN="true",
        REGROW_WEB__API_KEY_FILE=str(tmp_path / "key"),
    )
    assert settings.dead_letters.batch_size == 7
    assert at(settings, ("health", "checks", "celery-worker", "max_age")) == 44.0
    assert at(settings, ("health", "checks", "broker", "queues")) == ("a", "b")
    assert settings.temp_files.roots[0].path == Path("/srv/tmp")
    assert settings.temp_files.dry_run is True
    assert at(settings, ("web", "api_key")) == "k"


def test_a_secret_can_stand_in_a_file_that_the_file_names(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("p@ss/w?rd#\n")
    settings = load(tmp_path, f'[database]\npassword_file = "{tmp_path}/pw"\n')
    url = settings.database.url.get_secret_value()
    assert url == "mysql+pymysql://u:p%40ss%2Fw%3Frd%23@db/regrow"
    import sqlalchemy as sa

    assert sa.make_url(url).password == "p@ss/w?rd#"


def test_a_reference_takes_its_value_from_the_environment(tmp_path: Path) -> None:
    toml = """
        [health.checks.shop]
        kind = "http"
        url = "https://${SHOP}/up"
        headers = { Authorization = "Bearer ${TOKEN}" }
    """
    settings = load(tmp_path, toml, SHOP="shop.example", TOKEN="t0ken")
    check: Any = settings.health.checks["shop"]
    assert str(check.url) == "https://shop.example/up"
    assert check.headers["Authorization"].get_secret_value() == "Bearer t0ken"


def test_what_a_secret_file_holds_is_not_expanded(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("${HOME}")
    assert at(load(tmp_path, API_KEY_FILE=str(tmp_path / "key")), ("web", "api_key")) == "${HOME}"


def test_one_redis_serves_as_broker_and_for_results_and_the_broker_as_redis(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.celery.broker_url.get_secret_value() == "redis://redis/0"
    assert settings.celery.result_backend.get_secret_value() == "redis://redis/0"
    only_broker = load_settings(
        environ={
            "CELERY_BROKER_URL": "redis://mq/1",
            "REGROW_DATABASE_URL": "sqlite:///x",
            "REGROW_HOME": str(tmp_path),
        }
    )
    assert only_broker.redis.url.get_secret_value() == "redis://mq/1"
    rabbit = load(tmp_path, CELERY_BROKER_URL="amqp://guest@mq//")
    assert rabbit.redis.url.get_secret_value() == "redis://redis/0"


def test_a_cluster_serves_live_state_alone(tmp_path: Path) -> None:
    cluster = STORES | {"REGROW_REDIS_URL": "redis+cluster://n1,n2"}
    with pytest.raises(SettingsError, match=r"celery\.broker_url is not set\. .* unless it is a cluster"):
        load_settings(environ=cluster)
    named = load_settings(environ={**cluster, "CELERY_BROKER_URL": "redis+sentinel://s1/ours"})
    assert named.celery.result_backend.get_secret_value() == "redis+sentinel://s1/ours"
    with pytest.raises(SettingsError, match="Celery cannot use a Redis Cluster"):
        load_settings(environ={**cluster, "CELERY_BROKER_URL": "redis+cluster://n1"})


def test_outside_production_the_database_is_a_file_in_the_home_folder(tmp_path: Path) -> None:
    environ = {"REGROW_HOME": str(tmp_path), "REGROW_REDIS_URL": "redis://redis/0"}
    settings = load_settings(profile="development", environ=environ)
    assert settings.database.url.get_secret_value() == f"sqlite:///{tmp_path}/regrow.sqlite3"
    with pytest.raises(SettingsError, match="REGROW_DATABASE_URL"):
        load_settings(profile="production", environ=environ)


def running_stack(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "stack.env").write_text(
        "# a comment\nREGROW_REDIS_URL=redis://127.0.0.1:7777/0\nAPI_KEY=stack\nREGROW_PROFILE=testing\n"
        "REGROW_HOME=/elsewhere\nNOISE\n"
    )
    return {"REGROW_HOME": str(tmp_path)}


def test_a_running_local_stack_says_where_it_is_and_its_profile(tmp_path: Path) -> None:
    settings = load_settings(environ=running_stack(tmp_path))
    assert settings.profile == "testing"
    assert settings.redis.url.get_secret_value() == "redis://127.0.0.1:7777/0"
    assert at(settings, ("web", "api_key")) == "stack"
    assert settings.home == tmp_path


def test_whatever_is_set_elsewhere_wins_over_a_running_local_stack(tmp_path: Path) -> None:
    environ = running_stack(tmp_path)
    settings = load_settings(
        environ={**environ, "REGROW_REDIS_URL": "redis://mine/0", "REGROW_PROFILE": "development"}
    )
    assert settings.profile == "development"
    assert settings.redis.url.get_secret_value() == "redis://mine/0"


def test_in_production_a_stack_env_counts_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"redis\.url is not set"):
        load_settings(profile="production", environ=running_stack(tmp_path))


def test_a_breaker_says_only_what_is_different_about_it(tmp_path: Path) -> None:
    settings = load(
        tmp_path, "[breakers.payments]\nfailure_threshold = 2\n", CIRCUIT_BREAKER_FAILURE_THRESHOLD="9"
    )
    assert settings.breaker("payments").failure_threshold == 2
    assert settings.breaker("payments").recovery_timeout == 60.0
    assert settings.breaker("anything else").failure_threshold == 9


def test_a_kind_of_service_stands_between_a_breakers_own_table_and_the_default(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[breakers.chat]\nkind = "ai"\nfailure_threshold = 4\n[breakers.pdf]\nkind = "document_conversion"\n',
        CIRCUIT_BREAKER_FAILURE_THRESHOLD="9",
    )
    chat, pdf = settings.breaker("chat"), settings.breaker("pdf")
    assert (chat.failure_threshold, chat.recovery_timeout, chat.success_threshold) == (4, 120.0, 3)
    assert (pdf.failure_threshold, pdf.recovery_timeout, pdf.success_threshold) == (3, 120.0, 2)
    assert settings.breaker("other").kind is None


def test_settings_cannot_be_changed_after_they_are_made(tmp_path: Path) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="frozen"):
        load(tmp_path).redis.max_retries = 1  # type: ignore[misc]
