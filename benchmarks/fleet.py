"""A fleet of 8 processes against a backend that fails: what leaks, when all reject, who probes, who recovers.

Every process makes 100 calls a second. ``REGROW_BENCH_HEALTHY=60`` for a whole healthy minute before the
second failure (5 s by default: the windows are of 100 calls, which is an eighth of a second), and
``REGROW_BENCH_REPETITIONS`` for more or fewer than 3 rounds.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmarks.peers import Missing, Policy, contender
from benchmarks.peers.backend import Arrival, Backend
from benchmarks.reach import Reach
from tests.servers import RedisServer, child_options
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
CALLERS = 8
EVERYONE = frozenset(range(CALLERS))
OPEN_SECONDS = 3.0
WATCHED = 1.9  # seconds after the failure in which calls count as leaked; nobody may probe yet
QUIET = 0.3  # seconds without a call at the end of them: then all reject
PROBE_LATENCY = 0.1  # slow, so that probes of several processes would meet
POLICY = Policy(open_seconds=OPEN_SECONDS)

HEALTHY = float(os.environ.get("REGROW_BENCH_HEALTHY", "5"))
REPETITIONS = int(os.environ.get("REGROW_BENCH_REPETITIONS", "3"))


@dataclass(frozen=True)
class Contest:
    """A contender and the number of hosts its processes are spread over."""

    shown: str
    contender: str
    hosts: int
    policy: Policy = POLICY


OURS = (
    Contest("ours, 8 hosts", "ours", 8),
    Contest("ours, 2 hosts of 4", "ours", 2),
    Contest("ours, one host", "ours", 1),
)
TWO_PROBES = Contest("ours, 2 probes at once", "ours", 8, Policy(open_seconds=OPEN_SECONDS, probes_at_once=2))
PEERS = (
    Contest("pybreaker with Redis", "pybreaker_redis", 8),
    Contest("nopanic-redis", "nopanic_redis", 8),
    Contest("interlock-cb with Redis", "interlock_redis", 8),
)


@dataclass(frozen=True)
class Life:
    """What one fleet did. Calls, and seconds; infinite when it never came to be within the time watched."""

    leaked_cold: float
    leaked_warm: float
    all_reject_cold: float
    all_reject_warm: float
    probes: float
    recovery: float


def measure() -> list[Reach]:
    server = RedisServer().start()
    try:
        contests, missing = _present((*OURS, TWO_PROBES, *PEERS), server)
        lives: dict[Contest, list[Life]] = {contest: [] for contest in contests}
        for _ in range(REPETITIONS):
            for contest in contests:
                lives[contest].append(_live(contest, server))
                print(f"  {contest.shown}: {lives[contest][-1]}", flush=True)
        found = {contest: _median(of) for contest, of in lives.items()}
        lonely = [_one_bad_host(server) for _ in range(REPETITIONS)]
    finally:
        server.close()
    _show(found, missing)
    reached = []
    for contest in OURS:
        life, name = found[contest], f"fleet_{contest.hosts}_hosts"
        reached += [
            Reach(f"{name}_leaked_cold_calls", life.leaked_cold, "<=", 30),
            Reach(f"{name}_leaked_warm_calls", life.leaked_warm, "<=", 30),
            Reach(f"{name}_all_reject_cold_seconds", life.all_reject_cold, "<=", 0.1),
            Reach(f"{name}_all_reject_warm_seconds", life.all_reject_warm, "<=", 0.1),
            Reach(f"{name}_probes_at_once_calls", life.probes, "<=", 1),
        ]
    off = max(abs(life.probes - 2) for life in lives[TWO_PROBES])
    reached.append(Reach("fleet_probes_off_from_two_calls", off, "<=", 0))
    bad = max(other.refused_by_others for other in lonely)
    good = min(other.refused_by_bad for other in lonely)
    reached.append(Reach("fleet_one_bad_host_refused_by_others_calls", bad, "<=", 0))
    reached.append(Reach("fleet_one_bad_host_refused_by_itself_share", good, ">=", 0.8))
    return reached


def _present(contests: Iterable[Contest], server: RedisServer) -> tuple[list[Contest], dict[str, str]]:
    """Those that can be made here; of the others the reason."""
    present, missing = [], {}
    for contest in contests:
        try:
            contender(contest.contender)(server.url, contest.policy).close()
            present.append(contest)
        except Missing as reason:
            missing[contest.shown] = str(reason)
    return present, missing


# One fleet ------------------------------------------------------------------------------------------------


class Fleet:
    """The processes of one contest, their backend, and a Redis that knows nothing yet."""

    def __init__(self, contest: Contest, server: RedisServer) -> None:
        import redis

        self.contest = contest
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        self.backend = Backend()
        self.processes = [self._start(index, server.url) for index in range(CALLERS)]

    def _start(self, index: int, redis_url: str) -> subprocess.Popen[str]:
        told = {
            "index": index,
            "callers": CALLERS,
            "backend": self.backend.port,
            "redis": redis_url,
            "contender": self.contest.contender,
            "policy": asdict(self.contest.policy),
        }
        host = index * self.contest.hosts // CALLERS
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.caller", json.dumps(told)],
            cwd=ROOT,
            env={**os.environ, "REGROW_REPORTER": f"host-{host}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            **child_options(),
        )

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.backend.close()

    def go(self) -> float:
        """Let all begin together; the second at which they do."""
        for process in self.processes:
            line = process.stdout.readline()
            if line != "ready\n":
                raise Missing(f"{self.contest.shown}: a process ended before it was ready")
        began = time.monotonic() + 0.1
        for process in self.processes:
            process.stdin.write(f"{began}\n")
            process.stdin.flush()
        return began

    def stop(self) -> list[list[tuple[float, str]]]:
        """What became of each process's calls."""
        for process in self.processes:
            process.stdin.close()
        told = [json.loads(process.stdout.read()) for process in self.processes]
        for number, kinds in enumerate(one["errors"] for one in told):
            for error, times in kinds.items():
                print(f"  {self.contest.shown}: process {number} got {times} x {error}")
        return [one["calls"] for one in told]

    def fail(self, callers: frozenset[int] = EVERYONE) -> float:
        self.backend.failing = callers
        return time.monotonic()

    def heal(self) -> float:
        self.backend.failing = frozenset()
        return time.monotonic()

    def recovery(self, healed: float) -> float:
        """Seconds until every process has had an answer again."""

        def answered() -> dict[int, float]:
            first: dict[int, float] = {}
            for call in list(self.backend.arrivals):
                if call.ok and call.at >= healed and call.answered < math.inf:
                    first.setdefault(call.caller, call.answered)
            return first

        try:
            eventually(lambda: len(answered()) == CALLERS, 15)
        except AssertionError:
            return math.inf
        return max(answered().values()) - healed


