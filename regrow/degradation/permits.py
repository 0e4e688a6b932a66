"""What each level permits: the kinds of requests that are served, and which paths are of which kind.

Pure. The table ships with the settings (``[degradation.permits]``, ``[degradation.paths]``) and travels to
applications with the level; what an application says of its own paths is stronger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from regrow.degradation.levels import LEVELS, Level, named
from regrow.errors import SettingsError


class Kind(StrEnum):
    """What a request is for, from what is given up last to what is given up first."""

    STATUS = "status"
    SIGN_IN = "sign_in"
    VIEW = "view"
    READ = "read"
    CORE = "core"
    EXTRA = "extra"


Permits = Mapping[str, tuple[str, ...]]

PERMITS: Permits = {
    Level.NORMAL: tuple(Kind),
    Level.MINOR: (Kind.STATUS, Kind.SIGN_IN, Kind.VIEW, Kind.READ, Kind.CORE),
    Level.MODERATE: (Kind.STATUS, Kind.SIGN_IN, Kind.VIEW, Kind.READ),
    Level.SEVERE: (Kind.STATUS, Kind.SIGN_IN, Kind.VIEW),
    Level.CRITICAL: (Kind.STATUS,),
}
"""normal: all; minor: core features; moderate: reading; severe: signing in and viewing; critical: status."""

PATHS: Mapping[str, str] = {
    "/health": Kind.STATUS,
    "/status": Kind.STATUS,
    "/metrics": Kind.STATUS,
    "/login": Kind.SIGN_IN,
    "/logout": Kind.SIGN_IN,
    "/sign-in": Kind.SIGN_IN,
    "/sign-out": Kind.SIGN_IN,
    "/static": Kind.VIEW,
}

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class PathKinds:
    """Path prefixes and their kinds; the longest prefix wins, one with a method before one without.

    ``"/export": "extra"``; ``"POST /search": "read"``. Anything else reads (GET, HEAD, OPTIONS) or is core.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        told = [(*_divided(path), kind_named(kind, path)) for path, kind in paths.items()]
        self._rules = sorted(told, key=lambda rule: (len(rule[1]), rule[0] is not None), reverse=True)

    def of(self, method: str, path: str) -> Kind:
        for only, prefix, kind in self._rules:
            if (only is None or only == method) and (path == prefix or path.startswith(prefix + "/")):
                return kind
        return Kind.READ if method in SAFE else Kind.CORE


def kind_named(name: str, place: str) -> Kind:
    """The kind of this name; SettingsError, which names ``place``, when there is none."""
    try:
        return Kind(name)
    except ValueError:
        raise SettingsError(f"{place}: {name!r} is no kind of request; they are {', '.join(Kind)}") from None


def worst_that_permits(kind: str, permits: Permits) -> Level | None:
    """The worst level up to which ``kind`` is served without a break; None when not even at normal."""
    found = None
    for level in LEVELS:
        if kind not in permits.get(level, ()):
            break
        found = level
    return found


def checked(permits: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """The table with every level in it. SettingsError for a level or a kind that there is not."""
    told = {
        named(level): tuple(kind_named(kind, level) for kind in kinds) for level, kinds in permits.items()
    }
    return {level: tuple(told.get(level, PERMITS[level])) for level in LEVELS}


def _divided(path: str) -> tuple[str | None, str]:
    method, space, rest = path.partition(" ")
    if not space:
        method, rest = "", path
    if not rest.startswith("/"):
        raise SettingsError(f"path {path!r}: begin it with a slash, as requests do")
    return method.upper() or None, rest.rstrip("/")
