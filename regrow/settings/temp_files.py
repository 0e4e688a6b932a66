"""Which folders are cleaned of temporary files, and within what bounds."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from regrow.settings.checks.common import Seconds
from regrow.settings.shapes import Positive, Section


class TempFileRoot(Section):
    """One folder that may be cleaned. Nothing outside it is ever touched."""

    path: Path
    """The folder."""
    max_age: Seconds
    """Files not changed for so long are removed."""
    max_bytes: Positive | None = None
    """When the folder holds more than this, the oldest files go until it fits."""
    max_files: Positive | None = None
    """The same for the number of files."""
    min_free: Positive | None = None
    """When its file system has fewer bytes left than this, the oldest files go until it has."""
    ages: dict[str, Seconds] = Field(default_factory=dict)
    """Another `max_age` for names like these; the first that matches."""
    patterns: tuple[str, ...] = ("*",)
    """Names that may be removed."""
    keep: tuple[str, ...] = ()
    """Names that are kept whatever their age."""


class TempFilesSettings(Section):
    roots: tuple[TempFileRoot, ...]
    """Folders that may be cleaned, each a [[temp_files.roots]] table; see below."""
    dry_run: bool
    """Count what would go and remove nothing."""

    @field_validator("roots")
    @classmethod
    def _sane(cls, roots: tuple[TempFileRoot, ...]) -> tuple[TempFileRoot, ...]:
        for root in roots:
            if root.path.resolve() == Path(root.path.resolve().anchor):
                msg = f"{root.path} is the root of the file system"
                raise ValueError(msg)
        return roots
