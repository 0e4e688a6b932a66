"""Settings: gathered from files and environment, validated once, frozen.

>>> settings = load_settings()
>>> settings.redis.url.get_secret_value()

Every error is a :class:`regrow.errors.SettingsError` that names place, key, value and remedy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import ValidationError

from regrow.breakers.kinds import KINDS
from regrow.errors import SettingsError
from regrow.redis_url import kind_of
from regrow.settings.alert_contradictions import contradictions_of_alerts
from regrow.settings.checks import CheckSettings
from regrow.settings.contradictions import (
    contradictions_of_checks,
    contradictions_of_degradation,
    contradictions_of_maintenance,
    contradictions_of_routes,
    contradictions_of_slo,
    contradictions_of_startup,
)
from regrow.settings.models import (
    BreakerSettings,
    DatabaseSettings,
    DeadLetterSettings,
    HealthSettings,
    RedisSettings,
    Settings,
    TempFileRoot,
    TempFilesSettings,
)
from regrow.settings.problems import explain
from regrow.settings.recovery import HandlerSettings
from regrow.settings.recovery_contradictions import contradictions_of_recovery
from regrow.settings.redaction import redacted
from regrow.settings.routes import DeadLetterQueue, RouteSettings
from regrow.settings.sources import UNSAID, VARIABLES, Layers, Place, gather, read_stack_env

__all__ = [
    "VARIABLES",
    "BreakerSettings",
    "CheckSettings",
    "DatabaseSettings",
    "DeadLetterQueue",
    "DeadLetterSettings",
    "HandlerSettings",
    "HealthSettings",
    "RedisSettings",
    "RouteSettings",
    "Settings",
    "TempFileRoot",
    "TempFilesSettings",
    "contradictions",
    "load_settings",
    "redacted",
]

_SHORTEST_INTERVAL = 10.0
"""Seconds; checks more often than this cost more than they tell. The testing profile may."""


def load_settings(
    path: Path | None = None, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read, merge and validate all settings.

    ``path`` is a ``regrow.toml`` (None: ``REGROW_CONFIG``, then ``config/regrow.toml`` if there is one),
    ``profile`` one of production, development, testing (None: ``REGROW_PROFILE``, then that of a local
    stack that runs on this home folder, then production).
    """
    environ = os.environ if environ is None else environ
    layers = gather(path, profile, environ)
    if layers.origin(("profile",)) == UNSAID and (running := _running_profile(layers)):
        layers = gather(path, running, environ)
    _derive(layers)
    try:
        settings = Settings.model_validate(layers.values)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(layers, error))) from None
    if problems := list(contradictions(layers, settings)):
        raise SettingsError("\n".join(problems))
    settings.keep_referred(layers.referred)
    return settings


def _running_profile(layers: Layers) -> str | None:
    """The profile of the local stack on this home folder: `regrow jobs` finds what `make run` started."""
    return read_stack_env(Path(str(layers.get(("home",)) or "var"))).get("REGROW_PROFILE")


def contradictions(layers: Layers, settings: Settings) -> Iterable[str]:
    """Values that are well in themselves and not beside each other: one line each, with place and remedy."""
    soft, hard = settings.celery.task_soft_time_limit, settings.celery.task_time_limit
    if soft >= hard:
        origin = layers.latest(("celery", "task_soft_time_limit"), ("celery", "task_time_limit"))
        yield (
            f"{origin}: celery.task_soft_time_limit ({soft:g}) must be below "
            f"celery.task_time_limit ({hard:g}). Change one of them."
        )
    if settings.breakers["default"].kind is not None:
        yield (
            f"{layers.origin(('breakers', 'default', 'kind'))}: breakers.default.kind: "
            "a kind is for the table of one breaker. Move it to [breakers.NAME]."
        )
    yield from contradictions_of_routes(layers, settings)
    yield from contradictions_of_startup(layers, settings)
    yield from contradictions_of_checks(layers, settings)
    yield from contradictions_of_degradation(layers, settings)
    yield from contradictions_of_recovery(layers, settings)
    yield from contradictions_of_maintenance(layers, settings)
    yield from contradictions_of_slo(layers, settings)
    yield from contradictions_of_alerts(layers, settings)
    if settings.profile == "testing":
        return
    intervals = {("health", "interval"): settings.health.interval} | {
        ("health", "checks", name, "interval"): check.interval
        for name, check in settings.health.checks.items()
        if check.interval is not None
    }
    for place, interval in intervals.items():
        if interval < _SHORTEST_INTERVAL:
            yield (
                f"{layers.origin(place)}: {'.'.join(place)} = {interval:g}: "
                f"the shortest interval is {_SHORTEST_INTERVAL:g} seconds. Make it longer."
            )


