"""A clock that tests move, a broker that tests look into, and engines that use both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from regrow.database import Database
from regrow.dead_letters import leasing, overdue
from regrow.dead_letters.captured import Capture, of_message
from regrow.dead_letters.home import HEADER, HomeMessage
from regrow.dead_letters.posting import Posting
from regrow.dead_letters.second_copies import QueueLook
from regrow.dead_letters.store import Leased
from regrow.engine import Engine
from regrow.errors import RouteError, StoreUnavailableError


@dataclass
class Clock:
    now: datetime = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Post:
    """A Sender that keeps what it was given; ``away`` and ``no_queue`` make it fail as a broker does."""

    home: list[tuple[str, HomeMessage]] = field(default_factory=list)
    sent: list[tuple[str, dict[str, object], str]] = field(default_factory=list)
    posted: list[Posting] = field(default_factory=list)
    away: bool = False
    no_queue: bool = False
    queues: dict[str, QueueLook] = field(default_factory=dict)

    def send(self, task: str, kwargs: dict[str, object], *, queue: str) -> None:
        if self.away:
            raise StoreUnavailableError("the broker is away")
        self.sent.append((task, kwargs, queue))

    def send_home(self, message: HomeMessage, *, queue: str) -> None:
        if self.away:
            raise StoreUnavailableError("the broker is away")
        if self.no_queue:
            raise RouteError(f"the broker has no queue {queue!r}")
        self.home.append((queue, message))

    def publish(self, posting: Posting) -> None:
        if self.away:
            raise StoreUnavailableError("the broker is away")
        self.posted.append(posting)

    def exists(self, *, queue: str = "", exchange: str = "") -> bool | None:
        if self.away:
            raise StoreUnavailableError("the broker is away")
        return not self.no_queue

    def look(self, queue: str) -> QueueLook:
        if self.away:
            raise StoreUnavailableError("the broker is away")
        return self.queues.get(queue, QueueLook(0))

    @property
    def attempts(self) -> list[str]:
        return [message.headers[HEADER] for _, message in self.home]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def letters(make_settings, database_url: str, clock: Clock, post: Post) -> Iterator[Engine]:
    """An engine on each real database, with the test's clock and post, and no Redis."""
    engine = Engine(make_settings(database_url=database_url), sender=post, clock=clock)
    engine.database.upgrade()
    yield engine
    engine.close()


def call(number: int = 1, **options: object) -> Capture:
    """A failed call of the task ``shop.charge``."""
    message = {"task": "shop.charge", "args": [number], "kwargs": {"currency": "EUR"}, "queue": "shop"}
    return of_message(message, **{"error": ValueError("no funds"), "service": "payments", **options})


def free(_engine: Engine, _services: object) -> dict[str, float]:
    """No breaker is open."""
    return {}


def rows(database: Database, query: object) -> list[object]:
    with database.snapshot() as connection:
        return list(connection.execute(query))


def take(
    engine: Engine, *, owner: str = "w", seconds: float = 6, limit: int = 1, now: datetime | None = None
) -> list[Leased]:
    """Lease due letters of ``payments``, as a redriver does."""
    at = now or engine.clock()
    return engine.database.run(
        lambda c: leasing.lease_some(c, "payments", owner=owner, now=at, seconds=seconds, limit=limit)
    )[0]


def return_overdue(engine: Engine) -> int:
    """How many letters came back whose lease or deadline had passed."""
    return overdue.look_after_overdue(engine).returned
