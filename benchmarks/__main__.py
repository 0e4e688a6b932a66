"""``python -m benchmarks [NAME...]``: measure, print REACH lines, keep the figures in ``benchmarks/results``.

Exits 0 whenever it could measure, short or met; 2 when a name does not exist.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import sys
import time
from pathlib import Path

import benchmarks
from benchmarks.reach import Reach

RESULTS = Path(__file__).parent / "results"
_OURS = {"__main__", "reach"}


def main(names: list[str]) -> int:
    known = sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name not in _OURS and not module.ispkg
    )
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no measurement named {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    reached = [reach for name in names or known for reach in measure(name)]
    print()
    for reach in reached:
        print(reach.line())
    return 0


def measure(name: str) -> list[Reach]:
    """Run one measurement and keep what it found."""
    module = importlib.import_module(f"benchmarks.{name}")
    print(f"{name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
    began = time.time()
    found: list[Reach] = module.measure()
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "name": name,
        "at": round(began, 1),
        "seconds": round(time.time() - began, 1),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "figures": [{**vars(reach), "met": reach.met} for reach in found],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
