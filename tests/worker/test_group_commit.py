"""Single captures are kept in groups, and each ends as if it had come alone, whoever is killed in the middle."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import celery
import psutil
import sqlalchemy as sa
from kombu import Connection, Queue
from kombu.common import QoS

from regrow.database.session import Database
from regrow.database.tables import capture_events, dead_letters
from tests.servers import MariaServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Program, Surroundings, ready, running, worker
from worker.gathered import Gathered
from worker.group_commit import AHEAD, MOST, MOST_BYTES, Gatherer

QUEUE = "regrow.capture"


def capture(around: Surroundings, count: int, start: int = 0) -> None:
    with celery.Celery(broker=around.broker_url, set_as_current=False) as app:
        for number in range(start, start + count):
            kwargs = {"message": {"number": number}, "error": "the bank is away", "service": "bank"}
            app.send_task("regrow.dead_letters.capture", kwargs=kwargs, queue=QUEUE, ignore_result=True)


def waiting(around: Surroundings) -> int:
    """Messages in the queue that no worker has in hand."""
    with Connection(around.broker_url) as connection:
        declared = connection.channel().queue_declare(QUEUE, durable=True, auto_delete=False)
        return int(declared.message_count)


def taken_out(around: Surroundings) -> set[int]:
    """The numbers of what waits in the queue, which is empty then."""
    with Connection(around.broker_url) as connection:
        queue = Queue(QUEUE)(connection.channel())
        messages = iter(lambda: queue.get(no_ack=True, accept=["json"]), None)
        return {message.payload[1]["message"]["number"] for message in messages}


def kept(around: Surroundings) -> list[int]:
    return sorted(int(letter["body"].split(b":")[1].strip(b" }")) for letter in around.letters())


def transactions(around: Surroundings) -> int:
    """Of all captures: those of one transaction were received at one time."""
    with contextlib.closing(sqlite3.connect(around.home / "regrow.sqlite3")) as database:
        return int(database.execute("SELECT COUNT(DISTINCT received_at) FROM capture_events").fetchone()[0])


@contextlib.contextmanager
def no_commits(around: Surroundings) -> Iterator[None]:
    """While this lasts every other writer waits."""
    with contextlib.closing(
        sqlite3.connect(around.home / "regrow.sqlite3", isolation_level=None)
    ) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


def writing(program: Program) -> list[psutil.Process]:
    """The children that have begun to use the database."""
    files = [(child, child.open_files()) for child in program.children()]
    return [child for child, opened in files if any("sqlite3" in Path(file.path).name for file in opened)]


class Request:
    """What the gatherer knows of a request."""

    time_limits = (None, None)
    ignore_result = True
    content_type, content_encoding = "application/json", "utf-8"

    def __init__(self, name: str, size: int = 10, *, embedded: object = None, revoked: bool = False) -> None:
        self.id, self.body, self.request_dict = name, b" " * size, {}
        self.message = SimpleNamespace(payload=([], {}, {"callbacks": embedded}))
        self.task = SimpleNamespace(ignore_result=False, soft_time_limit=None, time_limit=None)
        self.revoked = lambda: revoked


class Worker:
    """A consumer whose only child is free when a test says so."""

    def __init__(self) -> None:
        self.qos = QoS(lambda **_: None, 2)
        self.timer = self
        self.asked: list[object] = []
        self.timers: list[Callable[[], None]] = []
        self.groups: list[list[str]] = []
        self.gatherer = Gatherer(SimpleNamespace(acks_late=True), self)

    def on_task_request(self, request: object) -> None:
        self.asked.append(request)

    def call_after(self, _seconds: float, then: Callable[[], None]) -> SimpleNamespace:
        self.timers.append(then)
        return SimpleNamespace(cancel=lambda: None)

    def free(self) -> None:
        assert self.asked.pop(0) is self.gatherer
        self.gatherer.execute_using_pool(self)

    def apply_async(self, _work: object, args: tuple[list[Gathered]], **_: object) -> None:
        self.groups.append([message.task_id for message in args[0]])

    def take(self, *requests: Request) -> None:
        for request in requests:
            self.gatherer.add(request)


def test_captures_wait_for_each_other_and_for_a_child_and_go_as_far_as_one_transaction_may_hold() -> None:
    here = Worker()
    here.take(Request("a"), Request("b"))
    assert here.asked == []
    here.timers.pop()()
    here.take(Request("c"), Request("revoked", revoked=True), Request("d"))
    here.free()
    assert here.groups == [["a", "b", "c", "d"]]
    here.take(*(Request(str(number)) for number in range(MOST + 1)))
    here.free()
    assert (len(here.groups[1]), here.asked) == (MOST, [])
    here.take(Request("large", MOST_BYTES), Request("larger", MOST_BYTES + 1))
    for _ in range(3):
        here.timers.pop()()
        here.free()
    assert here.groups[2:] == [[str(MOST)], ["large"], ["larger"]]


def test_what_needs_more_than_to_run_goes_alone() -> None:
    here, linked = Worker(), Request("linked", embedded=["next"])
    limited, unreadable = Request("limited"), Request("unreadable")
    limited.time_limits, unreadable.message.payload = (5, None), "?"
    old = Request("of the first protocol")
    old.message.payload = {"task": "t", "id": "i", "args": []}
    here.take(linked, limited, unreadable, old)
    assert here.asked == [linked, limited, unreadable, old]


def test_a_group_goes_on_when_a_revoked_one_cannot_be_told_so() -> None:
    def away() -> bool:
        raise OSError("the result backend is away")

    here, expired = Worker(), Request("expired")
    expired.revoked = away
    here.take(Request("a"), expired)
    here.timers.pop()()
    here.free()
    assert here.groups == [["a", "expired"]]


def test_while_captures_come_in_more_of_them_are_taken_unless_they_are_large() -> None:
    here = Worker()
    one, large = Request("one"), [Request(str(number), MOST_BYTES) for number in range(2)]
    here.take(one)
    assert here.qos.value == 2 + AHEAD
    here.take(*large)
    assert here.qos.value == 2
    here.gatherer.let_go(large)
    here.take(Request("two"))
    assert here.qos.value == 2 + AHEAD
    here.gatherer.let_go([one, one])
    here.timers.pop()()
    assert here.qos.value == 2


def test_captures_are_kept_together_and_a_bad_one_or_a_killed_child_harms_no_other(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url=broker_url, REGROW_DEAD_LETTERS__MAX_BODY_BYTES="2000")
    capture(around, 60)
    bad_call = around.send("regrow.dead_letters.capture", {"a": 1}, "one too many", queue=QUEUE)
    around.send("regrow.dead_letters.capture", "x" * 3000, queue=QUEUE)
    with (
        celery.Celery(broker=around.broker_url, backend=around.redis_url, set_as_current=False) as app,
        running(worker(around)) as program,
    ):
        send = app.send_task
        asked = send("regrow.dead_letters.capture", kwargs={"message": {"number": 60}}, queue=QUEUE)
        linked = send(
            "regrow.dead_letters.capture",
            kwargs={"message": {"number": 61}},
            queue=QUEUE,
            link=app.signature("test.work", args=("linked",), immutable=True, queue="regrow.control"),
        )
        ready(program)
        assert [asked.get(timeout=30), linked.get(timeout=30)] == [asked.id, linked.id]
        eventually(lambda: around.ended("linked") == 1, what="what was to follow one of them")
        # The call that fails is a letter itself, as it is when it comes alone.
        eventually(lambda: len(around.letters()) == 63)
        assert transactions(around) < 30
        assert [letter["task_id"] for letter in around.letters() if letter["task_id"]] == [bad_call]
        assert len(list((around.home / "unfiled").glob("*.json"))) == 1

        with no_commits(around):
            capture(around, 50, start=100)
            for child in eventually(lambda: waiting(around) == 0 and writing(program)):
                child.kill()
            eventually(lambda: program.says("letters.group_lost"))
        numbers = [*range(62), *range(100, 150)]
        eventually(lambda: len(around.letters()) == len(numbers) + 1, 40)
        assert (
            sorted(
                int(letter["body"].split(b":")[1].strip(b" }"))
                for letter in around.letters()
                if letter["task_id"] != bad_call
            )
            == numbers
        )
        program.signal(signal.SIGTERM)
        assert program.wait(20) == 0
    assert waiting(around) == 0


def test_captures_in_hand_of_a_killed_or_stopped_worker_are_kept_once_by_the_next(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url=broker_url, REGROW_CELERY__VISIBILITY_TIMEOUT="6")
    with running(worker(around, "killed")) as program:
        ready(program)
        with no_commits(around):
            capture(around, 80)
            eventually(lambda: waiting(around) == 0 and writing(program), 40, what="all are in hand")
            program.signal(signal.SIGKILL)
            program.wait()
    assert kept(around) == []
    with running(worker(around, "stopped")) as program:
        ready(program)
        eventually(lambda: kept(around) == list(range(80)), 40, what="the next worker has them")
        with no_commits(around):
            capture(around, 250, start=80)
            eventually(lambda: writing(program) and waiting(around) < 150, 40, what="many are in hand")
            program.signal(signal.SIGTERM)
            eventually(lambda: program.says("drain.started"), 40)
        assert program.wait(60) == 0
        assert not program.says("Traceback")
    # What a child had was finished; what only waited for one is in the queue again. (On a machine that stands
    # still for longer than the visibility timeout, some may be both: the next worker knows them.)
    numbers = kept(around)
    assert len(numbers) == len(set(numbers)) > 80
    assert set(numbers) | taken_out(around) == set(range(330))


def test_while_the_database_is_away_captures_go_back_to_their_queue(
    surroundings: MakeSurroundings, own_mysql: MariaServer
) -> None:
    admin = sa.create_engine(own_mysql.url(), isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE regrow CHARACTER SET utf8mb4")
    tables = Database(own_mysql.url("regrow"))
    tables.upgrade()
    tables.close()
    around = surroundings(REGROW_DATABASE_URL=own_mysql.url("regrow"))
    with running(worker(around)) as program:
        ready(program)
        capture(around, 1)
        database = sa.create_engine(own_mysql.url("regrow"), poolclass=sa.pool.NullPool)

        def count(table: sa.Table) -> int:
            with database.connect() as connection:
                return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

        eventually(lambda: count(dead_letters) == 1)
        own_mysql.kill()
        capture(around, 30, start=1)
        eventually(lambda: program.says("letter.waiting"), what="the worker sees that it is away")
        own_mysql.start()
        eventually(lambda: count(dead_letters) == count(capture_events) == 31, 40)
        eventually(lambda: waiting(around) + around.traces.hlen("regrow.unacked") == 0)
        assert not program.says("message.poison")
