"""Shapes that several sections share, each with the one way to say what is wrong with it."""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, HttpUrl, SecretStr

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SHORTEST_KEY = 16

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the settings: frozen, with nothing unknown let through."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _named(value: str) -> str:
    if not _FUNCTION.fullmatch(value):
        raise ValueError("name a function as package.module:function")
    return value


def lines(value: object) -> object:
    """What stands in a file as one value a line."""
    return tuple(line for line in value.split() if line) if isinstance(value, str) else value


def _strong(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if any(len(key.get_secret_value()) < _SHORTEST_KEY for key in keys):
        raise ValueError(f"each key needs at least {_SHORTEST_KEY} characters")
    return keys


def at_least_one(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """Signing keys where nothing may go unsigned."""
    if not keys:
        raise ValueError(f"give one key or more, each of at least {_SHORTEST_KEY} characters")
    return keys


def _without_credentials(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("user and password do not belong into the URL; send them with headers")
    return url


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        msg = "no such time zone; write one of the IANA database, such as Europe/Berlin"
        raise ValueError(msg) from None
    return value


Zone = Annotated[str, AfterValidator(_zone)]
"""The name of a time zone."""
Function = Annotated[str, AfterValidator(_named)]
"""``package.module:function``."""
SigningKeys = Annotated[tuple[SecretStr, ...], BeforeValidator(lines), AfterValidator(_strong)]
"""Keys that each sign a request: a list, or one a line of a file."""
Address = Annotated[HttpUrl, AfterValidator(_without_credentials)]
"""Where a request goes; its secrets go in its headers."""
