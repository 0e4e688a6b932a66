"""What is wrong with the settings, in words: the place, the key, the value if it is no secret, the remedy."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from regrow.settings.checks import CHECK_KINDS
from regrow.settings.models import Settings
from regrow.settings.recovery import HANDLER_KINDS
from regrow.settings.routes import ROUTE_KINDS
from regrow.settings.sources import Layers, Place

_REMEDIES: Mapping[Place, str] = {
    ("redis", "url"): "Set REGROW_REDIS_URL, or url under [redis], or start the local stack with `make run`.",
    ("database", "url"): "Set REGROW_DATABASE_URL, or url under [database].",
    ("celery", "broker_url"): (
        "Set CELERY_BROKER_URL, or REGROW_REDIS_URL, which serves as broker too unless it is a cluster."
    ),
    ("celery", "result_backend"): (
        "Set CELERY_RESULT_BACKEND, or REGROW_REDIS_URL, which serves for results too unless it is a cluster."
    ),
}

_SECRET_NAMES = (
    "password",
    "api_key",
    "url",
    "broker_url",
    "result_backend",
    "headers",
    "signing_keys",
    "intake_key",
    "dead_man_url",
    "body",
    "env",
)

# A table was wanted and something else was given: what that is nobody can say, so it is not shown.
_NOT_A_TABLE = {"model_type", "dict_type", "model_attributes_type"}
_MESSAGES = dict.fromkeys(_NOT_A_TABLE, "this is a table of settings, and something else was given")


def explain(layers: Layers, error: ValidationError) -> Iterable[str]:
    """One line for each problem that pydantic found."""
    for problem in error.errors(include_url=False):
        place = _place_of(layers, problem["loc"])
        yield _line(layers, place, _shown(layers, problem["loc"]), problem)


def _line(layers: Layers, place: Place, key: str, problem: ErrorDetails) -> str:
    message = _MESSAGES.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    kind, origin = problem["type"], layers.origin(place)
    if kind == "missing":
        where = "" if place in _REMEDIES else f"{layers.origin(place[:-1])}: "
        return f"{where}{key} is not set. {_REMEDIES.get(place, 'Add it.')}"
    if kind == "extra_forbidden":
        return f"{origin}: {key} is not a setting. {_did_you_mean(layers, place)}"
    if kind == "union_tag_not_found":
        return f"{origin}: {key}.kind is not set. It is one of: {', '.join(_kinds(place)[1])}."
    if kind == "union_tag_invalid":
        given = str(problem["ctx"]["tag"])
        what, kinds = _kinds(place)
        return f"{origin}: {key}.kind = {given!r} is no kind of {what}. {_closest(given, kinds)}"
    given = _given(place, problem)
    return f"{origin}: {key}{given}: {message}. {_REMEDIES.get(place, 'Correct the value.')}"


def _kinds(place: Place) -> tuple[str, tuple[str, ...]]:
    """What the table at ``place`` declares, and the kinds that there are of it."""
    if place[0] == "recovery":
        return "handler", HANDLER_KINDS
    return ("route", ROUTE_KINDS) if "routes" in place else ("check", CHECK_KINDS)


def _given(place: Place, problem: ErrorDetails) -> str:
    """The value, as far as it may be shown. A whole table tells nobody anything."""
    value = problem["input"]
    if problem["type"] in _NOT_A_TABLE or isinstance(value, dict | list | tuple | BaseModel):
        return ""
    hidden = _is_secret(place) or isinstance(value, SecretStr) or "://" in str(value)
    return " = (hidden)" if hidden else f" = {value!r}"


def _place_of(layers: Layers, location: tuple[int | str, ...]) -> Place:
    """Pydantic's location without what it adds of its own (list indices, the tag of a union)."""
    return tuple(part for part in _parts(layers, location) if isinstance(part, str))


def _shown(layers: Layers, location: tuple[int | str, ...]) -> str:
    """The key as people write it: ``temp_files.roots[0].path``."""
    shown = ""
    for part in _parts(layers, location):
        shown += f"[{part}]" if isinstance(part, int) else f".{part}"
    return shown.removeprefix(".") or "settings"


def _parts(layers: Layers, location: tuple[int | str, ...]) -> list[int | str]:
    kept: list[int | str] = []
    known: Any = layers.values
    for part in location:
        if isinstance(known, dict) and part not in known and known.get("kind") == part:
            continue  # the tag of a union: it stands in the location, but not in the file
        kept.append(part)
        known = _below(known, part)
    return kept


def _below(known: Any, part: int | str) -> Any:
    if isinstance(known, dict):
        return known.get(part)
    if isinstance(known, list) and isinstance(part, int) and part < len(known):
        return known[part]
    return None


def _is_secret(place: Place) -> bool:
    return any(part in _SECRET_NAMES for part in place)


def _did_you_mean(layers: Layers, place: Place) -> str:
    """The setting that was probably meant, or those that there are."""
    names = _names_beside(layers, place)
    return _closest(place[-1], names) if names else "Remove it."


def _closest(given: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(names)}."


def _names_beside(layers: Layers, place: Place) -> list[str]:
    """The names that the table of ``place`` may hold; none when it is no model, or not a known one."""
    kind: Any = Settings
    for depth, name in enumerate(place[:-1], start=1):
        kind = _kind_of(kind, name, layers.get(place[:depth]))
    return list(getattr(kind, "model_fields", {}))


def _kind_of(kind: Any, name: str, value: Any) -> Any:
    """The model below ``name`` in ``kind``, which may be a model or a table of models."""
    if get_origin(kind) is dict:
        return _model_among(get_args(kind)[1], value)
    field = getattr(kind, "model_fields", {}).get(name)
    return None if field is None else _model_among(field.annotation, value)


def _model_among(kind: Any, value: Any) -> Any:
    """Of a union of checks the one that ``value`` says it is; of a tuple its items' kind."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict or _is_model(kind):
        return kind
    if origin is tuple:
        return _model_among(arguments[0], value)
    if origin in (Union, types.UnionType):
        said = value.get("kind") if isinstance(value, dict) else None
        return next((model for model in arguments if _says(model, said)), None)
    if arguments:  # Annotated
        return _model_among(arguments[0], value)
    return None


def _is_model(kind: Any) -> bool:
    return get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, BaseModel)


def _says(model: Any, kind: object) -> bool:
    field = getattr(model, "model_fields", {}).get("kind")
    return field is not None and kind in get_args(field.annotation)
