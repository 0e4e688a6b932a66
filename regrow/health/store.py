"""Where results are kept: live in Redis, for good in the database. Each method is one step.

Redis: ``regrow:{health}:latest`` (hash, check to result), ``regrow:{health}:history:<check>`` (list, newest
first, trimmed) and ``regrow:{health}:claim:<check>`` (who runs it now). All carry one hash tag. Redis and
driver errors become StoreUnavailableError, so that the service applies one policy for an absent store.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

import redis
import sqlalchemy as sa

from regrow.database import Database
from regrow.database.inserting import insert_many
from regrow.database.retention import delete_older
from regrow.database.tables import check_results
from regrow.errors import StoreUnavailableError
from regrow.health.rules import STATUSES, Result
from regrow.redis_scripts import call, script

LATEST = "regrow:{health}:latest"
HISTORY = "regrow:{health}:history:"
CLAIM = "regrow:{health}:claim:"
_HERE = "regrow.health"


class LiveResults:
    """The last results in Redis. ``keep`` seconds after its last result, a check's history is forgotten."""

    def __init__(self, client: redis.Redis, history_size: int, keep: float) -> None:
        self._client = client
        self._history_size = history_size
        self._keep = keep

    def latest(self) -> dict[str, Result]:
        """The last result of every check that has one; what cannot be read as a result is left out."""
        with redis_errors():
            told = cast("dict[str, str]", self._client.hgetall(LATEST))
        found = {name: _from_json(text) for name, text in told.items()}
        return {name: result for name, result in found.items() if result is not None}

    def write(self, results: Sequence[Result]) -> None:
        """Keep all results, or none of them."""
        told: dict[str, list[str]] = {}
        for result in results:
            told.setdefault(result.check, []).append(_to_json(result))
        if not told:
            return
        keys = [LATEST, *(HISTORY + name for name in told)]
        arguments: list[str | int] = [self._history_size, _milliseconds(self._keep)]
        for name, texts in told.items():
            arguments += [name, len(texts), *texts]
        # One call: three commands for each result cost more than all the rest of keeping it.
        with redis_errors():
            call(self._client, script(_HERE, "keep_results.lua"), keys, arguments)

    def forget(self, declared: Collection[str], before: datetime) -> None:
        """Drop the last results of checks that are not declared any more, and older than this."""
        gone = [name for name, result in self.latest().items() if name not in declared and result.at < before]
        if gone:
            with redis_errors():
                self._client.hdel(LATEST, *gone)

    def history(self, name: str, limit: int) -> list[Result]:
        with redis_errors():
            told = cast("list[str]", self._client.lrange(HISTORY + name, 0, limit - 1))
        return [result for text in told if (result := _from_json(text)) is not None]

    def claim(self, seconds: Mapping[str, float], owner: str, *, force: bool = False) -> set[str]:
        """Claim checks, each for so many seconds; returns those that nobody else has claimed.

        ``force`` takes every claim over: nobody else begins then, but who has begun goes on.
        """
        with redis_errors(), self._client.pipeline(transaction=False) as batch:
            for name, span in seconds.items():
                batch.set(CLAIM + name, owner, nx=not force, px=_milliseconds(span))
            answers = batch.execute()
        return {name for name, answer in zip(seconds, answers, strict=True) if answer}

    def take_over(self, spans: Mapping[str, float], ages: Mapping[str, float], owner: str) -> set[str]:
        """Claim checks again whose claimed run is over; returns these. One that is under way is left alone.

        ``spans``: for how many seconds each is claimed; ``ages``: how many seconds ago its last run began. A
        claim that is younger than that run is of a newer one.
        """
        names = sorted(spans)
        if not names:
            return set()
        told = [value for name in names for value in (_milliseconds(spans[name]), _milliseconds(ages[name]))]
        with redis_errors():
            taken = call(
                self._client, script(_HERE, "take_over.lua"), [CLAIM + name for name in names], [owner, *told]
            )
        return {name for name, answer in zip(names, taken, strict=True) if answer}

    def held(self, names: Sequence[str], owner: str) -> set[str]:
        """Those that this owner has claimed, and whose claim has not run out."""
        with redis_errors():
            told = cast("list[str | None]", self._client.mget([CLAIM + name for name in names]))
        return {name for name, by in zip(names, told, strict=True) if by == owner}


