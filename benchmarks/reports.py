"""The hourly report and the 30-day standing of 1,000 checks, keeping and rolling up of results, room on the disk.

``REGROW_BENCH_CHECKS`` (1,000), ``REGROW_BENCH_DAYS`` (30) and ``REGROW_BENCH_RAW`` (50 checks, a week each) for less.
Two databases: one with sums of every check and day, as 86 million results leave them, and the results of its open
hours, which goes on for some minutes as it would: sweeps of all checks, each minute rolled up; the other with
every result of a week, kept as the sweep keeps them and rolled up as the job does it after an outage. Beside that
stands what the driver alone takes to insert such rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pymysql
import sqlalchemy as sa

from benchmarks.reach import Reach
from regrow.engine import Engine
from regrow.health import keeping
from regrow.health.reading import graph_of
from regrow.health.rules import Result
from regrow.health.store import insert_results
from regrow.latency_buckets import bucket_of
from regrow.settings import load_settings
from regrow.slo import rolling, store
from regrow.slo.ledger import Ledger, Span, State
from regrow.slo.rolled import DAY, HOUR, MINUTE, Rolled
from tests.servers import MariaServer, RedisServer, child_options

ROOT = Path(__file__).resolve().parent.parent
CHECKS = int(os.environ.get("REGROW_BENCH_CHECKS", "1000"))
DAYS = int(os.environ.get("REGROW_BENCH_DAYS", "30"))
RAW_CHECKS = int(os.environ.get("REGROW_BENCH_RAW", "50"))
RAW_DAYS = int(os.environ.get("REGROW_BENCH_RAW_DAYS", "7"))
REPETITIONS = int(os.environ.get("REGROW_BENCH_REPETITIONS", "5"))
INTERVAL = 30.0
BATCH = 1_000
NOW = datetime(2026, 6, 30, 12, 0, 20, tzinfo=UTC)
"""Just after a full hour, when the report is made and that hour is not closed yet."""
ROWS_A_MONTH = {
    "check_results": 3 * 2_880,
    "rollups_minute": 7 * 1_440,
    "rollups_hour": 720,
    "rollups_day": 30,
    "state_spans": None,  # as many as there are
}


def measure() -> list[Reach]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(contextlib.closing(RedisServer().start()))
        maria = stack.enter_context(contextlib.closing(MariaServer().install().start()))
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _create(maria, "many", "week")
        reported = _reported(_told(home, "many", CHECKS, redis.url, maria.url("many")))
        minute = _minutes(_told(home, "many", CHECKS, redis.url, maria.url("many")))
        kept, rolled, bare, disk = _week(_told(home, "week", RAW_CHECKS, redis.url, maria.url("week")))
    print(f"\nmedians of {REPETITIONS} runs; {CHECKS} checks over {DAYS} days, every {INTERVAL:g} s\n")
    for name, value in reported.items():
        print(f"  {name:34}{value:10.3f}")
    print(f"  a result kept costs {bare / kept:.1f} times what the driver alone takes to insert its row")
    return [
        Reach("reports_hourly_seconds", reported["report_seconds"], "<=", 2.0),
        Reach("reports_hourly_mebibytes", reported["mebibytes"], "<=", 200),
        Reach("reports_standing_30_days_seconds", reported["standing_seconds"], "<=", 2.0),
        Reach("reports_burning_seconds", reported["burning_seconds"], "<=", 2.0),
        Reach("reports_kept_results_per_second", kept, ">=", 5_000),
        Reach("reports_kept_in_sweeps_of_all_per_second", minute["kept"], ">=", 5_000),
        Reach("reports_rolled_up_a_minute_of_all_seconds", minute["rolled_seconds"], "<=", 30),
        Reach("reports_rolled_up_results_per_second", rolled, ">=", 5_000),
        Reach("reports_kept_and_rolled_per_second", 1 / (1 / kept + 1 / rolled), ">=", 5_000),
        Reach("reports_mebibytes_per_check_and_month", disk, "<=", 10),
    ]


def _told(home: Path, name: str, checks: int, redis: str, database: str) -> dict[str, str]:
    file = home / f"{name}.toml"
    file.write_text(
        f"[health]\nretention_days = {RAW_DAYS + 1}\n"
        + "".join(
            f"[health.checks.check-{n:04}]\nkind='tcp'\nhost='h'\nport=1\ninterval={INTERVAL:g}\n"
            for n in range(checks)
        )
    )
    return {
        "REGROW_CONFIG": str(file),
        "REGROW_HOME": str(home),
        "REGROW_REDIS_URL": redis,
        "REGROW_DATABASE_URL": database,
        "CELERY_BROKER_URL": redis,
        "REGROW_PROFILE": "production",
    }


def _engine(told: dict[str, str], now: datetime) -> Engine:
    return Engine(load_settings(environ=told), clock=lambda: now)


def _reported(told: dict[str, str]) -> dict[str, float]:
    engine = _engine(told, NOW)
    engine.database.upgrade()
    began = time.monotonic()
    _fill(engine)
    print(f"  filled {CHECKS} checks x {DAYS} days in {time.monotonic() - began:.0f} s", flush=True)
    engine.close()
    found = []
    for _ in range(REPETITIONS):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peers.reporter"],
            cwd=ROOT,
            input=json.dumps({"environ": told, "now": NOW.isoformat()}),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=600,
            **child_options(),
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print("  " + " ".join(f"{name}={value:.3f}" for name, value in found[-1].items()), flush=True)
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def _fill(engine: Engine) -> None:
    """What the roll-up leaves of every check: days and hours, an open hour's minutes, spans, its results."""
    dice = random.Random(6)
    names = _names(CHECKS)
    until = NOW.replace(minute=0, second=0)  # all minutes are made, the last hour is open still
    closed, first = until - HOUR, until.replace(hour=0) - DAYS * DAY
    day = closed.replace(hour=0)
    progress = store.Progress(0, 0, NOW, until, closed)
    store.begin(engine.database, progress)
    for start in range(0, CHECKS, 50):
        some = names[start : start + 50]
        outages = {name: {dice.randrange(DAYS * 24) for _ in range(3)} for name in some}
        hours = {
            name: [
                _row(first + n * HOUR, HOUR, 120, bad=n in outages[name])
                for n in range((closed - first) // HOUR)
            ]
            for name in some
        }
        days = {
            name: [_sum(rows[n * 24 : n * 24 + 24]) for n in range((day - first) // DAY)]
            for name, rows in hours.items()
        }
        minutes = {name: [_row(closed + n * MINUTE, MINUTE, 2) for n in range(60)] for name in some}

        def write(
            connection: sa.Connection, some=some, hours=hours, days=days, minutes=minutes, outages=outages
        ) -> None:
            store.meet(connection, {name: first for name in some})
            store.write_rows(connection, HOUR, hours, first, closed)
            store.write_rows(connection, DAY, days, first, day)
            store.write_rows(connection, MINUTE, minutes, closed, until)
            for number in range(DAYS + 1):
                begins = first + number * DAY
                spans = {
                    name: _spans(begins, min(begins + DAY, closed), number, outages[name]) for name in some
                }
                store.write_spans(connection, spans, begins)

        engine.database.run(write)
        results = [
            _result(name, closed - timedelta(seconds=INTERVAL) + n * timedelta(seconds=INTERVAL))
            for name in some
            for n in range(122)
        ]
        engine.database.run(lambda c, results=results: insert_results(c, results))


def _row(at: datetime, step: timedelta, probes: int, *, bad: bool = False) -> Rolled:
    down = timedelta(seconds=90) if bad else timedelta()
    account = Ledger(up=step - down, down=down, probes=probes, failures=3 if bad else 0)
    return Rolled(at, account, _latency(probes))


def _sum(rows: list[Rolled]) -> Rolled:
    account = sum((row.account for row in rows), Ledger())
    return Rolled(rows[0].at, account, _latency(24 * 120))


def _latency(probes: int) -> dict[int, int]:
    """One of 200 ways in which so many probes may have taken around 50 ms."""
    if probes not in _LATENCIES:
        _LATENCIES[probes] = [
            Counter(bucket_of(_DICE.lognormvariate(-3, 0.4)) for _ in range(probes)) for _ in range(200)
        ]
    return _DICE.choice(_LATENCIES[probes])


_LATENCIES: dict[int, list[Counter[int]]] = {}
_DICE = random.Random(7)


def _spans(begins: datetime, ends: datetime, number: int, outages: set[int]) -> list[Span]:
    found, reached = [], begins
    for hour in sorted(outages):
        at = begins + (hour - number * 24) * HOUR
        if begins <= at < ends:
            found += [Span(reached, at, State.UP)] if reached < at else []
            reached = at + timedelta(seconds=90)
            found.append(Span(at, reached, State.DOWN))
    return [*found, Span(reached, ends, State.UP)] if reached < ends else found


def _result(name: str, at: datetime, status: str = "healthy") -> Result:
    latency = _DICE.lognormvariate(-3, 0.4)
    return Result(name, status, "connected to h:1", latency, at, INTERVAL)  # type: ignore[arg-type]


def _names(checks: int) -> list[str]:
    return [f"check-{n:04}" for n in range(checks)]


def _minutes(told: dict[str, str]) -> dict[str, float]:
    """Minutes as they go by: two sweeps of all checks, and the roll-up; medians."""
    now = NOW
    engine = Engine(load_settings(environ=told), clock=lambda: now)
    graph = graph_of(engine.settings)

    def all_seen(connection: sa.Connection) -> None:
        newest = store.newest_id(connection)
        store.advance(connection, seen_id=newest, next_id=newest)

    engine.database.run(all_seen)
    kept, rolled = [], []
    for minute in range(REPETITIONS + 1):
        begins = NOW.replace(second=0) + minute * MINUTE
        sweeps = [
            [_result(name, begins + timedelta(seconds=second)) for name in _names(CHECKS)]
            for second in (1, 31)
        ]
        began = time.monotonic()
        for sweep in sweeps:
            for first in range(0, CHECKS, BATCH):
                keeping.keep(engine, sweep[first : first + BATCH], graph)
        kept.append(2 * CHECKS / (time.monotonic() - began))
        now = begins + MINUTE + timedelta(seconds=1)
        began = time.monotonic()
        summary = rolling.roll_up(engine)
        rolled.append(time.monotonic() - began)
        assert (summary.minutes, summary.late) == (1, 0), summary
    engine.close()
    # The first is slower: there are no states yet, and nothing is loaded.
    found = {"kept": statistics.median(kept[1:]), "rolled_seconds": statistics.median(rolled[1:])}
    print(
        f"  minutes of {CHECKS} checks: kept {found['kept']:.0f}/s, each rolled up in "
        f"{found['rolled_seconds']:.2f} s",
        flush=True,
    )
    return found


def _bare(told: dict[str, str], results: list[Result]) -> float:
    """Rows a second that the driver inserts into a table of the same shape, in batches of the same size."""
    rows = [
        (one.check, one.at.replace(tzinfo=None), one.status, one.latency, one.interval, one.message, "{}")
        for one in results
    ]
    url = sa.make_url(told["REGROW_DATABASE_URL"])
    into = "INSERT INTO bare (check_name, at, status, latency, `interval`, message, data) VALUES "
    with contextlib.closing(
        pymysql.connect(
            host=url.host,
            port=url.port or 3306,
            user=url.username,
            password=url.password or "",
            database=url.database,
        )
    ) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE bare LIKE check_results")
        began = time.monotonic()
        for first in range(0, len(rows), BATCH):
            cursor.executemany(into + "(%s, %s, %s, %s, %s, %s, %s)", rows[first : first + BATCH])
            connection.commit()
        rate = len(rows) / (time.monotonic() - began)
        cursor.execute("DROP TABLE bare")
    return rate


def _week(told: dict[str, str]) -> tuple[float, float, float, float]:
    """Results a second through the sweep's keeping, through the roll-up and into a bare table; MiB a check
    and month."""
    start = NOW.replace(hour=0, minute=0, second=0) - RAW_DAYS * DAY
    engine = _engine(told, start + RAW_DAYS * DAY + timedelta(minutes=10))
    engine.database.upgrade()
    graph = graph_of(engine.settings)
    results = [
        _result(
            name,
            start + slot * timedelta(seconds=INTERVAL),
            "unhealthy" if slot % 997 < 3 else "healthy",
        )
        for slot in range(int(RAW_DAYS * DAY / timedelta(seconds=INTERVAL)))
        for name in _names(RAW_CHECKS)
    ]
    bare = _bare(told, results[:100_000])
    began = time.monotonic()
    for first in range(0, len(results), BATCH):
        keeping.keep(engine, results[first : first + BATCH], graph)
    kept = len(results) / (time.monotonic() - began)
    began = time.monotonic()
    while not rolling.roll_up(engine).finished:
        pass
    rolled = len(results) / (time.monotonic() - began)
    print(
        f"  {len(results)} results: bare rows {bare:.0f}/s, kept {kept:.0f}/s, rolled up {rolled:.0f}/s",
        flush=True,
    )
    disk = _disk(engine)
    engine.close()
    return kept, rolled, bare, disk


def _disk(engine: Engine) -> float:
    """MiB that a check takes in a month, each table as long as it is kept, by the bytes of its rows here."""
    total = 0.0
    with engine.database.engine.connect() as connection:
        for table, rows in ROWS_A_MONTH.items():
            connection.execute(sa.text(f"ANALYZE TABLE {table}")).all()
            size = connection.execute(
                sa.text(
                    "SELECT data_length + index_length FROM information_schema.tables "
                    "WHERE table_schema = 'week' AND table_name = :name"
                ),
                {"name": table},
            ).scalar_one()
            there = connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar_one() or 1
            rows = rows or there / RAW_CHECKS * 30 / RAW_DAYS
            total += size / there * rows
            print(
                f"  {table:16}{there:10} rows, {size / there:7.0f} bytes each, {rows:7.0f} a check",
                flush=True,
            )
    return total / 2**20


def _create(maria: MariaServer, *names: str) -> None:
    with contextlib.closing(pymysql.connect(host="127.0.0.1", port=maria.port, user="root")) as connection:
        for name in names:
            connection.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
