"""Temp files: the bytes in all files under the declared roots, against the thresholds."""

from __future__ import annotations

import time

from regrow.health.rules import Finding, finding, judge
from regrow.settings import Settings
from regrow.settings.checks import TempFilesCheck
from regrow.temp_files import usage


def probe(check: TempFilesCheck, settings: Settings) -> Finding:
    roots = settings.temp_files.roots
    if not roots:
        return finding("healthy", "no roots are declared, so there is nothing to watch", bytes=0, roots=[])
    counted = usage(roots, deadline=time.monotonic() + 0.8 * check.timeout)
    total = sum(root.bytes for root in counted)
    data = {
        "bytes": total,
        "files": sum(root.files for root in counted),
        "roots": [{"path": root.path, "bytes": root.bytes, "files": root.files} for root in counted],
    }
    said = f"{total / 1e6:.0f} MB in {data['files']} files"
    status = judge(total, check.warning_bytes, check.critical_bytes)
    if status != "healthy":
        limit = (
            check.critical_bytes if status == "unhealthy" and check.critical_bytes else check.warning_bytes
        )
        return finding(status, f"{said}, from {limit / 1e6:.0f} MB on it is too much", **data)
    if unfinished := [root.path for root in counted if not root.complete]:
        return finding("unknown", f"{said} so far; not all counted in time: {', '.join(unfinished)}", **data)
    if unread := [f"{root.path}: {root.error}" for root in counted if root.error]:
        return finding("degraded", f"{said}; {'; '.join(unread)}", **data)
    return finding("healthy", said, **data)
