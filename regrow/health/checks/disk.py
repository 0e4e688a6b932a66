"""Disk: the fuller of bytes and inodes on the file system that holds a path."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from regrow.health.rules import Finding, finding, judge
from regrow.settings import Settings
from regrow.settings.checks import DiskCheck


@dataclass(frozen=True)
class Space:
    """Of one file system, as a user without privileges has it: bytes, and numbers of inodes."""

    total: int
    used: int
    free: int
    inodes: int = 0
    free_inodes: int = 0

    @property
    def percent(self) -> float:
        """As ``df`` counts: what root alone may use is not there. A file system without size is full."""
        return 100 * self.used / (self.used + self.free) if self.used + self.free else 100.0

    @property
    def inodes_percent(self) -> float:
        """0 on file systems that make inodes as they need them."""
        return 100 * (self.inodes - self.free_inodes) / self.inodes if self.inodes else 0.0


def probe(check: DiskCheck, settings: Settings) -> Finding:
    del settings
    path = Path(check.path).absolute()
    try:
        told = os.statvfs(path)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise
        return finding("unhealthy", f"{path}: {error.strerror}", path=str(path))
    block = told.f_frsize
    space = Space(
        total=told.f_blocks * block,
        used=(told.f_blocks - told.f_bfree) * block,
        free=told.f_bavail * block,
        inodes=told.f_files,
        free_inodes=told.f_favail,
    )
    return verdict(check, str(path), space)


def verdict(check: DiskCheck, path: str, space: Space) -> Finding:
    fuller = max(space.percent, space.inodes_percent)
    what = "inodes" if space.inodes_percent > space.percent else f"{space.total / 2**30:.1f} GiB"
    return finding(
        judge(fuller, check.warning, check.critical),
        f"{fuller:.0f}% of {what} in use at {path}",
        path=path,
        percent=round(space.percent, 1),
        inodes_percent=round(space.inodes_percent, 1),
        total_bytes=space.total,
        used_bytes=space.used,
        free_bytes=space.free,
    )
