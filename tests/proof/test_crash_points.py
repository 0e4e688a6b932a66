"""A tenth of ``make proof``: a hundred kills at chosen points, and that the harness finds a defect when there is one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import RedisServer, child_options

# At rest about half a minute; a machine that is busy with other things may take its time.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]


def crash_points(mysql_url: str, redis: RedisServer, *more: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, because it forks, and makes the worker's app."""
    command = [sys.executable, "-m", "tests.proof.crash_points", "--broker", "redis", "--seed", "1"]
    return subprocess.run(
        [*command, "--database", mysql_url, "--live", redis.url, *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
        **child_options(),
    )


def proof_line(said: str) -> dict[str, int]:
    (line,) = re.findall(r"^PROOF crash-points-redis (.*)$", said, re.MULTILINE)
    return {name: int(value) for name, value in (pair.split("=") for pair in line.split())}


def test_a_hundred_deaths_at_chosen_points_lose_nothing_and_settle_nothing_twice(
    mysql_url: str, own_redis: RedisServer
) -> None:
    done = crash_points(mysql_url, own_redis, "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    counted = proof_line(done.stdout)
    assert counted["kills"] >= 100
    assert counted["accepted"] == counted["settled"] > 100
    assert counted["lost"] == counted["twice"] == 0


def test_acknowledging_before_the_commit_is_found_out(mysql_url: str, own_redis: RedisServer) -> None:
    done = crash_points(mysql_url, own_redis, "--defect", "ack first")
    assert done.returncode == 1, done.stdout + done.stderr
    assert proof_line(done.stdout)["lost"] > 0
