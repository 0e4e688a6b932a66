"""Settings: gathered from files and environment, validated once, frozen.

>>> settings = load_settings()
>>> settings.redis.url.get_secret_value()

Every error is a :class:`regrow.errors.SettingsError` that names place, key, value and remedy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import SecretStr, ValidationError

from regrow.errors import SettingsError
from regrow.settings.checks import CheckSettings
from regrow.settings.models import (
    BreakerSettings,
    DatabaseSettings,
    DeadLetterSettings,
    HealthSettings,
    RedisSettings,
    RouteSettings,
    Settings,
    TempFileRoot,
    TempFilesSettings,
)
from regrow.settings.sources import VARIABLES, Layers, Place, gather, read_stack_env

__all__ = [
    "VARIABLES",
    "BreakerSettings",
    "CheckSettings",
    "DatabaseSettings",
    "DeadLetterSettings",
    "HealthSettings",
    "RedisSettings",
    "RouteSettings",
    "Settings",
    "TempFileRoot",
    "TempFilesSettings",
    "load_settings",
    "redacted",
]

_SECRETS = ("password", "api_key", "url", "broker_url", "result_backend", "headers")


def load_settings(
    path: Path | None = None, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read, merge and validate all settings.

    ``path`` is a ``regrow.toml`` (None: ``REGROW_CONFIG``, then ``config/regrow.toml`` if there is one),
    ``profile`` one of production, development, testing (None: ``REGROW_PROFILE``, then production).
    """
    environ = os.environ if environ is None else environ
    layers = gather(path, profile, environ)
    _derive(layers)
    try:
        return Settings.model_validate(layers.values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(layers, error))) from None


def _derive(layers: Layers) -> None:
    """Fill what follows from other settings: one Redis URL serves broker, results and live state."""
    layers.set_missing(("home",), "var", "default")
    home = Path(str(layers.get(("home",))))
    if layers.get(("profile",)) != "production":
        for name, value in read_stack_env(home).items():
            if name in VARIABLES and name not in {"REGROW_HOME", "REGROW_PROFILE"}:
                layers.set_missing(VARIABLES[name], value, str(home / "stack.env"))

    broker = layers.get(("celery", "broker_url"))
    if isinstance(broker, str) and broker.startswith(("redis://", "rediss://")):
        layers.set_missing(("redis", "url"), broker, layers.origin(("celery", "broker_url")))
    for store in ("redis", "database"):
        _put_password(layers, store)
    if redis_url := layers.get(("redis", "url")):
        origin = layers.origin(("redis", "url"))
        layers.set_missing(("celery", "broker_url"), redis_url, origin)
        layers.set_missing(("celery", "result_backend"), redis_url, origin)
    if layers.get(("profile",)) != "production":
        file = (home / "regrow.sqlite3").resolve()
        layers.set_missing(("database", "url"), f"sqlite:///{file}", "default outside production")


def _put_password(layers: Layers, store: str) -> None:
    """A password of its own (from a secret file) goes into the URL, quoted, where drivers expect it."""
    url, password = layers.get((store, "url")), layers.get((store, "password"))
    if not url or not password:
        return
    parts = urlsplit(str(url))
    user = parts.username or ""
    host = parts.netloc.rsplit("@", 1)[-1]
    netloc = f"{quote(user, safe='')}:{quote(str(password), safe='')}@{host}"
    layers.set((store, "url"), urlunsplit(parts._replace(netloc=netloc)), layers.origin((store, "url")))


_REMEDIES: Mapping[Place, str] = {
    ("redis", "url"): "Set REGROW_REDIS_URL, or url under [redis], or start the local stack with `make run`.",
    ("database", "url"): "Set REGROW_DATABASE_URL, or url under [database].",
    ("celery", "broker_url"): "Set CELERY_BROKER_URL, or REGROW_REDIS_URL, which serves as broker too.",
    (
        "celery",
        "result_backend",
    ): "Set CELERY_RESULT_BACKEND, or REGROW_REDIS_URL, which serves for results too.",
}


def _explain(layers: Layers, error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        place = _place_of(layers, problem["loc"])
        key = ".".join(place) or "settings"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            remedy = _REMEDIES.get(place, "Add it.")
            yield f"{key} is not set. {remedy}"
        elif problem["type"] == "extra_forbidden":
            yield f"{layers.origin(place)}: {key} is not a setting. {_did_you_mean(place)}"
        elif isinstance(problem["input"], dict):
            yield f"{layers.origin(place)}: {key}: {message}."
        else:
            shown = "(hidden)" if _is_secret(place) else repr(problem["input"])
            remedy = _REMEDIES.get(place, "Correct the value.")
            yield f"{layers.origin(place)}: {key} = {shown}: {message}. {remedy}"


def _place_of(layers: Layers, location: tuple[int | str, ...]) -> Place:
    """Pydantic's location without what it adds of its own (list indices, the tag of a union)."""
    place: Place = ()
    for part in location:
        known = layers.get(place) if place else layers.values
        is_tag = isinstance(known, dict) and part not in known and known.get("kind") == part
        if isinstance(part, str) and not is_tag:
            place = (*place, part)
    return place


def _did_you_mean(place: Place) -> str:
    import difflib

    model: Any = Settings
    for key in place[:-1]:
        found = getattr(model, "model_fields", {}).get(key)
        model = found.annotation if found else None
    names = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(place[-1], names, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Known here: {', '.join(sorted(names))}." if names else "Remove it."


def _is_secret(place: Place) -> bool:
    return any(part in _SECRETS for part in place)


def redacted(settings: Settings) -> dict[str, Any]:
    """All settings as plain JSON values, with secrets masked and passwords cut out of URLs."""
    plain: dict[str, Any] = _redact(settings.model_dump())
    return plain


def _redact(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact(item) for item in value]
    if isinstance(value, SecretStr):
        return _mask(value.get_secret_value())
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return str(value)


def _mask(secret: str) -> str:
    """A URL keeps what is not secret (scheme, host, path); anything else is hidden whole."""
    if "://" not in secret:
        return "***"
    bare = secret.split("?", 1)[0].split("#", 1)[0]
    return re.sub(r"://[^/]*@", "://***@", bare)
