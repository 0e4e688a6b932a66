"""A Regrow whose pieces of work run in forked children that can be hurt, and an app that letters go home to.

Everything is real but the hour: MariaDB, Redis or RabbitMQ, Celery's own request and trace around every task. The
clock is the machine's, moved on by hand, so that leases and deadlines pass without waiting. Work that is to be
hurt runs in a child forked for it; all other work is done by a steward, one child that lives on.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import celery
import kombu
import pymysql
import redis
import sqlalchemy as sa
from celery.app.trace import trace_task_ret
from celery.utils.imports import symbol_by_name

from regrow.celery.queues import CAPTURE
from regrow.celery.queues import queue as own_queue
from regrow.dead_letters import service, spool_entries
from regrow.dead_letters.captured import to_wire
from regrow.dead_letters.spool import Spool
from regrow.dead_letters.spool_shipping import BrokerDestination, Shipper
from regrow.engine import Engine, set_engine
from regrow.errors import TransitionRefusedError
from regrow.settings import load_settings
from tests.dead_letters.conftest import Post
from tests.proof.cases import NOTE, SHOP, Case, Clock, Fate
from tests.proof.children import Child, Steward
from tests.proof.steps import Steps, count_everything, kill_me

_plain_write = os.write  # before it is counted

# Who settles a letter writes a line here, whatever code it ran: the database itself bears witness.
_WITNESS = (
    "CREATE TABLE proof_settlements (letter_id VARCHAR(36), was VARCHAR(64), became VARCHAR(64))",
    """CREATE TRIGGER proof_witness AFTER UPDATE ON dead_letters FOR EACH ROW
       IF NEW.state <> OLD.state AND (NEW.state IN ('resolved', 'discarded')
                                      OR OLD.state IN ('resolved', 'discarded')) THEN
         INSERT INTO proof_settlements VALUES (NEW.id, OLD.state, NEW.state);
       END IF""",
)


class House:
    """Servers, apps, clock. Make it before anything is connected; the children inherit it."""

    def __init__(self, database_url: str, live_url: str, broker_url: str, home: Path) -> None:
        self.database_url, self.live_url, self.broker_url = database_url, live_url, broker_url
        self.on_redis = broker_url.startswith("redis")
        self.steps, self.clock = Steps(), Clock()
        self._asking: Any = None
        self._lines: dict[str, tuple[Any, Any]] = {}
        self.spool_folder = home / "spool"
        self._adopter: Shipper | None = None
        self._ticks = 1_000.0
        self.engine = Engine(load_settings(environ=self._environment(home)), clock=self.clock)
        self.engine.database.upgrade()
        for statement in _WITNESS:
            self._ask(statement)
        self._database = self.engine.database
        self.regrow = self._make_regrow()
        self.shop = self._make_shop()
        self.live_client = redis.Redis.from_url(live_url, decode_responses=True)
        self._warm_up()
        count_everything(self.steps, self._database.engine)
        self.steward = Steward(self)

    def _environment(self, home: Path) -> dict[str, str]:
        return {
            "REGROW_PROFILE": "testing",
            "REGROW_HOME": str(home),
            "REGROW_REDIS_URL": self.live_url,
            "REGROW_DATABASE_URL": self.database_url,
            "CELERY_BROKER_URL": self.broker_url,
            "CELERY_RESULT_BACKEND": self.live_url,
            # Every kill costs a letter an attempt; what is looked for here is loss, not patience.
            "REGROW_DEAD_LETTERS__MAX_RETRIES": "1000",
        }

    def _make_regrow(self) -> celery.Celery:
        from worker.celery import make_app

        set_engine(self.engine)
        app = make_app(self.engine)
        app.loader.import_default_modules()
        app.finalize()
        return app

    def _make_shop(self) -> celery.Celery:
        """The app at home: it notes each run of its task, and what arrived, in Redis."""
        app = celery.Celery("shop", broker=self.broker_url, set_as_current=False)
        app.conf.update(task_acks_late=True, task_ignore_result=True, task_default_queue=SHOP)
        app.conf.broker_transport_options = dict(self.regrow.conf.broker_transport_options)
        app.conf.task_queues = [kombu.Queue(SHOP, durable=True)]

        @app.task(name="shop.charge")
        def charge(order: str, note: str) -> None:
            self.live_client.hset(f"arrived:{order}", mapping={"note": note})
            self.live_client.hincrby(f"arrived:{order}", "runs", 1)

        app.finalize()
        return app

    def _warm_up(self) -> None:
        """The children inherit the compiled statements, half of what their work would cost else.

        Beside Regrow's own engine, whose connections and memory each child must make for itself.
        """
        post = Post()
        warm = Engine(self.engine.settings, sender=post, clock=self.clock)
        warm.__dict__["database"] = self._database
        event, other, _ = service.capture_many(warm, Case.of(3, self.clock()).captures)
        self.clock.advance(3600)
        service.process_batch(warm, held=lambda *_: {})
        service.settle(warm, post.attempts[0])
        for _ in range(2):
            service.record_failure(warm, post.attempts[1], "again")
        for known in (event, other):
            with contextlib.suppress(TransitionRefusedError):
                service.discard(warm, known, actor="proof", reason="warm")
        service.process_batch(warm, held=lambda *_: {})
        warm.redis.close()

    # Children --------------------------------------------------------------------------------------------

    def start(
        self,
        work: Callable[[], Any],
        at: int | None = None,
        act: Callable[[], None] = kill_me,
        *,
        counted: bool = True,
    ) -> Child:
        """Fork a child that does ``work`` and does ``act`` to itself at the point ``at``.

        Only one child at a time can be ``counted``.
        """
        read, write = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write)
            return Child(pid, read, self.steps)
        status = 1
        try:
            os.close(read)
            self._mouth = write
            self.settle_in()
            if counted:
                self.steps.begin(at, act)
            value = work()
            self.steps.end()
            self._tell(value=value)
            status = 0
        except BaseException:
            self.steps.end()
            self._tell(error=traceback.format_exc()[-6000:])
        finally:
            os._exit(status)

    def say(self, word: str) -> None:
        """Of a child's work: what somebody was told, and may rely on, whatever happens to the child."""
        self._tell(said=word)

    def _tell(self, **what: Any) -> None:
        _plain_write(self._mouth, (json.dumps(what) + "\n").encode())

    def run(self, work: Callable[[], Any], at: int | None = None, act: Callable[[], None] = kill_me) -> Fate:
        return self.start(work, at, act).wait()

    def settle_in(self) -> None:
        """In a child: nothing of the parent's connections is used, and it does not outlive the parent."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        self._database.close(forked=True)
        self.engine.__dict__["database"] = self._database  # with its compiled statements
        self._asking, self._lines, self._adopter = None, {}, None
        kombu.pools.reset()
        for app in (self.regrow, self.shop):
            app._after_fork()
        self.live_client = redis.Redis.from_url(self.live_url, decode_responses=True)

    # Work ------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        with self.regrow.connection_for_write() as connection, connection.channel() as channel:
            own_queue(CAPTURE)(channel).declare()
            kombu.Queue(SHOP, durable=True)(channel).declare()

    def post(self, case: Case) -> None:
        """The app hands its messages to the broker, whose word is that they are accepted."""
        for captured in case.captures:
            wire = {"capture": to_wire(captured)}
            self.engine.sender.send("regrow.dead_letters.capture", wire, queue=CAPTURE)

    def post_many(self, case: Case) -> None:
        wires = [{"capture": to_wire(captured)} for captured in case.captures]
        self.engine.sender.send("regrow.dead_letters.capture_many", {"messages": wires}, queue=CAPTURE)

    def keep(self, case: Case) -> None:
        service.capture_many(self.engine, case.captures)

    def spool(self, case: Case) -> None:
        """The app keeps its failures on its own disk, and ships them; the disk's word is that they are accepted."""
        spool = Spool(self.spool_folder)
        for captured in case.captures:
            spool.append([spool_entries.to_bytes(captured)])
            self.say(captured.event_id)
        shipper = self._shipper(spool)
        shipper.round()
        self.take("regrow", counted=not self.on_redis)
        shipper.round()  # learns that all was received, and lets go of it

    def adopt(self) -> None:
        """Another process of the app ships what a dead one left; 700 s pass each time, so it sends again."""
        if self._adopter is None:
            self._adopter = self._shipper(Spool(self.spool_folder))
        self._ticks += 700
        self._adopter.round()

    def _shipper(self, spool: Spool) -> Shipper:
        receipts = redis.Redis.from_url(self.live_url)
        return Shipper(
            spool, lambda: BrokerDestination(self.engine.sender, receipts), clock=lambda: self._ticks
        )

    def redrive(self) -> dict[str, int]:
        return service.process_batch(self.engine, held=lambda *_: {})

    def take(self, who: str, *, most: int = 10_000, first_ack: bool = False, counted: bool = True) -> int:
        """Take what waits for ``who`` (regrow or shop) and run it as Celery does. Returns how many.

        ``first_ack``: acknowledge before running, the defect that must be found. ``counted``: whether taking
        it from the broker is a step; for captures on Redis it is not, because kombu takes in two steps there
        and whoever is killed between them loses the message, whatever we do (docs/celery.md).
        """
        app, name = (self.regrow, CAPTURE) if who == "regrow" else (self.shop, SHOP)
        connection, channel = self._line(who, app)
        queue = kombu.Queue(name, channel=channel)
        done = 0
        while done < most:
            with contextlib.nullcontext() if counted else self.steps.uncounted():
                message = queue.get(no_ack=False)
            if message is None:
                break
            if first_ack:
                message.ack()
            _run(app, connection, message)
            done += 1
        return done

    def _line(self, who: str, app: celery.Celery) -> tuple[Any, Any]:
        """This process's connection to the broker in that role, opened once, and again when it broke."""
        connection, channel = self._lines.get(who, (None, None))
        if connection is None or not connection.connected:
            connection = app.connection_for_read()
            channel = connection.channel()
            self._lines[who] = connection, channel
        return connection, channel

    def purge(self) -> None:
        """Archive and purge to the end; the archives go, as to another place, so that the next run is short."""
        service.cleanup(self.engine)
        for file in (self.engine.settings.home / self.engine.settings.dead_letters.archive).iterdir():
            file.unlink()

    def give_back(self) -> None:
        """Redis: deliveries whose taker died return at once (their visibility timeout is over)."""
        if not self.on_redis:
            return
        for who, app in (("regrow", self.regrow), ("shop", self.shop)):
            _, channel = self._line(who, app)
            channel.client.delete(channel.unacked_mutex_key)  # of one who died while it gave back
            while channel.client.zcard(channel.unacked_index_key):
                channel.visibility_timeout = 0
                channel.qos.restore_visible(interval=1)

    def recover(self, case: Case, seconds: float = 60) -> None:
        """What the others do after a death, until every letter of the case is settled."""
        deadline = time.monotonic() + seconds
        for number in itertools.count(1):
            if not self.round() and self.settled(case):
                return
            self.clock.advance(3600)
            self.redrive()
            if time.monotonic() > deadline:
                raise AssertionError(f"not settled: {self.states(case.events)}")
            if number > 2:
                time.sleep(0.02)  # RabbitMQ notices a dead connection in its own time

    def round(self) -> int:
        """Everything that waits in the queues is taken and run; returns how many messages that were."""
        try:
            return self._round()
        except self.regrow.connection_for_read().connection_errors:  # the broker died since the last time
            self._lines.clear()
            return self._round()

    def _round(self) -> int:
        self.give_back()
        if self.spool_folder.exists():
            self.adopt()
        return self.take("regrow") + self.take("shop") + self.take("regrow")

    def tell(self, case: Case, outcome: str, times: int = 1) -> None:
        """An app tells what came of the newest attempt of each letter: settle, or record_failure."""
        for captured in case.captures:
            (reference,) = self._ask(
                "SELECT CONCAT(a.letter_id, ':', a.token) FROM dead_letter_attempts a"
                " JOIN dead_letters l ON l.id = a.letter_id WHERE l.idempotency_key = %s"
                " ORDER BY a.leased_at DESC LIMIT 1",
                [captured.idempotency_key],
            )[0]
            for _ in range(times):
                self.engine.sender.send(
                    f"regrow.dead_letters.{outcome}", {"attempt": reference}, queue=CAPTURE
                )

    # The ledger ------------------------------------------------------------------------------------------

    def states(self, events: list[str]) -> dict[str, str]:
        """Event -> state of its letter, of those that are kept."""
        query = (
            "SELECT e.event_id, l.state FROM capture_events e JOIN dead_letters l ON l.id = e.letter_id"
            " WHERE e.event_id IN %s"
        )
        return dict(self._ask(query, [events]))

    def letters_of(self, case: Case) -> int:
        """How many letters there are of its messages."""
        keys = [captured.idempotency_key for captured in case.captures]
        query = "SELECT COUNT(*) FROM dead_letters WHERE idempotency_key IN %s"
        return int(self._ask(query, [keys])[0][0])

    def settled(self, case: Case) -> bool:
        """Whether all that was accepted is there, and all that is there is settled."""
        states = self.states(case.events)
        return set(case.accepted) <= set(states) and set(states.values()) <= {"resolved", "discarded"}

    def imbalance(self) -> list[str]:
        """Where the product's own ledger does not balance."""
        return [f"books: {account}" for account in service.read_ledger(self.engine).unbalanced]

    def faults(self, case: Case) -> list[str]:
        """Everything that is not as it must be once all is settled; nothing is the proof."""
        found = []
        for captured in case.captures:
            event = captured.event_id
            rows = self._ask(
                "SELECT l.id, l.state, b.body, l.attempts FROM dead_letters l"
                " JOIN dead_letter_bodies b ON b.letter_id = l.id WHERE l.idempotency_key = %s",
                [captured.idempotency_key],
            )
            if not rows:
                found += [f"lost: {event}"] if event in case.accepted else []
                continue
            if len(rows) > 1:
                found.append(f"twice: {len(rows)} letters of {event}")
            letter, state, body, attempts = rows[0]
            if state not in {"resolved", "discarded"}:
                found.append(f"lost: {event} is {state}")
            if body != captured.body:
                found.append(f"body: {event} has {hashlib.sha256(body).hexdigest()}")
            history = self._ask(
                "SELECT COALESCE(outcome, 'none'), COUNT(*) FROM dead_letter_attempts WHERE letter_id = %s"
                " GROUP BY 1",
                [letter],
            )
            outcomes = Counter({outcome: int(times) for outcome, times in history})
            if outcomes["succeeded"] != (1 if state == "resolved" else 0):
                found.append(f"twice: {event} is {state} after {dict(outcomes)}")
            if attempts > outcomes.total() or (state == "resolved" and not outcomes.total()):
                found.append(f"attempts: {event} counts {attempts}, has {dict(outcomes)}")
            witnessed = self._ask("SELECT was, became FROM proof_settlements WHERE letter_id = %s", [letter])
            if len(witnessed) != 1:
                found.append(f"twice: {event} went {witnessed}")
            arrived = self.live_client.hgetall(f"arrived:{captured.idempotency_key}")
            if state == "resolved" and arrived and arrived.get("note") != NOTE * 3:
                found.append(f"body: {event} arrived as {arrived}")
        return found

    def _ask(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Beside the product: on a connection of this process's own, which it opens again when it broke."""
        if self._asking is None:
            url = sa.make_url(self.database_url)
            self._asking = pymysql.connect(
                host=url.host,
                port=url.port or 3306,
                user=url.username,
                password=url.password or "",
                database=url.database,
                autocommit=True,
            )
        self._asking.ping(reconnect=True)
        cursor = self._asking.cursor()
        cursor.execute(query, list(values))
        return list(cursor.fetchall())

    def close(self) -> None:
        self.steward.close()
        self.engine.close()


def _run(app: celery.Celery, connection: Any, message: Any) -> None:
    """One task as a prefork worker runs it: traced in the child, acknowledged by its request."""
    task = app.tasks[message.headers["task"]]
    request = symbol_by_name(task.Request)(
        message,
        on_ack=message.ack_log_error,
        on_reject=message.reject_log_error,
        app=app,
        task=task,
        hostname="proof",
        connection_errors=connection.connection_errors,
    )
    outcome = trace_task_ret(
        task.name,
        request.id,
        request.request_dict,
        message.body,
        message.content_type,
        message.content_encoding,
        app=app,
    )
    request.on_success(outcome)
