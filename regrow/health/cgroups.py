"""What this process's control group (version 1 or 2) limits and uses: a container's own memory and CPU.

psutil reads the host, which in a container is somebody else's machine. Groups are nested and a limit of any
ancestor binds, so that all of them are read. Everything is read from the two paths given, for tests and for
unusual mounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

# Version 1 writes "no limit" as a number near 2**63.
_UNLIMITED = 1 << 60


@dataclass(frozen=True)
class Memory:
    """Bytes. ``used`` leaves out file pages that the kernel drops at need, as ``docker stats`` does."""

    used: int
    limit: int
    source: str


@dataclass(frozen=True)
class Cpu:
    """``used``: seconds of CPU since the group began; ``cores``: how many it may use at once."""

    used: float
    cores: float
    source: str


def memory(root: Path = ROOT, membership: Path = MEMBERSHIP) -> Memory | None:
    """The group nearest to its memory limit among ours and those above it; None without any limit."""
    found = [
        *(_memory_v2(folder) for folder in _folders(root, "", membership)),
        *(_memory_v1(folder) for folder in _folders(root, "memory", membership)),
    ]
    limited = [group for group in found if group is not None]
    return max(limited, key=lambda group: group.used / group.limit, default=None)


def cpu(root: Path = ROOT, membership: Path = MEMBERSHIP) -> Cpu | None:
    """The tightest CPU quota among our group and those above it; None without any."""
    found = [
        *(_cpu_v2(folder) for folder in _folders(root, "", membership)),
        *(_cpu_v1(folder, root, membership) for folder in _folders(root, "cpu", membership)),
    ]
    return min((group for group in found if group is not None), key=lambda group: group.cores, default=None)


def _folders(root: Path, controller: str, membership: Path) -> Iterator[Path]:
    """Our group's folder and all above it. ``controller`` is empty for version 2.

    A container that keeps the host's view of its path has its own group mounted as the root; the folders
    that its path names do not exist there, and only the root is left.
    """
    base = root / _mounted(root, controller) if controller else root
    if not base.is_dir():
        return
    inside = Path(_path_of(controller, membership).lstrip("/"))
    if ".." in inside.parts:
        inside = Path()
    for part in (inside, *inside.parents):
        folder = base / part
        if folder.is_dir():
            yield folder


def _mounted(root: Path, controller: str) -> str:
    """Version 1 may mount controllers together: ``cpu,cpuacct``."""
    if (root / controller).is_dir():
        return controller
    joined = (folder.name for folder in root.glob("*,*") if controller in folder.name.split(","))
    return next(joined, controller)


def _path_of(controller: str, membership: Path) -> str:
    """Our path below the controller, from lines like ``4:memory:/a/b`` (version 2: ``0::/a/b``)."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "")
        if path and controller in controllers.split(","):
            return path
    return ""


def _memory_v2(folder: Path) -> Memory | None:
    limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
    if limit is None or used is None or not 0 < limit < _UNLIMITED:
        return None
    spare = _field(folder / "memory.stat", "inactive_file")
    return Memory(max(0, used - spare), limit, "cgroup v2")


def _memory_v1(folder: Path) -> Memory | None:
    limit, used = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
    if limit is None or used is None or not 0 < limit < _UNLIMITED:
        return None
    spare = _field(folder / "memory.stat", "total_inactive_file")
    return Memory(max(0, used - spare), limit, "cgroup v1")


def _cpu_v2(folder: Path) -> Cpu | None:
    quota, period = _pair(folder / "cpu.max")
    if quota is None or not period:
        return None
    used = _field(folder / "cpu.stat", "usage_usec") / 1e6
    return Cpu(used, quota / period, "cgroup v2")


def _cpu_v1(folder: Path, root: Path, membership: Path) -> Cpu | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    if quota is None or quota <= 0 or not period:
        return None
    for place in (folder, *_folders(root, "cpuacct", membership)):
        used = _number(place / "cpuacct.usage")
        if used is not None:
            return Cpu(used / 1e9, quota / period, "cgroup v1")
    return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None  # not there, or "max"


def _pair(path: Path) -> tuple[int | None, int | None]:
    try:
        first, second = path.read_text(encoding="ascii").split()
        return int(first), int(second)
    except (OSError, ValueError):
        return None, None


def _field(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
