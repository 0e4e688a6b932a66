"""What a guarded call costs while all is well: ours, shared through Redis, beside the libraries people use."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import re
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import redis

from benchmarks.peers import Guard, Missing, contender, Policy
from benchmarks.reach import Reach, interleaved
from regrow.breakers.redis_store import TIMEOUT, RedisStore, state_key
from regrow.breakers.reporter import Reporter
from regrow.redis import connect
from regrow.redis_cluster import ClusterClient
from tests.servers import RedisCluster, RedisSentinel, RedisServer
from tests.waiting import eventually

import regrow

REPETITIONS = 9
A_RUN = 0.1  # seconds that one run of one contender takes, about
FROZEN_SECONDS = 3.0
COMMAND = re.compile(rb"(?:^|\r\n)\*\d+\r\n\$")
FAILS = 50  # one call in so many fails while the latency is looked at

SYNC = {
    "pybreaker in memory": "pybreaker_memory",
    "pybreaker with Redis": "pybreaker_redis",
    "circuitbreaker in memory": "circuitbreaker",
    "purgatory in memory": "purgatory",
    "interlock-cb in memory": "interlock_memory",
    "interlock-cb with Redis": "interlock_redis",
    "nopanic-redis": "nopanic_redis",
}
ASYNC = {
    "circuitbreaker in memory, async": "circuitbreaker",
    "purgatory in memory, async": "purgatory_async",
    "aiobreaker in memory, async": "aiobreaker",
    "interlock-cb in memory, async": "interlock_memory",
}

OURS = "ours with Redis"
FROZEN = ("ours, Redis frozen just now", "ours, Redis frozen and given up")


def measure() -> list[Reach]:
    server = RedisServer().start()
    try:
        return _measure(server)
    finally:
        server.signal(signal.SIGCONT)
        server.close()


def _measure(server: RedisServer) -> list[Reach]:
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_counted(server.url))
        trips = _round_trips(server, ours)  # while no other client is there
        worst = {"frozen": _latency(ours, lambda: _redis_frozen(server, ours))}
        worst["killed"] = _latency(ours, lambda: _redis_killed(server, ours))
        worst["flushed"] = _latency(ours, lambda: _redis_flushed(server, ours))
        worst["failed over by a Sentinel"] = _latency_failed_over(RedisSentinel())
        worst["failed over in a cluster"] = _latency_failed_over(RedisCluster(replicas=True))
        runs, missing = _runs(server, ours, stack)
        costs = interleaved(runs, REPETITIONS)
    _show(costs, missing)
    print(
        f"\n{trips.calls} calls on the closed path: {trips.by_callers} round trips of theirs"
        f" ({trips.at_server} commands at the server, {trips.by_reporter} of them the reporter's,"
        f" {trips.by_reporter / trips.seconds:.0f} a second)"
    )
    print(f"\nadmit + record under load, one call in {FAILS} failing, from the moment Redis was\n")
    for outage, found in worst.items():
        print(
            f"  {outage:26} {found.calls:7} calls: p50 {found.p50:.1f} µs, p99 {found.p99:.1f} µs,"
            f" p99.9 {found.p999:.1f} µs, longest {found.longest / 1e3:.1f} ms,"
            f" {found.round_trips} round trips, {found.errors} errors"
        )
    found = [Reach("breaker_round_trips_closed_calls", trips.by_callers, "<=", 0)]
    for outage, seen in worst.items():
        name = outage.split(" by ")[0].replace(" ", "_")
        found += [
            Reach(f"breaker_round_trips_{name}_calls", seen.round_trips, "<=", 0),
            Reach(f"breaker_p999_{name}_milliseconds", seen.p999 / 1000, "<=", 1.0),
            Reach(f"breaker_storage_{name}_errors", seen.errors, "<=", 0),
        ]
    for name, other, target in (
        ("breaker_cost_to_circuitbreaker_ratio", "circuitbreaker in memory", 0.6),
        ("breaker_cost_to_pybreaker_redis_ratio", "pybreaker with Redis", 0.01),
    ):
        if other in costs:
            found.append(Reach(name, costs[OURS] / costs[other], "<=", target))
            found.append(
                Reach(
                    name.replace("cost", "cost_frozen", 1),
                    max(costs[moment] for moment in FROZEN) / costs[other],
                    "<=",
                    target,
                )
            )
    return found


# The contenders -------------------------------------------------------------------------------------------


class Ours:
    """A breaker of ours whose Redis connections count the commands they send, by the thread that sends them."""

    def __init__(self, url: str) -> None:
        self.sent: Counter[str] = Counter()
        client = connect(url, socket_timeout=TIMEOUT, connect_timeout=TIMEOUT, waiting=False)
        if isinstance(client, ClusterClient):
            client.ping()
            for node in client.get_primaries():
                self._count(client.get_redis_connection(node).connection_pool)
        else:
            self._count(client.connection_pool)
        self.reporter = Reporter(RedisStore(client))
        self.breaker = regrow.CircuitBreaker("payments", reporter=self.reporter)
        self.without_timeout = regrow.CircuitBreaker("patient", timeout=None, reporter=self.reporter)

    def _count(self, pool: redis.ConnectionPool) -> None:
        ours = self

        class Counted(pool.connection_class):
            def send_packed_command(self, command, check_health=True):
                sent = b"".join(command) if isinstance(command, list) else command
                ours.sent[threading.current_thread().name] += len(COMMAND.findall(sent))
                return super().send_packed_command(command, check_health)

        pool.disconnect()
        pool.connection_class = Counted

    @property
    def by_reporter(self) -> int:
        """What its two threads send: reports and looks, and the listener's questions."""
        return self.sent["regrow-breakers"] + self.sent["regrow-breakers-push"]

    @property
    def by_callers(self) -> int:
        return sum(self.sent.values()) - self.by_reporter


