"""Kill -9 at every step towards a store, a broker or a disk, one step after the other; then count.

    python -m tests.proof.crash_points [--broker redis|rabbitmq] [--kills 500] [--only SCENARIO] [--seed N]

A scenario is a piece of work on real servers: handing over, capture, redrive, the app's run, settlement, a decision
by hand, a purge. Its points are counted from outside (``tests/proof/steps.py``). For each point a child is forked
that does the work and kills itself there; then others go on as they would (redelivery, leases that ran out), and
the ledger must be exact: what was accepted is settled, nothing is lost, nothing settled twice, bodies are whole. When
every point had its turn, more rounds kill a second process as well, somewhere in the recovery.

Beside the kills: a worker that is stopped past its lease and goes on as a zombie, a Redis that is flushed, a
MariaDB and a RabbitMQ that are killed and started again in the middle.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pymysql
import redis
import structlog

from regrow.dead_letters import capturing, service
from regrow.errors import RegrowError, TransitionRefusedError
from tests.proof.cases import Case, Fate
from tests.proof.children import Child
from tests.proof.house import House
from tests.proof.steps import stop_me
from tests.servers import MariaServer, RabbitServer, RedisServer

Hurt = Callable[[House, Case], object]


@dataclass(frozen=True)
class Scenario:
    """``prepare`` makes a case up to the moment before ``work``, which is done by the child that is hurt."""

    prepare: Callable[[House], Case]
    work: Hurt


def _failed(house: House, count: int = 2) -> Case:
    return Case.of(count, house.clock())


def _told_to_broker(house: House, count: int = 1, *, many: bool = False) -> Case:
    case = Case.of(count, house.clock())
    house.steward("post_many" if many else "post", case)
    case.accepted = case.events
    return case


def _kept(house: House, count: int = 1) -> Case:
    case = Case.of(count, house.clock())
    house.steward("keep", case)
    case.accepted = case.events
    house.clock.advance(3600)
    return case


def _dispatched(house: House) -> Case:
    case = _kept(house)
    house.steward("redrive")
    return case


def _told(house: House, outcome: str, times: int = 1) -> Case:
    case = _dispatched(house)
    house.steward("tell", case, outcome, times)
    return case


def _late(house: House) -> Case:
    """The first attempt succeeded, and its word is on the way while the second one is already sent."""
    case = _dispatched(house)
    house.steward("take", "shop")
    house.clock.advance(3600)
    house.steward("redrive")
    return case


def _settled_long_ago(house: House) -> Case:
    case = _dispatched(house)
    house.steward("recover", case)
    return case


def _hand_over(house: House, case: Case) -> None:
    for captured in case.captures:
        house.post(Case([captured]))
        house.say(captured.event_id)


def _capture_in_chunks(house: House, _case: Case) -> None:
    capturing._CHUNK = 2  # three transactions for five letters
    _take(house, _case)


def _take(house: House, _case: Case) -> None:
    house.take("regrow", counted=not house.on_redis)


def _fail_and_redrive(house: House, _case: Case) -> None:
    _take(house, _case)
    house.clock.advance(60)
    house.redrive()


def _by_hand(house: House, case: Case) -> None:
    first, second = case.events
    with contextlib.suppress(TransitionRefusedError):  # the worker beside has it in hand
        service.retry(house.engine, first, actor="proof", reason="try")
    with contextlib.suppress(TransitionRefusedError):
        service.discard(house.engine, second, actor="proof", reason="not needed")
        house.say(f"discarded {second}")


SCENARIOS = {
    "hand over": Scenario(_failed, _hand_over),
    "spool and ship": Scenario(_failed, lambda house, case: house.spool(case)),
    "capture": Scenario(_told_to_broker, _take),
    "capture many": Scenario(lambda house: _told_to_broker(house, 5, many=True), _capture_in_chunks),
    "redrive": Scenario(lambda house: _kept(house, 2), lambda house, _: house.redrive()),
    "run at home": Scenario(_dispatched, lambda house, _: house.take("shop")),
    "settle": Scenario(lambda house: _told(house, "settle"), lambda house, _: house.take("regrow")),
    "success told twice": Scenario(
        lambda house: _told(house, "settle", 2), lambda house, _: house.take("regrow")
    ),
    "failure": Scenario(lambda house: _told(house, "record_failure"), _fail_and_redrive),
    "late success": Scenario(_late, lambda house, _: house.round()),
    "by hand": Scenario(lambda house: _kept(house, 2), _by_hand),
}


# Works that must be found wrong: a harness that cannot fail proves nothing.
DEFECTS = {
    "ack first": Scenario(
        _told_to_broker, lambda house, _: house.take("regrow", first_ack=True, counted=False)
    ),
}


@dataclass
class Count:
    """What happened in all trials. ``faults``: sentences; those that begin with lost or twice are counted."""

    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, what: str, house: House, case: Case, where: str) -> None:
        self.done[what] += 1
        self.done["accepted"] += len(case.accepted)
        self.done["settled"] += sum(
            house.states(case.events).get(event) in {"resolved", "discarded"} for event in case.accepted
        )
        self.faults += [f"{fault} ({where})" for fault in house.faults(case)]

    def of(self, kind: str) -> int:
        return sum(fault.startswith(kind) for fault in self.faults)


def trial(
    house: House, name: str, at: int, count: Count, *, second: int | None = None, recovery: float = 60
) -> Fate:
    """Kill the scenario's child at the point ``at``, another in the recovery at ``second``; recover, count."""
    scenario = (SCENARIOS | DEFECTS)[name]
    case = scenario.prepare(house)
    beside: Child | None = None
    if name == "by hand":  # while a worker wants the same letters
        beside = house.start(house.redrive, counted=False)
    fate = house.run(lambda: scenario.work(house, case), at)
    case.accepted += [word for word in fate.said if word in case.events]
    if beside is not None:
        beside.wait()
    if fate.killed and second is not None:
        other = house.run(lambda: (house.round(), house.clock.advance(3600), house.redrive()), second)
        count.done["kills"] += other.killed
    where = f"{name}, killed at {at} {fate.last}"
    try:
        house.steward("recover", case, recovery)
    except AssertionError as error:
        count.faults.append(f"stuck: {error} ({where})")
    count.add("kills" if fate.killed else "unhurt", house, case, where)
    states = house.states(case.events)
    for word in fate.said:
        if word.startswith("discarded ") and states[word.split()[1]] != "discarded":
            count.faults.append(f"lost: {word}, and it is {states[word.split()[1]]} ({where})")
    return fate


