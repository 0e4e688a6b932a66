"""Kill -9 what does the work, at random, while letters go through it; then count: ``make proof``.

    python -m tests.proof.random_kills [--kills 100] [--broker rabbitmq|redis] [--seed N]

Real processes on a private MariaDB, Valkey and broker: Regrow's worker, beat, and a plain Celery app whose task
the letters go home to. A victim is chosen at random (the worker's main process or one of its children, beat, the
app's main process or one of its children), killed, and started again as a supervisor would. Accepted is what
RabbitMQ confirmed; on Redis, where a worker that is killed while it takes a message loses it whatever we do, what is
fsynced in a spool. A letter whose worker died twice while it ran is taken for poison, as it must be, and waits for a
person, who retries it here. Every few kills the living may go on until a letter more is settled, else the deaths
would all fall into the start-up of a busy machine. At the end every accepted message must be a letter, every letter
settled, none twice.

Ends with the contract's line and exit status 0 only when nothing is lost and nothing settled twice.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pymysql
import sqlalchemy as sa

from regrow.celery import CelerySender
from regrow.configuration import configure
from regrow.database.tables import capture_events, dead_letter_attempts, dead_letters
from regrow.dead_letters import capture, send_through, service
from regrow.dead_letters.rules import State
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError, TransitionRefusedError
from regrow.settings import load_settings
from tests.acceptance.conftest import Deployment
from tests.acceptance.processes import Process
from tests.servers import MariaServer, RabbitServer, RedisServer
from tests.waiting import eventually

_AT_WORK = 5
"""So many kills, then work gets on before the next."""


def main() -> int:
    asked = _arguments()
    rng = random.Random(asked.seed)
    with ExitStack() as stack:
        regrow = _deploy(stack, asked.broker)
        shop = regrow.start_shop("proof")
        worker, beat = regrow.start_worker(), regrow.start_beat()
        sender = CelerySender.from_broker(
            regrow.environ["CELERY_BROKER_URL"],
            {"confirm_publish": True} if asked.broker == "rabbitmq" else {"socket_timeout": 5},
        )
        send_through(sender)
        if asked.broker == "redis":
            configure(redis_url=regrow.environ["REGROW_REDIS_URL"], spool=str(regrow.folder / "spool"))
        accepted: list[str] = []
        victims: list[Callable[[], None]] = [
            lambda: _kill_main(worker),
            lambda: _kill_child(rng, worker),
            lambda: _kill_main(beat),
            lambda: _kill_main(shop),
            lambda: _kill_child(rng, shop),
        ]
        for number in range(1, asked.kills + 1):
            _hand_over(rng, accepted)
            if number % _AT_WORK == 0:
                _until_at_work(regrow)
            time.sleep(rng.uniform(0.05, 1.2))  # where in the work the kill falls is left to chance
            _supervise(regrow)
            rng.choice(victims)()
            if number % 10 == 0:
                print(
                    f"{number} kills, {len(accepted)} accepted, {service.counts(regrow.engine)}", flush=True
                )
        missing = _until_settled(regrow, accepted)
        return _report(regrow.engine, asked, accepted, missing)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--broker", choices=["rabbitmq", "redis"], default="rabbitmq")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    return parser.parse_args()


def _deploy(stack: ExitStack, broker: str) -> Deployment:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rg-proof-")))
    redis = stack.enter_context(closing(RedisServer().start()))
    maria = stack.enter_context(closing(MariaServer().start()))
    with pymysql.connect(host="127.0.0.1", port=maria.port, user="root") as admin:
        admin.cursor().execute("CREATE DATABASE regrow CHARACTER SET utf8mb4")
    broker_url = redis.url
    if broker == "rabbitmq":
        broker_url = stack.enter_context(closing(RabbitServer().start())).url
    environ = {
        "REGROW_PROFILE": "testing",
        "REGROW_HOME": str(folder / "home"),
        "REGROW_REDIS_URL": redis.url,
        "REGROW_DATABASE_URL": maria.url("regrow"),
        "CELERY_BROKER_URL": broker_url,
        "CELERY_RESULT_BACKEND": redis.url,
        # A deadline that passes because everything is dead all the time must not use up the attempts.
        "REGROW_DEAD_LETTERS__MAX_RETRIES": "1000",
        "REGROW_DEAD_LETTERS__UNKNOWN_RETRIES": "1000",
        # On a busy machine a shorter one passes before the app came to the message, and copies pile up.
        "REGROW_DEAD_LETTERS__OUTCOME_DEADLINE": "30",
    }
    regrow = Deployment(folder, environ, Engine(load_settings(environ=environ)))
    stack.callback(regrow.close)
    regrow.engine.database.upgrade()
    return regrow


def _hand_over(rng: random.Random, accepted: list[str]) -> None:
    for _ in range(rng.randint(1, 20)):
        message = {"task": "shop.charge", "args": [len(accepted)], "queue": "shop"}
        try:
            accepted.append(capture(message, error="proof", service="bank"))
        except StoreUnavailableError:
            continue


def _until_at_work(regrow: Deployment) -> None:
    """A letter more is settled: the worker, the broker and the app do their work again."""

    def settled() -> int:
        _supervise(regrow)
        return service.counts(regrow.engine)["resolved"]

    before = settled()
    eventually(lambda: settled() > before, 120, every=0.1, what="another letter is settled between two kills")


def _kill_main(process: Process) -> None:
    process.kill_main()
    process.start()


def _kill_child(rng: random.Random, process: Process) -> None:
    children = process.children()
    if children:
        os.kill(rng.choice(children), signal.SIGKILL)


def _supervise(regrow: Deployment) -> None:
    """Start again what ended by itself (Celery does when a child is killed while the pool starts)."""
    for process in regrow.processes:
        if process.process is not None and process.process.poll() is not None:
            process.start()


def _until_settled(regrow: Deployment, accepted: list[str]) -> set[str]:
    """Wait until all that is accepted is settled; returns the events that never arrived."""
    engine = regrow.engine

    def missing() -> set[str]:
        with engine.database.snapshot() as connection:
            return set(accepted) - set(connection.execute(sa.select(capture_events.c.event_id)).scalars())

    retried: Counter[str] = Counter()

    def settled() -> bool:
        _supervise(regrow)
        for letter in service.list_letters(engine, state=State.QUARANTINED, limit=1000):
            with suppress(TransitionRefusedError):  # a late success has settled it
                service.retry(engine, letter.id, actor="proof", reason="it was us who killed its workers")
                retried[str(letter.reason)] += 1
        counts = service.counts(engine)
        return sum(counts.values()) == counts["resolved"] and not missing()

    try:
        eventually(settled, 300, every=0.5)
    except AssertionError:
        print(f"not all settled within 300 s: {service.counts(engine)}")
    print(f"retried by hand: {dict(retried)}")
    return missing()


def _report(engine: Engine, asked: argparse.Namespace, accepted: list[str], missing: set[str]) -> int:
    winners = (
        sa.select(dead_letters.c.id, sa.func.count(dead_letter_attempts.c.token).label("wins"))
        .join(dead_letter_attempts, dead_letter_attempts.c.letter_id == dead_letters.c.id)
        .where(dead_letter_attempts.c.outcome == "succeeded")
        .group_by(dead_letters.c.id)
        .subquery()
    )
    with engine.database.snapshot() as connection:
        twice = connection.execute(
            sa.select(sa.func.count()).select_from(winners).where(winners.c.wins > 1)
        ).scalar_one()
    counts = service.counts(engine)
    unsettled = sum(counts.values()) - counts["resolved"]
    print(
        f"PROOF random-kills-{asked.broker} kills={asked.kills} accepted={len(accepted)} "
        f"settled={counts['resolved']} lost={len(missing)} twice={twice}"
    )
    if missing or twice or unsettled:
        print(f"seed {asked.seed}; unsettled {unsettled}; lost {sorted(missing)[:5]}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
