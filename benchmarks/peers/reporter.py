"""A process of its own that makes the hourly report and asks how objectives stand; prints what that took."""

from __future__ import annotations

import json
import resource
import sys
import time
from datetime import datetime

import regrow.dead_letters.service  # noqa: F401 - a worker has it loaded long before it makes a report
from regrow.engine import Engine
from regrow.reports import service as reports
from regrow.settings import load_settings
from regrow.slo import service as slo


def main() -> None:
    told = json.load(sys.stdin)
    now = datetime.fromisoformat(told["now"])
    engine = Engine(load_settings(environ=told["environ"]), clock=lambda: now)
    engine.database.ping()
    found = {}
    began = time.monotonic()
    report = reports.generate(engine, until=now.replace(minute=0, second=0), kind=f"bench-{began}")
    found["report_seconds"] = time.monotonic() - began
    assert "without downtime" in report.headline, report.headline
    began = time.monotonic()
    standings = slo.standing(engine, now)
    found["standing_seconds"] = time.monotonic() - began
    assert sum(one.met is not None for one in standings) >= len(standings) - 9
    began = time.monotonic()
    slo.burning(engine, now)
    found["burning_seconds"] = time.monotonic() - began
    found["mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