def every_point(house: House, name: str, count: Count, stride: int = 1) -> None:
    """Kill at every ``stride``-th point, until the work is done before its point comes."""
    at = 1
    while trial(house, name, at, count).killed:
        at += stride


def some_points(house: House, name: str, count: Count, many: int) -> None:
    """Kill at ``many`` points that lie evenly between the first and the last."""
    steps = trial(house, name, 0, count).steps
    for number in range(many):
        trial(house, name, 1 + number * steps // many, count)


def purged(house: House, count: Count, stride: int = 1) -> None:
    """Settled letters go after their time, whoever dies while they do; a late copy brings none of them back."""
    at, killed = 1, True
    while killed:
        old, new = _settled_long_ago(house), _kept(house)
        house.clock.advance(8 * 86400)
        fate = house.run(lambda: service.cleanup(house.engine), at)
        killed = fate.killed
        where = f"purge, killed at {at} {fate.last}"
        house.steward("purge")
        house.steward("post", old)
        house.steward("recover", new)
        if house.states(old.events) or house.letters_of(old):
            count.faults.append(f"twice: a purged letter is back ({where})")
        count.add("kills" if killed else "unhurt", house, new, where)
        count.done.update(accepted=1, settled=1)
        at += stride


def zombies(house: House, count: Count, stride: int = 1) -> None:
    """A worker stops in the middle of a redrive, its lease runs out, others settle; then it goes on."""
    at, stopped = 1, True
    while stopped:
        case = _kept(house, 2)
        child = house.start(house.redrive, at, stop_me)
        stopped, where = child.stopped(), house.steps.last
        between = where.startswith(("after COMMIT", "after ROLLBACK", "before redis", "after redis"))
        if stopped and (between or "amqp" in where):
            house.clock.advance(3600)
            house.steward("recover", case)
            count.done["zombies"] += 1
        if stopped:  # in a transaction it holds its rows' locks: the others pass them by
            child.go_on()
        child.wait()
        house.steward("recover", case)
        count.add("stops" if stopped else "unhurt", house, case, f"zombie from {at} {where}")
        at += stride


def interrupted(
    house: House, count: Count, what: str, name: str, interrupt: Callable[[], None], points: Iterator[int]
) -> None:
    """The work stops at a point, a server is hurt, the work goes on as well as it can; then others recover."""
    for at in points:
        case = SCENARIOS[name].prepare(house)
        child = house.start(lambda case=case: _as_well_as_it_can(house, name, case), at, stop_me)
        stopped = child.stopped()
        if stopped:
            interrupt()
            child.go_on()
        fate = child.wait()
        house.steward("recover", case)
        count.add(what if stopped else "unhurt", house, case, f"{what} in {name} at {at} {fate.last}")
        if not stopped:
            return


def _as_well_as_it_can(house: House, name: str, case: Case) -> str:
    try:
        SCENARIOS[name].work(house, case)
    except (RegrowError, OSError, *house.regrow.connection_for_read().connection_errors) as error:
        return f"gave up: {type(error).__name__}: {error}"
    return "done"


# The whole proof --------------------------------------------------------------------------------------------


def main() -> int:
    asked = _arguments()
    # The letters' own log would bury the counts.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    count = Count()
    with contextlib.ExitStack() as stack:
        servers = Servers.start(asked, stack)
        house = stack.enter_context(
            contextlib.closing(
                House(servers.database_url, servers.live_url, servers.broker_url, servers.folder)
            )
        )
        house.steward("declare")
        if asked.defect:
            _try_defect(house, asked.defect, count)
        elif asked.only:
            every_point(house, asked.only, count, asked.stride)
        elif asked.quick:
            _a_selection(house, servers, asked, count)
        else:
            _everything(house, servers, asked, count)
        count.faults += house.steward("imbalance")
    return _report(asked, count)


def _everything(house: House, servers: Servers, asked: argparse.Namespace, count: Count) -> None:
    for name in SCENARIOS:
        every_point(house, name, count, asked.stride)
        _so_far(name, count)
    purged(house, count, asked.stride)
    zombies(house, count, asked.stride)
    _so_far("purge, zombies", count)
    for name in ("spool and ship", "redrive", "settle"):
        interrupted(house, count, "flushes", name, servers.flush, iter(range(1, 1000, 2 * asked.stride)))
    if servers.maria is not None:
        for name in ("capture", "redrive", "settle"):
            interrupted(house, count, "database deaths", name, servers.restart_maria, iter(range(1, 60, 9)))
    if servers.rabbit is not None:
        interrupted(house, count, "broker deaths", "redrive", servers.restart_rabbit, iter(range(1, 60, 9)))
        interrupted(house, count, "broker deaths", "settle", servers.restart_rabbit, iter(range(1, 60, 9)))
    _so_far("flushes, deaths of servers", count)
    _two_in_a_row(house, count, random.Random(asked.seed), asked.kills)


def _a_selection(house: House, servers: Servers, asked: argparse.Namespace, count: Count) -> None:
    """A hundred kills: every way of dying, not every point of it."""
    for name in SCENARIOS:
        some_points(house, name, count, 7)
        _so_far(name, count)
    purged(house, count, 20)
    zombies(house, count, 12)
    interrupted(house, count, "flushes", "spool and ship", servers.flush, iter(range(9, 1000, 25)))
    _so_far("purge, zombies, flushes", count)
    _two_in_a_row(house, count, random.Random(asked.seed), 100, trials=2)


def _two_in_a_row(house: House, count: Count, rng: random.Random, kills: int, trials: int = 60) -> None:
    """One dies at its work, the next one in the recovery: so many times, and until there are ``kills``."""
    while trials > 0 or count.done["kills"] < kills:
        name = rng.choice(list(SCENARIOS))
        trial(house, name, rng.randint(1, 30), count, second=rng.randint(1, 60))
        trials -= 1
    _so_far("two deaths in a row", count)


def _try_defect(house: House, name: str, count: Count) -> None:
    at = 1
    while not count.faults and trial(house, name, at, count, recovery=3).killed:
        at += 3


def _so_far(what: str, count: Count) -> None:
    print(f"{what}: {dict(count.done)}, {len(count.faults)} faults", flush=True)


def _report(asked: argparse.Namespace, count: Count) -> int:
    done = count.done
    for fault in count.faults[:20]:
        print(f"seed {asked.seed}: {fault}")
    print(
        f"PROOF crash-points-{asked.broker} kills={done['kills']} accepted={done['accepted']}"
        f" settled={done['settled']} lost={count.of('lost')} twice={count.of('twice')}"
    )
    return 1 if count.faults or done["accepted"] != done["settled"] else 0


@dataclass
class Servers:
    database_url: str
    live_url: str
    broker_url: str
    folder: Path
    maria: MariaServer | None = None
    live: RedisServer | None = None
    rabbit: RabbitServer | None = None

    @classmethod
    def start(cls, asked: argparse.Namespace, stack: contextlib.ExitStack) -> Servers:
        """Those that were given, and private ones for the others."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rg-proof-")))
        found = cls(asked.database, asked.live, "", folder)
        if not found.database_url:
            found.maria = stack.enter_context(contextlib.closing(MariaServer().install().start()))
            with pymysql.connect(host="127.0.0.1", port=found.maria.port, user="root") as admin:
                admin.cursor().execute("CREATE DATABASE regrow CHARACTER SET utf8mb4")
            found.database_url = found.maria.url("regrow")
        if not found.live_url:
            found.live = stack.enter_context(contextlib.closing(RedisServer().start()))
            found.live_url = found.live.url
        if asked.broker == "redis":
            # A database of its own, because the live state is flushed and the broker's messages must stay.
            found.broker_url = f"{found.live_url.rsplit('/', 1)[0]}/1"
        else:
            found.rabbit = stack.enter_context(contextlib.closing(RabbitServer().start()))
            found.broker_url = found.rabbit.url
        return found

    def flush(self) -> None:
        """Everything in Redis goes: live state, receipts, and on Redis all queues as well."""
        with redis.Redis.from_url(self.live_url) as client:
            client.flushall()

    def restart_maria(self) -> None:
        assert self.maria is not None
        self.maria.kill()
        self.maria.start()

    def restart_rabbit(self) -> None:
        assert self.rabbit is not None
        self.rabbit.kill()
        self.rabbit.start()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=["rabbitmq", "redis"], default="rabbitmq")
    parser.add_argument("--kills", type=int, default=500, help="at least; every point is tried in any case")
    parser.add_argument("--stride", type=int, default=1, help="try every n-th point only")
    parser.add_argument("--only", choices=[*SCENARIOS])
    parser.add_argument("--quick", action="store_true", help="100 kills, as in make test")
    parser.add_argument("--defect", choices=[*DEFECTS], help="try a work that is wrong: it must be found")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--database", default="", help="URL of an empty MySQL database instead of our own")
    parser.add_argument("--live", default="", help="URL of a Redis instead of our own; it is flushed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
