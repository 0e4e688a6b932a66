"""Where settings come from, layer over layer, each value remembering its place.

Lowest first: ``regrow/defaults.toml`` < your ``regrow.toml`` < the ``[profiles.NAME]`` tables of both
< the environment. Every value keeps its origin, so that an error can name the file or the variable.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from regrow.errors import SettingsError

Place = tuple[str, ...]
PROFILES = ("production", "development", "testing")
UNSAID = "the default"
"""The origin of a profile that nobody named."""

# Documented names that stay, and the setting each one means.
VARIABLES: Mapping[str, Place] = {
    "REGROW_HOME": ("home",),
    "REGROW_PROFILE": ("profile",),
    "REGROW_REDIS_URL": ("redis", "url"),
    "REGROW_REDIS_PASSWORD": ("redis", "password"),
    "REGROW_DATABASE_URL": ("database", "url"),
    "REGROW_DATABASE_PASSWORD": ("database", "password"),
    "REGROW_PORT": ("web", "port"),
    "CELERY_BROKER_URL": ("celery", "broker_url"),
    "CELERY_RESULT_BACKEND": ("celery", "result_backend"),
    "RECOVERY_INTERVAL": ("recovery", "interval"),
    "MAX_RECOVERY_ATTEMPTS": ("recovery", "max_attempts"),
    "RECOVERY_BACKOFF": ("recovery", "backoff"),
    "STARTUP_TIMEOUT": ("startup", "timeout"),
    "DEPENDENCY_CHECK_INTERVAL": ("startup", "interval"),
    "HEALTH_CHECK_INTERVAL": ("health", "interval"),
    "HEALTH_HISTORY_SIZE": ("health", "history_size"),
    "REDIS_MAX_RETRIES": ("redis", "max_retries"),
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": ("breakers", "default", "failure_threshold"),
    "SHUTDOWN_TIMEOUT": ("shutdown", "timeout"),
    "API_KEY": ("web", "api_key"),
    "MAX_CONTENT_LENGTH": ("web", "max_content_length"),
}

_NESTED = re.compile(r"REGROW_([A-Z0-9_]+?__[A-Z0-9_]+)$")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass
class Layers:
    """The merged values, and for each leaf the place it was set in.

    ``referred``: leaves whose value came by ``${VARIABLE}`` or from a file of its own, and may be secrets.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Place, str] = field(default_factory=dict)
    referred: set[Place] = field(default_factory=set)

    def set(self, place: Place, value: object, origin: str) -> None:
        """Set one leaf, over whatever a lower layer said."""
        table = self.values
        for depth, key in enumerate(place[:-1], start=1):
            below = table.setdefault(key, {})
            if not isinstance(below, dict):
                raise self._not_a_table(place[:depth], self.origin(place[:depth]))
            table = below
        if table.get(place[-1]) and isinstance(table[place[-1]], dict) and not isinstance(value, dict):
            raise self._not_a_table(place, origin)
        table[place[-1]] = value
        self.origins.pop(place, None)  # set anew: the latest comes last
        self.origins[place] = origin
        self.referred.discard(place)

    def set_missing(self, place: Place, value: object, origin: str) -> None:
        if self.get(place) in (None, ""):
            self.set(place, value, origin)

    def get(self, place: Place) -> Any:
        table: Any = self.values
        for key in place:
            if not isinstance(table, dict) or key not in table:
                return None
            table = table[key]
        return table

    @staticmethod
    def _not_a_table(place: Place, origin: str) -> SettingsError:
        name = ".".join(place)
        return SettingsError(
            f"{origin}: {name} is a table of settings and was given as one value. Write it as [{name}]."
        )

    def latest(self, *places: Place) -> str:
        """The origin of whichever of these was set last."""
        return next(
            (self.origins[at] for at in reversed(self.origins) if at in places), self.origin(places[0])
        )

    def origin(self, place: Place) -> str:
        """The place a value was set in, or the nearest one above it; of a table, where it last grew."""
        for length in range(len(place), 0, -1):
            above = place[:length]
            if above in self.origins:
                return self.origins[above]
            if below := [origin for at, origin in self.origins.items() if at[:length] == above]:
                return below[-1]
        return "regrow.toml"


def gather(path: Path | None, profile: str | None, environ: Mapping[str, str]) -> Layers:
    """Read all layers. ``path`` None looks at ``REGROW_CONFIG``, then ``config/regrow.toml``."""
    files = [_shipped_defaults()]
    given = config_path(path, environ)
    if given is not None:
        files.append((str(given), _read_toml(given)))

    layers = Layers()
    for origin, tables in files:
        _lay(layers, {key: value for key, value in tables.items() if key != "profiles"}, origin, environ)
    chosen, said_by = _profile(layers, profile, environ)
    for origin, tables in files:
        overlays = _overlays(origin, tables.get("profiles", {}))
        _lay(layers, overlays.get(chosen, {}), f"{origin} [profiles.{chosen}]", environ)
    _lay_environment(layers, environ)
    layers.set(("profile",), chosen, said_by)
    return layers


