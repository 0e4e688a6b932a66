"""Checks that are programs of yours: a command, a Python function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from regrow.settings.checks.common import Check
from regrow.settings.shapes import Function

Found = Literal["healthy", "degraded", "unhealthy", "unknown"]


class CommandCheck(Check):
    """A program that is run, without a shell; its exit code is the verdict."""

    kind: Literal["command"]
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its arguments, each a text of its own. No shell reads them."""
    folder: Path | None = None
    """The folder it runs in; None: the worker's own."""
    env: dict[str, SecretStr] = Field(default_factory=dict)
    """Its environment beside PATH, HOME, LANG and TZ: nothing else of the worker's own reaches it."""
    exit_codes: dict[int, Found] = Field(default_factory=dict)
    """What exit codes mean, by number. Without a word of yours 0 is healthy and any other unhealthy."""


class PythonCheck(Check):
    """A function of yours that the worker can import."""

    kind: Literal["python"]
    function: Function
    """`package.module:function`, plain or a coroutine function; see health.md for what it returns."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Handed to it by name."""