@contextlib.contextmanager
def _counted(url: str) -> Iterator[Ours]:
    ours = Ours(url)
    for breaker in (ours.breaker, ours.without_timeout):
        breaker.call(nothing)
        eventually(lambda: breaker._cell.gate.heard, 5)  # noqa: B023 - asked at once
    yield ours
    ours.reporter.close()


def nothing() -> None:
    """The guarded call."""


async def nothing_async() -> None:
    """The guarded call."""


def _runs(
    server: RedisServer, ours: Ours, stack: contextlib.ExitStack
) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    guarded = ours.breaker(nothing)
    runs = {
        "bare call": _timed(nothing),
        OURS: _timed(guarded),
        "ours with Redis, call(fn)": _timed(lambda: ours.breaker.call(nothing)),
        "ours with Redis, 8 threads": _timed_in_threads(guarded, 8),
        FROZEN[0]: _frozen(server, ours, guarded, noticed=False),
        FROZEN[1]: _frozen(server, ours, guarded, noticed=True),
        "bare call, async": _timed_async(nothing_async),
        "ours with Redis, async": _timed_async(ours.breaker(nothing_async)),
        "ours, timeout=None, async": _timed_async(ours.without_timeout(nothing_async)),
    }
    missing = {}
    for names, function, timed in ((SYNC, nothing, _timed), (ASYNC, nothing_async, _timed_async)):
        for shown, name in names.items():
            try:
                guard = contender(name)(server.url, Policy())
                stack.callback(guard.close)
                runs[shown] = _tried(guard, function, timed)
            except Missing as reason:
                missing[shown] = str(reason)
    runs["Redis PING"] = _timed(stack.enter_context(redis.Redis.from_url(server.url)).ping)
    return runs, missing


def _tried(guard: Guard, function: Callable, timed: Callable) -> Callable[[], float]:
    try:
        return timed(guard.decorate(function))
    except Exception as error:
        raise Missing(f"{type(error).__name__}: {error}") from error


# Timing: each returns a run, which returns µs a call ------------------------------------------------------


def _timed(fn: Callable[[], object]) -> Callable[[], float]:
    def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in itertools.repeat(None, times):
            fn()
        return time.perf_counter() - began

    return _steady(loop)


def _timed_async(fn: Callable[[], Awaitable[object]]) -> Callable[[], float]:
    async def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in itertools.repeat(None, times):
            await fn()
        return time.perf_counter() - began

    return _steady(lambda times: asyncio.run(loop(times)))