def _profile(layers: Layers, asked_for: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """The profile and who says it: the caller, the environment, a file, or nobody."""
    if asked_for:
        return asked_for, "the profile asked for"
    if named := environ.get("REGROW_PROFILE"):
        return named, "environment variable REGROW_PROFILE"
    if isinstance(written := layers.get(("profile",)), str):
        return written, layers.origin(("profile",))
    return "production", UNSAID


def _overlays(origin: str, profiles: object) -> dict[str, dict[str, Any]]:
    """The tables below ``[profiles]``; one for a profile that does not exist would never be read."""
    if not isinstance(profiles, dict) or not all(isinstance(table, dict) for table in profiles.values()):
        raise SettingsError(f"{origin}: profiles must be tables like [profiles.testing.schedule].")
    for name in profiles:
        if name not in PROFILES:
            raise SettingsError(f"{origin}: profiles.{name} is no profile. There are {', '.join(PROFILES)}.")
    return profiles


def config_path(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that is read: the one given, that of ``REGROW_CONFIG``, or the usual one if it is there."""
    if path is not None:
        return path
    if named := environ.get("REGROW_CONFIG"):
        return Path(named)
    usual = Path("config/regrow.toml")
    return usual if usual.is_file() else None


def _shipped_defaults() -> tuple[str, dict[str, Any]]:
    text = resources.files("regrow").joinpath("defaults.toml").read_text(encoding="utf-8")
    return "regrow/defaults.toml", tomllib.loads(text)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}. Correct the file and start again.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text. Save the file as UTF-8.") from None
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}). "
            "Name an existing file in REGROW_CONFIG, or unset it to run on the defaults."
        ) from None


def _lay(layers: Layers, tables: object, origin: str, environ: Mapping[str, str]) -> None:
    for place, value in _leaves(tables):
        where = f"{origin}: {'.'.join(place)}"
        if value == {} and isinstance(layers.get(place), dict):
            continue  # an empty table adds nothing; it does not empty what stands below it
        expanded = _expand_all(value, where, environ)
        _set(layers, place, expanded, origin, where)
        if expanded != value:
            layers.referred.add(place)


def _set(layers: Layers, place: Place, value: object, origin: str, where: str) -> None:
    """Set a value, or what the file holds that ``..._file`` names."""
    key = place[-1]
    if key.endswith("_file") and isinstance(value, str):
        place = (*place[:-1], key.removesuffix("_file"))
        layers.set(place, _read_secret(Path(value), where), origin)
        layers.referred.add(place)
    else:
        layers.set(place, value, origin)


def _leaves(value: object, place: Place = ()) -> Iterator[tuple[Place, object]]:
    if isinstance(value, dict) and (value or not place):
        for key, below in value.items():
            yield from _leaves(below, (*place, key))
    else:
        yield place, value


def _expand_all(value: object, where: str, environ: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return _expand(value, where, environ)
    if isinstance(value, list):
        return [_expand_all(item, where, environ) for item in value]
    if isinstance(value, dict):
        return {key: _expand_all(item, where, environ) for key, item in value.items()}
    return value


def _expand(text: str, where: str, environ: Mapping[str, str]) -> str:
    def look_up(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environ:
            raise SettingsError(f"{where} refers to ${{{name}}}, which is not set. Set it, or write a value.")
        return environ[name]

    return _REFERENCE.sub(look_up, text)


def _read_secret(path: Path, where: str) -> str:
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(
            f"{where}: the secret file {path} cannot be read ({error.strerror}). "
            "Create it, or check its owner and mode."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: the secret file {path} is not UTF-8 text. Write it anew.") from None
    if not secret:
        # An empty password or key would be taken for "no password needed".
        raise SettingsError(f"{where}: the secret file {path} is empty. Write the secret into it.")
    return secret


def _lay_environment(layers: Layers, environ: Mapping[str, str]) -> None:
    for name, place in VARIABLES.items():
        if environ.get(f"{name}_FILE"):
            where = f"environment variable {name}_FILE"
            layers.set(place, _read_secret(Path(environ[f"{name}_FILE"]), where), where)
            layers.referred.add(place)
        if environ.get(name):
            layers.set(place, environ[name], f"environment variable {name}")
    for name in sorted(environ):
        match = _NESTED.match(name)
        if match and name not in VARIABLES and environ[name]:
            place = _dashed(layers, tuple(part.lower() for part in match[1].split("__")))
            where = f"environment variable {name}"
            _set(layers, place, _from_text(environ[name], where), where, where)


def _from_text(text: str, where: str) -> object:
    """A value from the environment: a list is written as JSON, anything else is text to be converted."""
    if not text.startswith("["):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise SettingsError(f'{where}: begins like a list but is no JSON. Write it as ["a", "b"].') from None


def _dashed(layers: Layers, place: Place) -> Place:
    """Environment names have no dashes: ``..._CELERY_WORKER__...`` means the declared ``celery-worker``."""
    found: Place = ()
    for key in place:
        below = layers.get(found) if found else layers.values
        known = below if isinstance(below, dict) else {}
        dashed = key.replace("_", "-")
        found = (*found, dashed if key not in known and dashed in known else key)
    return found


def read_stack_env(home: Path) -> dict[str, str]:
    """The variables that a running local stack left in ``<home>/stack.env``; empty without one."""
    try:
        lines = (home / "stack.env").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}
