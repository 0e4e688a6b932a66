"""Settings that ``regrow.toml`` declares, on their way to the applications.

The worker's monitor puts them beside the breaker's state in Redis, and every process hears them with the look
that it takes anyway. Setting by setting: what the code gives is stronger, then what is declared, then the
default. So a file that says nothing changes nothing, and code that says something is never overruled.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from regrow.breakers.rules import BreakerConfig
from regrow.errors import SettingsError

logger = logging.getLogger("regrow.breakers")

Declared = Mapping[str, Any]

_NAMES = frozenset(field.name for field in fields(BreakerConfig))
_DEFAULTS = BreakerConfig().as_dict()


def differing(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among ``values`` that are not the default."""
    return {name: values[name] for name in sorted(_NAMES & values.keys()) if values[name] != _DEFAULTS[name]}


def table_for(name: str, tables: Mapping[str, Any]) -> Any:
    """The table of a breaker's settings: its own, that of the breaker it is a key of, or the default."""
    while name not in tables:
        parent, colon, _key = name.rpartition(":")
        if not colon:
            return tables["default"]
        name = parent
    return tables[name]


def written(declared: Declared) -> str:
    """As Redis keeps it."""
    return json.dumps(dict(declared), sort_keys=True)


@lru_cache(maxsize=1024)
def read(text: str) -> Declared | None:
    """What :func:`written` wrote; None where nothing was. Names that this version lacks are left out."""
    if not text:
        return None
    return MappingProxyType({name: value for name, value in json.loads(text).items() if name in _NAMES})


def settled(name: str, given: Mapping[str, Any], declared: Declared | None) -> BreakerConfig:
    """The settings of a breaker whose code gives ``given``; a difference is logged, and so is nonsense."""
    if not declared:
        return BreakerConfig(**given)
    if told := differences(given, declared):
        logger.warning(
            "breaker.settings_differ: the code of this process is stronger than regrow.toml",
            extra={"breaker": name, "differences": told},
        )
    try:
        return BreakerConfig(**{**declared, **given})
    except SettingsError as error:
        logger.warning("breaker.settings_refused", extra={"breaker": name, "error": str(error)})
        return BreakerConfig(**given)


def differences(ours: Mapping[str, Any], declared: Declared) -> dict[str, str]:
    """Each setting that is not as declared, in words."""
    return {
        name: f"{ours[name]}, regrow.toml says {declared[name]}"
        for name in declared
        if name in ours and ours[name] != declared[name]
    }
