"""Memory: of this container when its control group has a limit, of the host when it has none."""

from __future__ import annotations

from pathlib import Path

from regrow.health import cgroups
from regrow.health.rules import Finding, finding, judge
from regrow.settings import Settings
from regrow.settings.checks import MemoryCheck


def probe(check: MemoryCheck, settings: Settings) -> Finding:
    del settings
    return verdict(check, measured())


def measured(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> cgroups.Memory:
    """Memory in use and its limit; a limit above what the host has is none."""
    import psutil

    host = psutil.virtual_memory()
    limited = cgroups.memory(root, membership)
    if limited is not None and limited.limit < host.total:
        return limited
    return cgroups.Memory(host.total - host.available, host.total, "host")


def verdict(check: MemoryCheck, memory: cgroups.Memory) -> Finding:
    percent = 100 * memory.used / memory.limit
    return finding(
        judge(percent, check.warning, check.critical),
        f"{percent:.0f}% of {memory.limit / 2**20:.0f} MiB in use ({memory.source})",
        percent=round(percent, 1),
        used_bytes=memory.used,
        limit_bytes=memory.limit,
        source=memory.source,
    )
