"""One contender of the health measurement, in a process of its own: sweeps twice, tells of the second time.

``python -m benchmarks.peers.sweeps NAME JSON``; prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def main(name: str, told: dict) -> dict:
    sweep = {"bare": bare, "ours": ours, "requests": sequential}[name](told)
    if name != "requests":
        sweep()  # connections, caches, imports
    cpu, began = time.process_time(), time.monotonic()
    found = sweep()
    return {
        "wall": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **found,
    }


def bare(told: dict) -> Callable[[], dict]:
    """The floor: an asyncio loop that asks all at once and does nothing with the answers."""
    import httpx

    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(
        timeout=told["timeout"], limits=httpx.Limits(max_connections=None, max_keepalive_connections=16)
    )
    began = 0.0

    async def one(url: str) -> tuple[bool, float, float]:
        at = time.monotonic()
        try:
            ok = (await client.get(url)).status_code == 200
        except httpx.TimeoutException:
            ok = False
        return ok, time.monotonic() - at, time.monotonic() - began

    async def everyone() -> list[tuple[bool, float, float]]:
        return await asyncio.gather(*(one(url) for url in told["urls"]))

    def sweep() -> dict:
        nonlocal began
        began = time.monotonic()
        done = [answer for answer in loop.run_until_complete(everyone()) if answer[0]]
        return {
            "healthy": len(done),
            "slowest_healthy": max(took for _, took, _ in done),
            "last_healthy": max(at for _, _, at in done),
        }

    return sweep


def ours(told: dict) -> Callable[[], dict]:
    """What the tick's task does: claims, probes, results and states into Redis and MariaDB, counters."""
    from regrow.engine import Engine
    from regrow.health import service
    from regrow.health.reading import last_results
    from regrow.settings import load_settings

    home = Path(told["home"])
    checks = "".join(
        f'[health.checks.c{number}]\nkind = "http"\nurl = "{url}"\ntimeout = {told["timeout"]}\n'
        for number, url in enumerate(told["urls"])
    )
    (home / "regrow.toml").write_text(checks + told["off"])
    environ = {
        "REGROW_PROFILE": "testing",
        "REGROW_HOME": str(home),
        "REGROW_REDIS_URL": told["redis"],
        "REGROW_DATABASE_URL": told["database"],
    }
    engine = Engine(load_settings(home / "regrow.toml", environ=environ))
    engine.database.upgrade()

    def sweep() -> dict:
        began = engine.clock()
        summary = service.run_due(engine, force=True)
        done = [r for r in last_results(engine, ()).values() if r.status == "healthy"]
        return {
            "healthy": summary["healthy"],
            "slowest_healthy": max(result.latency for result in done),
            "last_healthy": max((result.at - began).total_seconds() + result.latency for result in done),
        }

    return sweep


def sequential(told: dict) -> Callable[[], dict]:
    """One after the other, each waiting for the one before, as scripts do it; a part of the checks alone."""
    import requests

    session = requests.Session()

    def sweep() -> dict:
        healthy, slowest, began = 0, 0.0, time.monotonic()
        for url in told["urls"]:
            at = time.monotonic()
            try:
                healthy += session.get(url, timeout=told["timeout"]).status_code == 200
                slowest = max(slowest, time.monotonic() - at)
            except requests.Timeout:
                continue
        return {
            "healthy": healthy,
            "slowest_healthy": slowest,
            "last_healthy": time.monotonic() - began,
        }

    return sweep


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore"
    print(json.dumps(main(sys.argv[1], json.loads(sys.stdin.read()))))
