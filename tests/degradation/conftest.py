from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from regrow.degradation import process
from regrow.degradation.store import LevelStore
from regrow.degradation.watch import Watch
from regrow.engine import Engine
from regrow.settings import Settings


@dataclass(frozen=True)
class Check:
    """A check as it stands, as the level's service sees it."""

    name: str
    status: str = "healthy"
    required: bool = False
    maintenance: str | None = None

    @property
    def counts_as(self) -> str:
        return self.status


def checks(*down: str, status: str = "unhealthy", of: int = 10) -> list[Check]:
    """Ten checks called a, b, c ..., of which some are down."""
    names = [chr(ord("a") + number) for number in range(of)]
    return [Check(name, status if name in down else "healthy") for name in names]


AT_ONCE = {"REGROW_DEGRADATION__WORSEN_AFTER": "0", "REGROW_DEGRADATION__IMPROVE_AFTER": "0"}


def _on(settings: Settings) -> Iterator[Engine]:
    engine = Engine(settings)
    engine.database.upgrade()
    yield engine
    engine.close()


@pytest.fixture
def at_once(make_settings: Callable[..., Any], redis_url: str, sqlite_url: str) -> Iterator[Engine]:
    """An engine whose level changes with the first score that is beyond a boundary."""
    yield from _on(make_settings(redis_url, sqlite_url, **AT_ONCE))


@pytest.fixture
def each_at_once(make_settings: Callable[..., Any], redis_url: str, database_url: str) -> Iterator[Engine]:
    """The same on every database."""
    yield from _on(make_settings(redis_url, database_url, **AT_ONCE))


@pytest.fixture
def make_watch() -> Iterator[Callable[..., Watch]]:
    """Watches that stand for processes."""
    made: list[Watch] = []

    def make(url: str | None) -> Watch:
        made.append(Watch(LevelStore.from_url(url) if url else None))
        return made[-1]

    yield make
    for watch in made:
        watch.close()


@pytest.fixture
def this_process(monkeypatch: pytest.MonkeyPatch, make_watch: Callable[..., Watch]) -> Callable[..., Watch]:
    """Give this process a watch of its own on a Redis."""

    def be(url: str | None) -> Watch:
        watch = make_watch(url)
        monkeypatch.setattr(process, "_watch", watch)
        return watch

    return be