class KeptResults:
    """All results in the database, until they are pruned."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, names: Collection[str]) -> dict[str, Result]:
        """The last result of each of these checks that has one."""
        newest = (
            sa.select(check_results.c.check_name, sa.func.max(check_results.c.at).label("at"))
            .where(check_results.c.check_name.in_(sorted(names)))
            .group_by(check_results.c.check_name)
            .subquery()
        )
        rows = sa.select(check_results).join(
            newest,
            sa.and_(check_results.c.check_name == newest.c.check_name, check_results.c.at == newest.c.at),
        )
        return {result.check: result for result in self._read(rows)}

    def write(self, results: Sequence[Result]) -> None:
        """Keep all results and nothing else of them, in one transaction."""
        with database_errors():
            self._database.run(lambda connection: insert_results(connection, results))

    def history(self, name: str, limit: int) -> list[Result]:
        query = sa.select(check_results).where(check_results.c.check_name == name)
        return self._read(query.order_by(check_results.c.at.desc()).limit(limit))

    def counted(self, since: datetime) -> dict[str, int]:
        """How many results of each status there are from ``since`` on."""
        query = (
            sa.select(check_results.c.status, sa.func.count())
            .where(check_results.c.at >= since)
            .group_by(check_results.c.status)
        )
        with database_errors(), self._database.snapshot() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def prune(self, before: datetime) -> int:
        """Delete what is older, in chunks; returns how many."""
        with database_errors():
            return delete_older(self._database, check_results, check_results.c.at, before)

    def _read(self, query: sa.Select[Any]) -> list[Result]:
        with database_errors(), self._database.snapshot() as connection:
            return [_from_row(row) for row in connection.execute(query).mappings()]


def insert_results(connection: sa.Connection, results: Sequence[Result]) -> None:
    """Keep these; those that are kept already stay as they are."""
    # Whoever else had the same check at the same microsecond said the same.
    insert_many(connection, check_results, [_to_row(result) for result in results], ignore=True)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


@contextmanager
def redis_errors() -> Iterator[None]:
    """What Redis' driver raises becomes StoreUnavailableError."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StoreUnavailableError(f"Redis did not answer: {type(error).__name__}: {error}") from error


@contextmanager
def database_errors() -> Iterator[None]:
    """What the database's driver raises becomes StoreUnavailableError."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise StoreUnavailableError(f"the database refused: {error.orig}") from error


def _to_json(result: Result) -> str:
    fields = {
        "check": result.check,
        "status": result.status,
        "message": result.message,
        "latency": round(result.latency, 6),
        "at": result.at.isoformat(),
        "interval": result.interval,
        "data": dict(result.data),
        **({"maintenance": result.maintenance} if result.maintenance else {}),
    }
    return compact(fields)


compact = json.JSONEncoder(separators=(",", ":")).encode
"""Short JSON. ``json.dumps`` makes an encoder for each value that is written otherwise than by default."""


def _from_json(text: str) -> Result | None:
    """A result as it was written; None for anything else that got into the key."""
    try:
        told = json.loads(text)
        at = datetime.fromisoformat(told["at"])
        if told["status"] not in STATUSES or at.tzinfo is None or not isinstance(told["data"], dict):
            return None
        return Result(
            check=str(told["check"]),
            status=told["status"],
            message=str(told["message"]),
            latency=float(told["latency"]),
            at=at,
            interval=float(told["interval"]),
            data=told["data"],
            maintenance=told.get("maintenance"),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _to_row(result: Result) -> dict[str, Any]:
    return {
        "check_name": result.check,
        "at": result.at,
        "status": result.status,
        "latency": result.latency,
        "interval": result.interval,
        "message": result.message,
        "data": dict(result.data) if result.data else _NO_DATA,
        "maintenance": result.maintenance,
    }


_NO_DATA: dict[str, Any] = {}
"""One for all results that have none: what all rows share is made ready once."""


def _from_row(row: Any) -> Result:
    return Result(
        check=row["check_name"],
        status=row["status"] if row["status"] in STATUSES else "unknown",
        message=row["message"],
        latency=row["latency"],
        at=row["at"],
        interval=row["interval"],
        data=row["data"],
        maintenance=row["maintenance"],
    )
