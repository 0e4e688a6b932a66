"""The checks that ship with Regrow, by its own defaults, and how to do without them."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from importlib.resources import files

CHECKS: tuple[str, ...] = tuple(
    tomllib.loads(files("regrow").joinpath("defaults.toml").read_text("utf-8"))["health"]["checks"]
)


def switched_off(but: Collection[str] = ()) -> str:
    """Lines of a ``regrow.toml`` that switch all of them off but these."""
    return "".join(f"[health.checks.{name}]\nenabled = false\n" for name in CHECKS if name not in but)
