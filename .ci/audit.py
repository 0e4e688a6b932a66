"""Are there known vulnerabilities in what we pin? Run by ``make check``.

A finding fails. A service that cannot be reached, or that knows nothing of our packages, is said and passes:
a machine behind a mirror must be able to check everything else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json"),
    *("--timeout", "15", "--progress-spinner", "off", "--requirement", "requirements/dev.txt"),
)


def main() -> int:
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, LookupError):
        last = done.stderr.strip().rsplit("\n", 1)[-1]
        print(f"pip-audit: NOT CHECKED, the vulnerability service did not answer: {last}")
        return 0
    findings = [(package, found) for package in packages for found in package.get("vulns", ())]
    for package, found in findings:
        fixed = ", ".join(found["fix_versions"]) or "nothing yet"
        print(f"pip-audit: {package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
    checked = sum("skip_reason" not in package for package in packages)
    print(f"pip-audit: {checked} of {len(packages)} packages checked, {len(findings)} vulnerabilities known")
    if checked < len(packages):
        print("pip-audit: NOT CHECKED the others, the service does not know them")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
