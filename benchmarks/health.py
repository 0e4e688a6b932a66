"""1,000 HTTP checks swept, 5% of them hanging, beside a bare httpx loop (the floor) and a requests loop.

``REGROW_BENCH_REPETITIONS`` for more or fewer than 5 rounds. The services answer in 10 ms and live in a process of
their own, each contender in another. The requests loop asks 50 of the checks, and is scaled.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.reach import Reach
from tests.servers import MariaServer, RedisServer, child_options
from tests.shipped import switched_off

ROOT = Path(__file__).resolve().parent.parent
CHECKS, HANGING_EACH, TIMEOUT, PART = 1_000, 20, 5.0, 20
REPETITIONS = int(os.environ.get("REGROW_BENCH_REPETITIONS", "5"))
SHOWN = ("healthy", "wall", "cpu", "mebibytes", "slowest_healthy", "last_healthy")


def measure() -> list[Reach]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(contextlib.closing(RedisServer().start()))
        maria = stack.enter_context(contextlib.closing(MariaServer().install().start()))
        home = stack.enter_context(tempfile.TemporaryDirectory())
        _create_database(maria)
        services = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.services"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **child_options(),
        )
        stack.callback(services.wait)
        stack.callback(services.stdin.close)
        port = int(services.stdout.readline())
        told = {"timeout": TIMEOUT, "redis": redis.url, "database": maria.url("regrow"), "home": home}
        told["off"] = switched_off()
        some_hang = told | {"urls": _urls(port, hanging=True)}
        all_answer = told | {"urls": _urls(port, hanging=False)}
        runs = {
            "bare httpx loop": ("bare", some_hang),
            "ours": ("ours", some_hang),
            "bare httpx loop, all answer": ("bare", all_answer),
            "ours, all answer": ("ours", all_answer),
            "requests, one by one": ("requests", some_hang | {"urls": some_hang["urls"][: CHECKS // PART]}),
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
        for _ in range(REPETITIONS):
            for name, (contender, given) in runs.items():
                found[name].append(_run(contender, given))
                print(f"  {name}: {_line(found[name][-1])}", flush=True)
    medians = {
        name: {key: statistics.median(one[key] for one in each) for key in each[0]}
        for name, each in found.items()
    }
    return _told(medians)


def _urls(port: int, *, hanging: bool) -> list[str]:
    """Every twentieth hangs, spread over all of them; each check asks for a path of its own."""
    return [
        f"http://127.0.0.1:{port}/{'hang' if hanging and number % HANGING_EACH == 10 else 'ok'}/{number}"
        for number in range(CHECKS)
    ]


def _run(contender: str, told: dict) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.sweeps", contender],
        cwd=ROOT,
        input=json.dumps(told),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
        **child_options(),
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if contender == "requests":
        found |= {key: found[key] * PART for key in ("wall", "cpu", "last_healthy", "healthy")}
    return found


def _create_database(maria: MariaServer) -> None:
    import pymysql

    with contextlib.closing(pymysql.connect(host="127.0.0.1", port=maria.port, user="root")) as connection:
        connection.cursor().execute("CREATE DATABASE regrow")


def _told(medians: dict[str, dict[str, float]]) -> list[Reach]:
    print(f"\nmedians of {REPETITIONS} rounds that took turns; {CHECKS} checks, timeout {TIMEOUT:g} s\n")
    print(
        f"  {'':30}{'wall s':>9}{'CPU s':>8}{'MiB':>7}{'healthy':>9}{'slowest healthy s':>19}{'last healthy s':>16}"
    )
    for name, found in medians.items():
        print(
            f"  {name:30}{found['wall']:9.2f}{found['cpu']:8.2f}{found['mebibytes']:7.0f}{found['healthy']:9.0f}"
            f"{found['slowest_healthy']:19.3f}{found['last_healthy']:16.2f}"
        )
    print("  requests: 50 of the checks, times 20 (but for memory and the slowest)")
    ours, floor = medians["ours"], medians["bare httpx loop"]
    quick, quick_floor = medians["ours, all answer"], medians["bare httpx loop, all answer"]
    return [
        Reach("health_sweep_times_bare_loop", ours["wall"] / floor["wall"], "<=", 1.5),
        Reach("health_sweep_all_answer_times_bare_loop", quick["wall"] / quick_floor["wall"], "<=", 1.5),
        Reach("health_sweep_seconds", ours["wall"], "<=", 1.5 * floor["wall"]),
        # All that answer were done before the first that hangs was given up, and none waited for one.
        Reach("health_last_healthy_seconds", ours["last_healthy"], "<=", TIMEOUT),
        Reach("health_slowest_healthy_seconds", ours["slowest_healthy"], "<=", TIMEOUT / 4),
        Reach("health_sweep_mebibytes", ours["mebibytes"], "<=", 200),
        Reach(
            "health_requests_loop_times_ours",
            medians["requests, one by one"]["wall"] / ours["wall"],
            ">=",
            10,
        ),
    ]


def _line(found: dict[str, float]) -> str:
    return " ".join(f"{key}={found[key]:.3f}" for key in SHOWN)
