"""``[recovery.services.NAME]``: what is refused, with place and remedy, and what follows from the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow.errors import SettingsError
from regrow.recovery.declared import services
from regrow.settings import load_settings, redacted

CHECK = '[health.checks.bank]\nkind = "tcp"\nhost = "bank"\nport = 1\n'
STORES = {"REGROW_REDIS_URL": "redis://redis/0", "REGROW_DATABASE_URL": "sqlite:///x"}


def load(tmp_path: Path, toml: str, **environ: str):
    file = tmp_path / "regrow.toml"
    file.write_text(toml)
    return load_settings(file, "production", {**STORES, **environ})


def test_breaker_check_and_test_are_those_of_the_same_name(tmp_path):
    settings = load(tmp_path, CHECK + '[recovery.services.bank]\nkind = "breaker"\n')
    service = services(settings)["bank"]
    assert (service.breaker, service.check, service.test) == ("bank", "bank", "bank")
    assert (service.envelope.interval, service.envelope.max_attempts, service.envelope.backoff) == (60, 3, 2)


def test_others_can_be_named_and_the_envelope_widened(tmp_path):
    toml = f"""{CHECK}
    [recovery.services.shop]
    kind = "command"
    argv = ["systemctl", "restart", "shop"]
    breaker = ""
    check = "bank"
    interval = 10
    max_attempts = 5
    enabled = true
    """
    service = services(load(tmp_path, toml, MAX_RECOVERY_ATTEMPTS="4", RECOVERY_BACKOFF="3"))["shop"]
    assert (service.breaker, service.check, service.test) == (None, "bank", "bank")
    assert (service.envelope.interval, service.envelope.max_attempts, service.envelope.backoff) == (10, 5, 3)
    assert service.longest == 30 + 10 + 5 + 10


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[recovery.services.bank]\nkind = "breaker"', "nothing that tells whether the service is back"),
        ('[recovery.services.bank]\nkind = "reboot"', "no kind of handler. Known here: breaker, command"),
        ("[recovery.services.bank]\nargv = []", "recovery.services.bank.kind is not set. It is one of"),
        (CHECK + '[recovery.services.bank]\nkind = "command"\nargv = []', "at least 1 item"),
        (
            CHECK + '[recovery.services.bank]\nkind = "command"\nargv = ["a"]\nshell = true',
            "is not a setting",
        ),
        (CHECK + '[recovery.services.bank]\nkind = "breaker"\ntest = "bnk"', "'bnk' is no health check"),
        (
            CHECK + '[recovery.services.bank]\nkind = "breaker"\ndepends_on = ["db"]',
            "names 'db', which is not",
        ),
        ('[recovery.services.db]\nkind = "database"\nbreaker = ""', "neither breaker nor check"),
        (
            CHECK + '[recovery.services.bank]\nkind = "command"\nargv = ["a"]\ntimeout = 230',
            "may take 255 s (timeout, settle, its checks), and celery.task_soft_time_limit is 240",
        ),
        (CHECK + '[recovery.services.bank]\nkind = "http"\nurl = "http://ops.example/"', "Use https"),
        (CHECK + '[recovery.services."my bank"]\nkind = "breaker"\ntest="bank"', "none of them a space"),
        (
            '[recovery.services.a]\nkind = "database"\ndepends_on = ["a"]',
            "goes in a circle",
        ),
        (
            CHECK
            + '[health.checks.shop]\nkind = "memory"\ndepends_on = ["bank"]\n'
            + '[recovery.services.bank]\nkind = "breaker"\ndepends_on = ["shop"]\n'
            + '[recovery.services.shop]\nkind = "breaker"\n',
            "goes in a circle: bank -> shop -> check bank -> bank",
        ),
        (
            '[recovery.services.a]\nkind = "database"\n[recovery]\nconcurrency = 2\n',
            "recovery.concurrency (2) must be below celery.concurrency (2)",
        ),
        ('[recovery.services.a]\nkind = "python"\nfunction = "os.system"', "as package.module:function"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place_and_remedy(tmp_path, toml, said):
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, toml)
    assert said in str(refused.value)
    assert "regrow.toml" in str(refused.value)


def test_secrets_come_from_outside_and_are_not_shown(tmp_path):
    toml = f"""{CHECK}
    [recovery.services.bank]
    kind = "http"
    url = "https://ops.example/restart"
    headers = {{ Authorization = "Bearer ${{OPS_TOKEN}}" }}
    [recovery.services.shop]
    kind = "command"
    argv = ["deploy"]
    env = {{ TOKEN = "${{OPS_TOKEN}}" }}
    test = "bank"
    [recovery.services.mail]
    kind = "command"
    argv = ["deploy", "--token", "${{OPS_TOKEN}}"]
    test = "bank"
    """
    settings = load(tmp_path, toml, OPS_TOKEN="hunter2")
    assert settings.recovery.services["mail"].argv[2] == "hunter2"
    assert settings.recovery.services["shop"].env["TOKEN"].get_secret_value() == "hunter2"
    assert "hunter2" not in str(redacted(settings))
    with pytest.raises(SettingsError, match=r"\$\{OPS_TOKEN\}, which is not set"):
        load(tmp_path, toml)