def _live(contest: Contest, server: RedisServer) -> Life:
    with Fleet(contest, server) as fleet:
        successes = contender(contest.contender)(server.url, contest.policy).successes_to_close
        cold = fleet.fail()
        cold = max(cold, fleet.go())
        _wait_until(cold + WATCHED)
        fleet.backend.latency = PROBE_LATENCY
        recovery = fleet.recovery(healed := fleet.heal())
        fleet.backend.latency = 0.005
        time.sleep(HEALTHY)

        warm = fleet.fail()
        _wait_until(warm + WATCHED)
        fleet.backend.latency = PROBE_LATENCY
        _wait_until(warm + OPEN_SECONDS + 1.0)  # a round of probes that fail
        again = fleet.heal()
        fleet.recovery(again)
        fleet.stop()
        calls = fleet.backend.arrivals
        return Life(
            leaked_cold=_leaked(calls, cold),
            leaked_warm=_leaked(calls, warm),
            all_reject_cold=_until_all_reject(calls, cold),
            all_reject_warm=_until_all_reject(calls, warm),
            probes=max(
                _probes(calls, cold, healed, successes),
                _probes(calls, warm, again, successes),
            ),
            recovery=recovery,
        )


def _leaked(calls: list[Arrival], since: float) -> int:
    return sum(not call.ok and since <= call.at < since + WATCHED for call in calls)


