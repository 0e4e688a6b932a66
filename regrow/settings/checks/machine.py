"""Checks of the machine or the container that Regrow's worker runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from regrow.settings.checks.common import Check, Pattern, Percent, PercentCheck, Seconds, ordered

Bytes = Annotated[int, Field(ge=0)]


class DiskCheck(PercentCheck):
    kind: Literal["disk"]
    path: str = "."
    """Any place on the file system to look at."""
    warning: Percent = 80
    critical: Percent = 90


class MemoryCheck(PercentCheck):
    kind: Literal["memory"]
    warning: Percent = 80
    critical: Percent = 90


class CpuCheck(PercentCheck):
    kind: Literal["cpu"]
    warning: Percent = 70
    critical: Percent = 90


class LoadCheck(Check):
    """The load average, divided by the cores there are."""

    kind: Literal["load"]
    minutes: Literal[1, 5, 15] = 5
    """The average over so many minutes."""
    warning: Annotated[float, Field(gt=0)] = 1.5
    """Load per core from which it is degraded."""
    critical: Annotated[float, Field(gt=0)] = 3.0
    """Load per core from which it is unhealthy."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.warning, self.critical)
        return self


class TempFilesCheck(Check):
    """Bytes in all files under ``temp_files.roots``."""

    kind: Literal["temp_files"]
    warning_bytes: Bytes = 500_000_000
    """From this size on it is degraded."""
    critical_bytes: Bytes | None = None
    """From this size on it is unhealthy."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.warning_bytes, self.critical_bytes, "warning_bytes critical_bytes")
        return self


class ProcessCheck(Check):
    """Processes on this machine that are found by a pid file, their name or their command line."""

    kind: Literal["process"]
    pidfile: Path | None = None
    """A file with the number of one process."""
    name: Pattern | None = None
    """A regular expression that is found in the program's name."""
    cmdline: Pattern | None = None
    """A regular expression that is found in the command line (words joined by blanks). With `name`: both."""
    at_least: Annotated[int, Field(ge=0)] = 1
    """Fewer of them are unhealthy."""
    at_most: Annotated[int, Field(ge=0)] | None = None
    """More of them are unhealthy."""
    memory_warning: Bytes | None = None
    """Memory of all of them together (resident) from which it is degraded."""
    memory_critical: Bytes | None = None
    """Memory of all of them together from which it is unhealthy."""
    min_age: Seconds | None = None
    """One that has run for a shorter time is degraded: it was started again lately."""
    max_age: Seconds | None = None
    """One that has run for longer is degraded."""

    @model_validator(mode="after")
    def _found_somehow(self) -> Self:
        if (self.pidfile is None) == (self.name is None and self.cmdline is None):
            msg = "say how it is found: by pidfile, or by name, cmdline or both"
            raise ValueError(msg)
        ordered(self.at_least, self.at_most, "at_least at_most")
        ordered(self.memory_warning, self.memory_critical, "memory_warning memory_critical")
        ordered(self.min_age, self.max_age, "min_age max_age")
        return self