def _derive(layers: Layers) -> None:
    """Fill what follows from other settings: one Redis URL serves broker, results and live state."""
    layers.set_missing(("home",), "var", "default")
    _complete_breakers(layers)
    _complete_routes(layers)
    home = Path(str(layers.get(("home",))))
    if layers.get(("profile",)) != "production":
        for name, value in read_stack_env(home).items():
            if name in VARIABLES and name not in {"REGROW_HOME", "REGROW_PROFILE"}:
                layers.set_missing(VARIABLES[name], value, str(home / "stack.env"))

    broker = layers.get(("celery", "broker_url"))
    if isinstance(broker, str) and broker.startswith(("redis://", "rediss://")):
        layers.set_missing(("redis", "url"), broker, layers.origin(("celery", "broker_url")))
    aliases = layers.get(("brokers",))
    declared = [("brokers", name) for name in aliases] if isinstance(aliases, dict) else []
    for store in (("redis",), ("database",), *declared):
        _put_password(layers, store)
    # Celery speaks to no cluster, so there the broker must be named; it keeps the results too if it can.
    live, celery = ("redis", "url"), ("celery", "broker_url")
    results = ("celery", "result_backend")
    for serves, place in ((live, celery), (live, results), (celery, results)):
        if kind_of(str(layers.get(serves))) in {"server", "sentinel"}:
            layers.set_missing(place, layers.get(serves), layers.origin(serves))
    if layers.get(("profile",)) != "production":
        file = (home / "regrow.sqlite3").resolve()
        layers.set_missing(("database", "url"), f"sqlite:///{file}", "default outside production")


def _put_password(layers: Layers, store: Place) -> None:
    """A password of its own (from a secret file) goes into the URL, quoted, where drivers expect it."""
    url, password = layers.get((*store, "url")), layers.get((*store, "password"))
    if not url or not password:
        return
    try:
        parts = urlsplit(str(url))
    except ValueError:
        return  # not a URL at all; its own validation says so
    user = parts.username or ""
    host = parts.netloc.rsplit("@", 1)[-1]
    netloc = f"{quote(user, safe='')}:{quote(str(password), safe='')}@{host}"
    layers.set((*store, "url"), urlunsplit(parts._replace(netloc=netloc)), layers.origin((*store, "url")))


def _complete_breakers(layers: Layers) -> None:
    """A breaker's own table says what is different about it; then its kind; the rest is the default."""
    breakers = layers.get(("breakers",))
    for name in breakers if isinstance(breakers, dict) else ():
        if isinstance(breakers[name], dict) and isinstance(breakers["default"], dict):
            kind = breakers[name].get("kind")
            for key, value in (KINDS.get(kind, {}) if isinstance(kind, str) else {}).items():
                layers.set_missing(("breakers", name, key), value, f"the settings of kind {kind}")
            for key, value in breakers["default"].items():
                if key == "kind":
                    continue
                layers.set_missing(
                    ("breakers", name, key), value, layers.origin(("breakers", "default", key))
                )


def _complete_routes(layers: Layers) -> None:
    """A route that says no kind leads to a Celery task."""
    routes = layers.get(("dead_letters", "routes"))
    for name, route in routes.items() if isinstance(routes, dict) else ():
        if isinstance(route, dict):
            place = ("dead_letters", "routes", name)
            layers.set_missing((*place, "kind"), "celery", layers.origin(place))