def _timed_in_threads(fn: Callable[[], object], threads: int) -> Callable[[], float]:
    """Time on the wall over all calls made: what one call costs the process."""

    def loop(times: int) -> float:
        start = threading.Barrier(threads + 1)

        def work() -> None:
            start.wait()
            for _ in itertools.repeat(None, times // threads):
                fn()

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        start.wait()
        began = time.perf_counter()
        for worker in workers:
            worker.join()
        return time.perf_counter() - began

    return _steady(loop)


def _steady(loop: Callable[[int], float]) -> Callable[[], float]:
    """As many calls as fill :data:`A_RUN`, without the collector's pauses, after a third as many to get warm:
    a processor that comes out of a pause is slow at first, and some contenders are waited for before they run."""
    times = 64
    while (took := loop(times)) < A_RUN / 8:
        times *= 4
    times = max(64, int(times * A_RUN / took))

    def run() -> float:
        gc.collect()
        gc.disable()
        try:
            loop(times // 3)
            return loop(times) / times * 1e6
        finally:
            gc.enable()

    return run


def _frozen(
    server: RedisServer, ours: Ours, guarded: Callable[[], object], *, noticed: bool
) -> Callable[[], float]:
    """The same calls with Redis stopped: it answers nothing, its sockets stay open.

    At first the reporter waits for it and callers go on; then it is ``noticed`` and the process goes on by itself.
    """
    timed = _timed(guarded)

    def run() -> float:
        with _redis_frozen(server, ours):
            if noticed:
                eventually(lambda: guarded() or ours.reporter.local, 10)
            return timed()

    return run


@contextlib.contextmanager
def _redis_frozen(server: RedisServer, ours: Ours) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)
        eventually(lambda: server.answers() and not ours.reporter.local and _heard(ours), 10)


def _heard(ours: Ours) -> bool:
    """Everyone is back: the breaker has heard of the store since."""
    ours.breaker.call(nothing)
    return ours.breaker._cell.gate.admits


# Round trips and latency ----------------------------------------------------------------------------------


class Trips:
    calls: int
    seconds: float
    at_server: int
    by_reporter: int
    by_callers: int


def _round_trips(server: RedisServer, ours: Ours, seconds: float = 2.0) -> Trips:
    """Counted where they arrive. What Lua does inside a script is no round trip, and MONITOR tells it apart."""
    guarded = ours.breaker(nothing)
    trips = Trips()
    with _monitor(server.url) as seen:
        reporter, callers = ours.by_reporter, ours.by_callers
        began = time.perf_counter()
        trips.calls = 0
        while time.perf_counter() - began < seconds:
            for _ in itertools.repeat(None, 1000):
                guarded()
            trips.calls += 1000
        trips.seconds = time.perf_counter() - began
        time.sleep(0.3)  # what was said last is on its way
        trips.by_reporter = ours.by_reporter - reporter
        sent_by_callers = ours.by_callers - callers
    trips.at_server = len(seen)
    trips.by_callers = max(sent_by_callers, trips.at_server - trips.by_reporter)
    return trips


@contextlib.contextmanager
def _monitor(url: str) -> Iterator[list[str]]:
    """The commands that arrive at the server from any client, as they come."""
    seen: list[str] = []
    client = redis.Redis.from_url(url, socket_timeout=0.5)
    with client, client.monitor() as feed:
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                with contextlib.suppress(redis.TimeoutError):
                    told = feed.next_command()
                    if told["client_type"] != "lua":
                        seen.append(told["command"].split(" ", 1)[0])

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join()


class Latency:
    """What admit + record took, µs."""

    def __init__(self, found: list[int], round_trips: int, errors: int) -> None:
        cuts = statistics.quantiles(found, n=1000)
        self.calls = len(found)
        self.p50, self.p99, self.p999 = (cuts[at] / 1e3 for at in (499, 989, 998))
        self.longest = max(found) / 1e3
        self.round_trips = round_trips
        self.errors = errors


def _latency(ours: Ours, outage: Callable[[], contextlib.AbstractContextManager[None]]) -> Latency:
    """From the outage on: before the loss is noticed, during, and after it is over.

    Twenty calls each millisecond, so that they meet everything the reporter does meanwhile.
    """
    breaker, found, clock = ours.breaker, [], time.perf_counter_ns
    failed, errors = OSError(), 0
    callers = ours.by_callers
    with outage():
        until = time.monotonic() + FROZEN_SECONDS
        for number in itertools.count():
            if number % 20 == 0:
                time.sleep(0.001)
                if time.monotonic() > until:
                    break
            began = clock()
            try:
                permit = breaker.admit()
                if number % FAILS:
                    permit.success()
                else:
                    permit.failure(failed)
            except Exception:
                errors += 1
            found.append(clock() - began)
    return Latency(found, ours.by_callers - callers, errors)


@contextlib.contextmanager
def _redis_killed(server: RedisServer, ours: Ours) -> Iterator[None]:
    """Gone for a second, then back with what its disk kept. This thread calls, another one starts it."""
    back = threading.Event()

    def outage() -> None:
        server.kill()
        time.sleep(1)
        server.start()
        back.wait(60)  # a server ends with the thread that started it

    thread = threading.Thread(target=outage)
    thread.start()
    try:
        yield
        eventually(lambda: not ours.reporter.local and _heard(ours), 10)
    finally:
        back.set()
        thread.join()
        server.start()
        eventually(lambda: server.answers() and not ours.reporter.local and _heard(ours), 10)


@contextlib.contextmanager
def _redis_flushed(server: RedisServer, ours: Ours) -> Iterator[None]:
    server.ask("FLUSHALL")
    yield
    eventually(lambda: _heard(ours), 10)


def _latency_failed_over(fleet: RedisSentinel | RedisCluster) -> Latency:
    """A master is killed, its replica takes over: until the new one decides, and a while after."""
    try:
        ours = Ours(fleet.start().url)
        ours.breaker.call(nothing)
        eventually(lambda: ours.breaker._cell.gate.heard, 5)
        master = fleet.master if isinstance(fleet, RedisSentinel) else fleet.serving(state_key("payments"))

        @contextlib.contextmanager
        def dying() -> Iterator[None]:
            master.kill()
            yield
            eventually(lambda: not ours.reporter.local and _heard(ours), 20)

        found = _latency(ours, dying)
        ours.reporter.close()
        return found
    finally:
        fleet.close()


def _show(costs: dict[str, float], missing: dict[str, str]) -> None:
    print(f"\nmedians of {REPETITIONS} runs that took turns; µs a call, and times ours\n")
    ours, ours_async = costs[OURS], costs["ours with Redis, async"]
    for name, cost in costs.items():
        times = cost / (ours_async if name.endswith("async") else ours)
        print(f"  {name:34} {cost:9.3f} {times:9.2f}")
    for name, reason in missing.items():
        print(f"  {name:34} not measured: {reason}")
