"""What is wrong is told with place, key, value and remedy, and a secret is never told."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow.errors import SettingsError
from regrow.settings import load_settings

STORES = {"REGROW_REDIS_URL": "redis://redis/0", "REGROW_DATABASE_URL": "sqlite:///x"}
SECRET = "s3cret-Value"


def complaint(tmp_path: Path, toml: str = "", profile: str | None = None, **environ: str) -> str:
    file = tmp_path / "regrow.toml"
    file.write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, profile, {"REGROW_HOME": str(tmp_path), **STORES, **environ})
    return str(caught.value)


def test_a_wrong_value_is_told_with_file_key_value_and_remedy(tmp_path: Path) -> None:
    told = complaint(tmp_path, "[startup]\ntimeout = 'soon'\n")
    assert told.startswith(f"{tmp_path}/regrow.toml: startup.timeout = 'soon': ")
    assert "valid number" in told
    assert told.endswith("Correct the value.")
    assert "\n" not in told


def test_a_wrong_value_of_a_profile_names_the_profile(tmp_path: Path) -> None:
    told = complaint(tmp_path, "[profiles.testing.web]\nport = 0\n", "testing")
    assert told.startswith(f"{tmp_path}/regrow.toml [profiles.testing]: web.port = 0: ")


@pytest.mark.parametrize("name", ["SHUTDOWN_TIMEOUT", "REGROW_SHUTDOWN__TIMEOUT"])
def test_a_wrong_variable_names_the_variable(tmp_path: Path, name: str) -> None:
    told = complaint(tmp_path, **{name: "-1"})
    assert told.startswith(f"environment variable {name}: shutdown.timeout = '-1': ")


def test_every_problem_is_told_each_on_its_line(tmp_path: Path) -> None:
    told = complaint(tmp_path, "[web]\nport = 0\n[log]\nlevel = 'LOUD'\n", HEALTH_HISTORY_SIZE="none")
    assert len(told.splitlines()) == 3
    for key in ("web.port", "log.level", "health.history_size"):
        assert key in told


@pytest.mark.parametrize(
    ("toml", "key", "hint"),
    [
        ("[helth]\ninterval = 30\n", "helth", "Did you mean health?"),
        ("nonsense = 1\n", "nonsense", "Known here: alerts, breakers,"),
        ("[redis]\nmax_retrys = 3\n", "redis.max_retrys", "Did you mean max_retries?"),
        (
            "[breakers.payments]\nfailure_treshold = 3\n",
            "breakers.payments.failure_treshold",
            "failure_threshold?",
        ),
        ("[health.checks.disk]\nwaring = 3\n", "health.checks.disk.waring", "Did you mean warning?"),
        ("[health.checks.x]\nkind='tcp'\nhost='h'\nprot=1\nport=2\n", "health.checks.x.prot", "mean port?"),
        (
            "[[temp_files.roots]]\npath='/srv/x'\nmax_age=1\nkeeep=[]\n",
            "temp_files.roots[0].keeep",
            "mean keep?",
        ),
        ("[dead_letters.routes.mail]\ntask='t'\nqueu='q'\n", "dead_letters.routes.mail.queu", "mean queue?"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path: Path, toml: str, key: str, hint: str) -> None:
    told = complaint(tmp_path, toml)
    assert told.startswith(f"{tmp_path}/regrow.toml: ")
    assert f"{key} is not a setting" in told
    assert hint in told


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[health.checks.x]\ninterval = 30\n",
            "health.checks.x.kind is not set. It is one of: redis, database,",
        ),
        (
            "[health.checks.x]\nkind = 'htpp'\n",
            "health.checks.x.kind = 'htpp' is no kind of check. Did you mean http?",
        ),
        ("[health.checks.x]\nkind = 'tcp'\nport = 1\n", "health.checks.x.host is not set. Add it."),
        ("[health.checks.x]\nkind = 'tcp'\nhost = 'h'\nport = 70000\n", "health.checks.x.port = 70000: "),
        ("[health.checks.x]\nkind = 'http'\nurl = 'ftp://h/'\n", "health.checks.x.url = (hidden): "),
        ("[health.checks.x]\nkind = 'http'\nurl = 'http://h/'\nmethod = 'PUT'\n", "method = 'PUT': "),
        ("[health.checks.disk]\nwarning = 95\n", "warning (95) must not be above critical (90)"),
        ("[health.checks.disk]\ncritical = 101\n", "health.checks.disk.critical = 101: "),
        (
            "[health.checks.redis]\ninterval = 5\n",
            "health.checks.redis.interval = 5: the shortest interval is 10",
        ),
        ("[health]\ninterval = 9\n", "health.interval = 9: the shortest interval is 10 seconds"),
        ("[health.checks.redis]\ntimeout = inf\n", "health.checks.redis.timeout = inf: "),
        ("[health.checks.redis]\ntimeout = nan\n", "health.checks.redis.timeout = nan: "),
        ("[health.checks]\nx = 'http://h/'\n", "health.checks.x"),
        (
            "[dead_letters.routes.x]\nkind = 'webhok'\n",
            "dead_letters.routes.x.kind = 'webhok' is no kind of route. Did you mean webhook?",
        ),
        ("[dead_letters.routes.x]\nqueue = 'q'\n", "dead_letters.routes.x.task is not set. Add it."),
        (
            "[dead_letters.routes.x]\nkind = 'amqp'\nbroker = 'far'\n",
            "dead_letters.routes.x.broker = 'far' is not declared. Write [brokers.far] with its url.",
        ),
        (
            "[dead_letters.queues.x]\nqueue = 'q.dead'\n",
            "dead_letters.queues.x needs RabbitMQ, and its broker is none.",
        ),
        (
            "[dead_letters.routes.x]\nkind = 'handler'\nhandler = 'shop'\n",
            "name a function as package.module:",
        ),
        ("[brokers.x]\nurl = 'http://h/'\n", "brokers.x.url = (hidden): the URL must begin with amqp://"),
    ],
)
def test_a_check_that_cannot_work_is_refused(tmp_path: Path, toml: str, message: str) -> None:
    told = complaint(tmp_path, toml)
    assert told.startswith(f"{tmp_path}/regrow.toml: ")
    assert message in told


@pytest.mark.parametrize(
    "toml",
    [
        "kind = 'tcp'\nhost = 'mail.example'\nport = 25\n",
        "kind = 'http'\nurl = 'https://shop.example/up?x=1'\nexpect_body = 'ok'\nslow = 0.5\nrequired = true\n",
        "kind = 'disk'\npath = '/srv'\nwarning = 50\ncritical = 50\n",
        "kind = 'queue'\nqueues = ['celery']\ninterval = 10\n",
        "kind = 'redis'\nenabled = false\nlabels = { team = 'shop' }\n",
    ],
)
def test_a_check_that_can_work_is_accepted(tmp_path: Path, toml: str) -> None:
    file = tmp_path / "regrow.toml"
    file.write_text(f"[health.checks.mine]\n{toml}")
    checks = load_settings(file, environ=STORES).health.checks
    assert checks["mine"].kind in toml
    assert len(checks) > 1  # beside those that are there anyway


def test_in_the_testing_profile_checks_may_run_every_second(tmp_path: Path) -> None:
    file = tmp_path / "regrow.toml"
    file.write_text("[health.checks.redis]\ninterval = 1\n")
    assert load_settings(file, "testing", STORES).health.checks["redis"].interval == 1


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[redis\n", "not valid TOML"),
        ("profiles = 3\n", "profiles must be tables"),
        ("[profiles]\ntesting = 3\n", "profiles must be tables"),
        ("[profiles.tseting.web]\nport = 1\n", "profiles.tseting is no profile. There are production,"),
        ('home = "${NOT_THERE}/x"\n', "home refers to ${NOT_THERE}, which is not set"),
        (
            '[web]\napi_key_file = "/nowhere/key"\n',
            "web.api_key_file: the secret file /nowhere/key cannot be read",
        ),
        ("redis = 'x'\n", "redis is a table of settings and was given as one value. Write it as [redis]."),
        (
            "[celery]\ntask_soft_time_limit = 500\n",
            "task_soft_time_limit (500) must be below celery.task_time_limit (300)",
        ),
        ("[[temp_files.roots]]\npath = '/'\nmax_age = 1\n", "/ is the root of the file system"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, toml: str, message: str) -> None:
    told = complaint(tmp_path, toml)
    assert f"{tmp_path}/regrow.toml" in told
    assert message in told


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml: cannot be read .*REGROW_CONFIG"):
        load_settings(tmp_path / "gone.toml", environ=STORES)
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(SettingsError, match=r"latin\.toml: not UTF-8"):
        load_settings(tmp_path / "latin.toml", environ=STORES)


def test_what_is_missing_names_the_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={"REGROW_HOME": str(tmp_path), "REGROW_PROFILE": "production"})
    told = str(caught.value)
    for variable in ("REGROW_REDIS_URL", "REGROW_DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        assert variable in told


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_secret_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    told = complaint(tmp_path, API_KEY_FILE=str(tmp_path / "key"))
    assert "environment variable API_KEY_FILE" in told
    assert "the secret file" in told


def test_a_list_that_is_no_json_is_refused(tmp_path: Path) -> None:
    told = complaint(tmp_path, REGROW_HEALTH__CHECKS__BROKER__QUEUES="[a, b]")
    assert "environment variable REGROW_HEALTH__CHECKS__BROKER__QUEUES" in told


@pytest.mark.parametrize(
    ("toml", "environ"),
    [
        ("", {"REGROW_REDIS_URL": f"http://:{SECRET}@h/0"}),
        ("", {"REGROW_REDIS_URL": f"redis://:{SECRET}/x@h:1/0"}),
        ("", {"REGROW_REDIS_URL": f"redis://[:{SECRET}@h/0"}),
        ("", {"REGROW_DATABASE_URL": f"postgresql://u:{SECRET}@h/d"}),
        ("", {"REGROW_DATABASE_URL": f"mysql+pymysql://u:{SECRET}?@h/d"}),
        ("", {"REGROW_REDIS__PASSWORD__X": SECRET}),
        (f"redis = 'redis://:{SECRET}@h/0'\n", {}),
        (f"web = '{SECRET}'\n", {}),
        (f"[web]\napi_key = ['{SECRET}']\n", {}),
        (f"[web]\napi_key = {{ k = '{SECRET}' }}\n", {}),
        (f"[health.checks.x]\nkind = 'http'\nurl = 'https://u:{SECRET}@:bad:/'\n", {}),
        (f"[health.checks.x]\nkind = 'http'\nurl = 'http://h/'\nheaders = '{SECRET}'\n", {}),
        (f"[health.checks.x]\nkind = 'http'\nurl = 'http://h/'\nheaders = {{ A = ['{SECRET}'] }}\n", {}),
        (f"[health.checks]\nx = 'https://u:{SECRET}@h/'\n", {}),
        (f"[celery]\nbroker_urls = 'redis://:{SECRET}@h/0'\n", {}),
    ],
)
def test_an_error_never_tells_a_secret(tmp_path: Path, toml: str, environ: dict[str, str]) -> None:
    assert SECRET not in complaint(tmp_path, toml, **environ)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        (
            "[breakers.chat]\nkind = 'fax'\n",
            "breakers.chat.kind = 'fax': it is no kind of service; choose one of",
        ),
        (
            "[breakers.default]\nkind = 'ai'\n",
            "breakers.default.kind: a kind is for the table of one breaker",
        ),
    ],
)
def test_a_kind_of_service_that_cannot_be_meant_is_refused(tmp_path: Path, toml: str, told: str) -> None:
    file = tmp_path / "regrow.toml"
    file.write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load_settings(path=file, environ={"REGROW_REDIS_URL": "redis://127.0.0.1:1/0"}, profile="testing")
    assert told in str(caught.value)
    assert str(file) in str(caught.value)
