"""Fifty services fail at once, and the workers of a fleet, each a process, go by one budget."""

from __future__ import annotations

import multiprocessing
import os
from datetime import timedelta
from pathlib import Path

import pytest

from regrow.clock import utc_now
from regrow.engine import Engine
from regrow.recovery import service
from regrow.settings import load_settings
from tests.recovery.conftest import Backend, trip
from tests.recovery.storming import work
from tests.waiting import eventually

WORKERS, CONCURRENCY, PER_MINUTE = 4, 2, 8

HANDLER = """
[recovery.services.s{number:02}]
kind = "command"
argv = ["sh", "-c", "echo begun $PPID >> {marks}; sleep 0.3; echo ended >> {marks}; exit 1"]
test = "all"
settle = 0
"""


@pytest.mark.slow
def test_a_storm_over_four_workers_stays_inside_the_budget_of_the_fleet(
    tmp_path: Path, redis_url: str, mysql_url: str, backend: Backend
) -> None:
    backend.well = False
    marks, file = tmp_path / "marks", tmp_path / "regrow.toml"
    check = f'[health.checks.all]\nkind = "http"\nurl = "{backend.url}"\nenabled = false\n'
    file.write_text(check + "".join(HANDLER.format(number=number, marks=marks) for number in range(50)))
    environ = {
        "PATH": os.environ["PATH"],
        "REGROW_PROFILE": "development",
        "REGROW_HOME": str(tmp_path / "home"),
        "REGROW_REDIS_URL": redis_url,
        "REGROW_DATABASE_URL": mysql_url,
        "REGROW_RECOVERY__CONCURRENCY": str(CONCURRENCY),
        "REGROW_RECOVERY__PER_MINUTE": str(PER_MINUTE),
        "REGROW_CELERY__CONCURRENCY": "4",
        "RECOVERY_INTERVAL": "600",
    }
    engine = Engine(load_settings(file, environ=environ))
    engine.database.upgrade()
    began = utc_now()
    for number in range(50):
        trip(engine, f"s{number:02}")

    def ended() -> int:
        return sum(row.outcome is not None for row in service.history(engine, limit=100))

    spawn = multiprocessing.get_context("spawn")
    start, enough = spawn.Barrier(WORKERS), spawn.Event()
    workers = [spawn.Process(target=work, args=(file, environ, start, enough)) for _ in range(WORKERS)]
    try:
        for worker in workers:
            worker.start()
        eventually(lambda: ended() >= PER_MINUTE, 120, every=0.3, what="the minute's attempts are made")
        enough.set()
        for worker in workers:
            worker.join(120)
        assert [worker.exitcode for worker in workers] == [0] * WORKERS
    finally:
        for worker in workers:
            worker.kill()
    rows = service.history(engine, limit=100)
    assert {row.outcome for row in rows} == {"failed"}
    assert len({row.service for row in rows}) == len(rows), "each waits ten minutes before its second attempt"
    for row in rows:
        lately = [
            one for one in rows if row.started_at - timedelta(seconds=60) < one.started_at <= row.started_at
        ]
        assert len(lately) <= PER_MINUTE
    owners = {row.owner for row in rows}
    at_once, most = 0, 0
    for mark in marks.read_text().splitlines():
        at_once += 1 if mark.startswith("begun") else -1
        most = max(most, at_once)
    print(f"{len(rows)} attempts by {len(owners)} of {WORKERS} workers, at most {most} at once")
    assert 1 <= most <= CONCURRENCY
    assert [one.event for one in service.events(engine, began - timedelta(hours=1))].count("storm") == 1
    engine.close()