def _until_all_reject(calls: list[Arrival], since: float) -> float:
    """From the first failure that a process got to see to the last call let through."""
    leaked = [call for call in calls if not call.ok and since <= call.at < since + WATCHED]
    if not leaked or leaked[-1].at > since + WATCHED - QUIET:
        return math.inf
    return max(0.0, leaked[-1].at - min(call.answered for call in leaked))


def _probes(calls: list[Arrival], failed: float, healed: float, successes: int) -> int:
    """The most calls at the backend at one time, until as many succeeded as close the breaker.

    0 when it never opened: then these are no probes.
    """
    if _until_all_reject(calls, failed) == math.inf:
        return 0
    since = failed + WATCHED
    answered = sorted(call.answered for call in calls if call.ok and call.at >= healed)
    until = answered[successes - 1] if len(answered) >= successes else math.inf
    probes = [call for call in calls if since <= call.at < until]
    edges = sorted([(call.at, 1) for call in probes] + [(call.answered, -1) for call in probes])
    most = now = 0
    for _at, edge in edges:
        now += edge
        most = max(most, now)
    return most


def _wait_until(second: float) -> None:
    time.sleep(max(0.0, second - time.monotonic()))


# One bad host ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BadHost:
    refused_by_others: int
    refused_by_bad: float


def _one_bad_host(server: RedisServer) -> BadHost:
    """Four hosts of two processes; for the two of the first the backend fails: a broken network of its own."""
    bad = frozenset({0, 1})
    with Fleet(Contest("ours, one bad host of 4", "ours", 4), server) as fleet:
        fleet.go()
        time.sleep(1.5)
        failed = fleet.fail(bad)
        _wait_until(failed + WATCHED)
        became = fleet.stop()
    since = [[what for at, what in calls if at >= failed] for calls in became]
    by_bad = [what for number in bad for what in since[number]]
    by_others = [what for number in EVERYONE - bad for what in since[number]]
    return BadHost(by_others.count("refused"), by_bad.count("refused") / max(1, len(by_bad)))


# Telling --------------------------------------------------------------------------------------------------


def _median(lives: list[Life]) -> Life:
    return Life(
        **{
            field.name: (max if field.name == "probes" else statistics.median)(
                [getattr(life, field.name) for life in lives]
            )
            for field in fields(Life)
        }
    )


def _show(found: dict[Contest, Life], missing: dict[str, str]) -> None:
    print(
        f"\nmedians of {REPETITIONS} lives that took turns (of the probes: the most); {CALLERS} processes,"
        f" 100 calls/s each; open for {OPEN_SECONDS:g} s; {HEALTHY:g} s healthy before the warm failure\n"
    )
    print(
        f"  {'':26}{'leaked':>8}{'leaked':>8}{'all reject, ms':>18}{'probes':>8}{'recovery':>10}\n"
        f"  {'':26}{'cold':>8}{'warm':>8}{'cold':>10}{'warm':>8}{'at once':>8}{'s':>10}"
    )
    for contest, life in found.items():
        print(
            f"  {contest.shown:26}{life.leaked_cold:8.0f}{life.leaked_warm:8.0f}"
            f"{_milliseconds(life.all_reject_cold):>10}{_milliseconds(life.all_reject_warm):>8}"
            f"{life.probes:8.0f}{life.recovery:10.2f}"
        )
    print(f"  never: calls still came through {WATCHED:g} s after the failure began")
    for name, reason in missing.items():
        print(f"  {name:26} not measured: {reason}")


def _milliseconds(seconds: float) -> str:
    return "never" if seconds == math.inf else f"{seconds * 1000:.0f}"
