"""What may be shown of the settings: no secret, whatever it looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.errors import SettingsError
from regrow.settings import load_settings, redacted
from regrow.settings.redaction import HIDDEN, without_credentials

# Long enough not to be part of another value by chance; with the characters that URLs fall apart at.
secrets = st.text(alphabet="abcXYZ019:/@?#%&=+[]{}!$ é~._-", min_size=6, max_size=24).map(
    lambda text: f"q{text}q"
)


def shown(environ: dict[str, str], toml: Path | None = None) -> str:
    settings = load_settings(toml, "testing", {"REGROW_DATABASE_URL": "sqlite:///x", **environ})
    return json.dumps(redacted(settings), ensure_ascii=False)


@settings(deadline=None)  # a busy machine is no error
@given(secret=secrets, quoted=st.booleans(), user=st.sampled_from(["", "user"]))
def test_no_password_of_a_url_is_ever_shown(secret: str, quoted: bool, user: str) -> None:
    written = quote(secret, safe="") if quoted else secret
    environ = {
        "REGROW_REDIS_URL": f"redis://{user}:{written}@host.example:6379/0",
        "REGROW_DATABASE_URL": f"mysql+pymysql://{user}:{written}@host.example:3306/db",
        "CELERY_BROKER_URL": f"amqp://{user}:{written}@host.example:5672//",
        "CELERY_RESULT_BACKEND": f"db+mysql://{user}:{written}@host.example/db",
    }
    try:
        text = shown(environ)
    except SettingsError as error:
        text = str(error)  # a password that is not quoted may make no URL; the error must not tell it either
    assert secret not in text
    assert written not in text


@given(secret=secrets)
def test_no_key_password_or_header_is_ever_shown(
    tmp_path_factory: pytest.TempPathFactory, secret: str
) -> None:
    folder = tmp_path_factory.mktemp("secret")
    (folder / "value").write_text(secret, encoding="utf-8")
    (folder / "regrow.toml").write_text(
        "[health.checks.shop]\nkind = 'http'\nurl = 'http://shop.example/up'\n"
        f"headers = {{ Authorization_file = '{folder}/value' }}\n",
        encoding="utf-8",
    )
    text = shown(
        {
            "REGROW_REDIS_URL": "redis://host.example/0",
            "REGROW_REDIS_PASSWORD_FILE": str(folder / "value"),
            "API_KEY_FILE": str(folder / "value"),
        },
        folder / "regrow.toml",
    )
    assert secret not in text
    assert quote(secret, safe="") not in text


def test_a_check_whose_url_holds_a_password_or_a_token_does_not_show_it(tmp_path: Path) -> None:
    file = tmp_path / "regrow.toml"
    file.write_text(
        "[health.checks.shop]\nkind = 'http'\nurl = 'https://me:hunter2@shop.example/up?token=hunter3'\n"
        "labels = { dashboard = 'https://me:hunter4@graphs.example/d' }\n"
    )
    text = shown({"REGROW_REDIS_URL": "redis://h/0"}, file)
    assert "https://***@shop.example/up" in text
    assert "hunter" not in text


@pytest.mark.parametrize(
    ("url", "harmless"),
    [
        ("redis://:pw@host:6379/0", "redis://***@host:6379/0"),
        ("sentinel://:pw@a:1,b:2/main/0?sentinel_password=x", "sentinel://***@a:1,b:2/main/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("amqp://guest:guest@mq:5672//", "amqp://***@mq:5672//"),
        ("sqlite:////srv/my files/x.db", "sqlite:////srv/my files/x.db"),
        ("mysql+pymysql://u:p%40w@db/regrow?charset=utf8mb4", "mysql+pymysql://***@db/regrow"),
        ("redis://:p/w@host/0", HIDDEN),
        ("redis://:p?w@host/0", HIDDEN),
        ("redis://:p#w@host/0", HIDDEN),
        ("redis://:forgotten-at", HIDDEN),
        ("redis://:12345/0", HIDDEN),
        ("not a url", HIDDEN),
        ("", HIDDEN),
    ],
)
def test_a_url_is_shown_without_its_secrets_or_not_at_all(url: str, harmless: str) -> None:
    assert without_credentials(url) == harmless


@given(st.text())
def test_whatever_is_no_url_is_hidden(text: str) -> None:
    if "://" not in text:
        assert without_credentials(text) == HIDDEN


def test_what_is_no_secret_is_shown_as_it_is() -> None:
    settings = load_settings(
        None,
        "testing",
        {"REGROW_REDIS_URL": "redis://h/0", "REGROW_DATABASE_URL": "sqlite:///x", "REGROW_PORT": "81"},
    )
    values: dict[str, Any] = redacted(settings)
    assert values["web"]["port"] == 81
    assert values["web"]["api_key"] is None
    assert values["health"]["checks"]["disk"]["warning"] == 80
    assert values["redis"]["url"] == "redis://h/0"
