"""Reading the stores for an answer: bounded in time, once for all who ask at the same moment, never fatal.

This is the web process's whole policy for an absent store: what cannot be read is :class:`Unknown`, with
the reason in words, and the rest of the answer stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis
import sqlalchemy as sa
import structlog

from regrow.engine import Engine
from regrow.errors import RegrowError, StoreUnavailableError

logger = structlog.get_logger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

READ_SECONDS = 3.0


@dataclass(frozen=True)
class Known(Generic[T_co]):
    """What a store said."""

    value: T_co


@dataclass(frozen=True)
class Unknown:
    """Nothing is known, and why: a sentence for people, to be shown to those who hold the key."""

    why: str

    def as_json(self) -> dict[str, str]:
        return {"status": "unknown", "reason": self.why}


Fact = Known[T_co] | Unknown


def known(fact: Fact[T], otherwise: U) -> T | U:
    """The value of a fact, or ``otherwise`` while it is unknown."""
    return fact.value if isinstance(fact, Known) else otherwise


class Reader:
    """Reads sources (``source(engine, *arguments)``) in threads, each for at most ``seconds``.

    A read that is under way is shared, also by those who come after its first caller gave up: a store
    that hangs costs one thread a source, not one a request.
    """

    def __init__(self, engine: Engine, *, seconds: float = READ_SECONDS, threads: int = 16) -> None:
        self.engine = engine
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}

    async def read(self, source: Callable[..., T], *arguments: Hashable) -> Fact[T]:
        """What the source says. Its own :class:`RegrowError` (no such report) goes on to the caller."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._join(source, arguments)), self._seconds)
        except TimeoutError:
            return Unknown(f"no answer within {self._seconds:g} seconds")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _join(self, source: Callable[..., T], arguments: tuple[Hashable, ...]) -> asyncio.Future[Fact[T]]:
        what = (source, arguments)
        if what not in self._under_way:
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self._threads, _look, source, self.engine, arguments)
            reading.add_done_callback(lambda done: self._finish(what, done))
            self._under_way[what] = reading
        return self._under_way[what]

    def _finish(self, what: Hashable, done: asyncio.Future[Any]) -> None:
        del self._under_way[what]
        if not done.cancelled():
            done.exception()  # seen, also when everybody who asked has gone


def _look(source: Callable[..., T], engine: Engine, arguments: tuple[Hashable, ...]) -> Fact[T]:
    """Ask the source; an outage and a defect alike become what they mean to the reader: nothing is known."""
    name = getattr(source, "__name__", str(source))
    try:
        return Known(source(engine, *arguments))
    except StoreUnavailableError as error:
        why = str(error)
    except RegrowError:
        raise
    except redis.RedisError as error:
        why = f"Redis did not answer: {error}"
    except sa.exc.DBAPIError as error:
        why = f"the database refused: {error.orig}"
    except Exception as error:
        logger.exception("web.defect", source=name)
        return Unknown(f"could not be read ({type(error).__name__}); the log says more")
    logger.warning("web.unreadable", source=name, reason=why)
    return Unknown(why)
