"""Where states and changes of checks are kept: for good in the database, live in Redis.

The database is the truth. Redis has a copy of the states (``regrow:{health}:states``, a hash), and, while the
database is away, the changes that are to be written to it (``regrow:{health}:untold``, a list). Of two states
the one with the higher ``number`` holds, then the later one: what Redis went on with in an outage of the
database wins over it, and what an emptied Redis began anew does not. A change is written once, because
``(check, number)`` is unique.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import redis
import sqlalchemy as sa

from regrow.database import Database
from regrow.database.retention import delete_older
from regrow.database.tables import check_changes, check_states
from regrow.database.upserts import add_new, put
from regrow.health.rules import STATUSES, Result
from regrow.health.status import KINDS, Change, State
from regrow.health.store import compact, database_errors, insert_results, redis_errors

STATES = "regrow:{health}:states"
UNTOLD = "regrow:{health}:untold"
_UNTOLD_LIMIT = 10_000

Fold = Callable[[dict[str, State]], tuple[list[State], list[Change]]]
"""From the states that are kept to those that hold now, and the changes in between."""


@dataclass(frozen=True)
class KeptChange:
    """A change as it stands in the table; ``id`` grows, but rows may become visible out of its order."""

    id: int
    change: Change


class LiveStates:
    """The copy in Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def read(self) -> dict[str, State]:
        """All states; what cannot be read as one is left out."""
        with redis_errors():
            told = cast("dict[str, str]", self._client.hgetall(STATES))
        found = (_state_from_json(text) for text in told.values())
        return {state.check: state for state in found if state is not None}

    def forget(self, declared: Collection[str], before: datetime) -> None:
        """Drop the states of checks that are not declared any more, and older than this."""
        gone = [name for name, state in self.read().items() if name not in declared and state.at < before]
        if gone:
            with redis_errors():
                self._client.hdel(STATES, *gone)

    def write(self, states: Iterable[State]) -> None:
        if mapping := _texts(states):
            with redis_errors():
                self._client.hset(STATES, mapping=mapping)

    def write_untold(self, states: Iterable[State], changes: Sequence[Change]) -> None:
        """Keep the states, and the changes until the database is back; all or nothing."""
        with redis_errors(), self._client.pipeline(transaction=True) as batch:
            batch.hset(STATES, mapping=_texts(states))
            for change in changes:
                batch.rpush(UNTOLD, _change_to_json(change))
            batch.ltrim(UNTOLD, -_UNTOLD_LIMIT, -1)
            batch.execute()

    def untold(self) -> list[str]:
        """What waits for the database, oldest first, as it is written."""
        with redis_errors():
            return cast("list[str]", self._client.lrange(UNTOLD, 0, -1))

    def told(self, texts: Sequence[str]) -> None:
        """Forget these: the database has them."""
        with redis_errors(), self._client.pipeline(transaction=True) as batch:
            for text in texts:
                batch.lrem(UNTOLD, 1, text)
            batch.execute()


class KeptStates:
    """The tables ``check_states`` and ``check_changes``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, names: Collection[str] | None = None) -> dict[str, State]:
        query = sa.select(check_states)
        if names is not None:
            query = query.where(check_states.c.check_name.in_(sorted(names)))
        with database_errors(), self._database.snapshot() as connection:
            return _states(connection, query)

    def write(
        self, results: Sequence[Result], fold: Fold, earlier: Sequence[Change] = ()
    ) -> tuple[list[State], list[Change]]:
        """Results, what they amount to and the changes that they make, in one transaction.

        ``fold`` is given the states of these checks, locked. ``earlier``: changes of a time in which the
        database was away. Changes that are there already stay as they are. Done again after a lost race.
        """
        names = sorted({result.check for result in results})
        locked = sa.select(check_states).where(check_states.c.check_name.in_(names)).with_for_update()

        def work(connection: sa.Connection) -> tuple[list[State], list[Change]]:
            states, changes = fold(_states(connection, locked))
            insert_results(connection, results)
            put(connection, check_states, [_state_row(state) for state in states])
            add_new(connection, check_changes, [_change_row(change) for change in (*earlier, *changes)])
            return states, changes

        with database_errors():
            return self._database.run(work)

    def changes(
        self,
        *,
        check: str | None = None,
        since: datetime | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[KeptChange]:
        """Changes, the newest first; with ``after`` (an id) those above it, the oldest first."""
        query = sa.select(check_changes).limit(limit)
        if check is not None:
            query = query.where(check_changes.c.check_name == check)
        if since is not None:
            query = query.where(check_changes.c.at >= since)
        if after is not None:
            query = query.where(check_changes.c.id > after).order_by(check_changes.c.id)
        else:
            query = query.order_by(check_changes.c.at.desc(), check_changes.c.id.desc())
        with database_errors(), self._database.snapshot() as connection:
            return [KeptChange(row["id"], _change(row)) for row in connection.execute(query).mappings()]

    def prune(self, before: datetime) -> int:
        """Delete changes that are older, in chunks; returns how many."""
        with database_errors():
            return delete_older(self._database, check_changes, check_changes.c.at, before)


def _states(connection: sa.Connection, query: sa.Select[Any]) -> dict[str, State]:
    return {row["check_name"]: _state(row) for row in connection.execute(query).mappings()}


def _state_row(state: State) -> dict[str, Any]:
    return {
        "check_name": state.check,
        "status": state.status,
        "flapping": state.flapping,
        "since": state.since,
        "at": state.at,
        "number": state.number,
        "maintenance": state.maintenance,
        "memory": {
            "began": state.began.isoformat(),
            "recent": state.recent,
            "behind": state.behind,
            "off_since": state.off_since.isoformat() if state.off_since else None,
        },
    }


def _state(row: Any) -> State:
    memory = row["memory"]
    return State(
        check=row["check_name"],
        status=row["status"] if row["status"] in STATUSES else "unknown",
        since=row["since"],
        began=datetime.fromisoformat(memory["began"]),
        number=row["number"],
        at=row["at"],
        recent=memory["recent"],
        flapping=row["flapping"],
        behind=memory["behind"],
        off_since=datetime.fromisoformat(memory["off_since"]) if memory["off_since"] else None,
        maintenance=row["maintenance"],
    )


def _change_row(change: Change) -> dict[str, Any]:
    row = {name: getattr(change, name) for name in Change.__dataclass_fields__}
    return {"check_name": row.pop("check"), "began_at": row.pop("began"), **row}


def _change(row: Any) -> Change:
    told = dict(row)
    del told["id"]
    return Change(check=told.pop("check_name"), began=told.pop("began_at"), **told)


def _texts(states: Iterable[State]) -> dict[Any, Any]:
    return {state.check: _state_to_json(state) for state in states}


def _state_to_json(state: State) -> str:
    row = _state_row(state)
    times = {name: row[name].isoformat() for name in ("since", "at")}
    return compact({**row, **times})


def _state_from_json(text: str) -> State | None:
    """A state as it was written; None for anything else that got into the key."""
    try:
        told = json.loads(text)
        state = _state({**told, **{name: datetime.fromisoformat(told[name]) for name in ("since", "at")}})
    except (ValueError, TypeError, KeyError):
        return None
    return state if state.at.tzinfo and isinstance(state.number, int) else None


def _change_to_json(change: Change) -> str:
    row = _change_row(change)
    times = {name: row[name].isoformat() for name in ("at", "began_at")}
    return compact({**row, **times})


def change_from_json(text: str) -> Change | None:
    """A change that waited in Redis; None for anything else that got into the list."""
    try:
        told = json.loads(text)
        times = {name: datetime.fromisoformat(told[name]) for name in ("at", "began_at")}
        change = _change({"id": 0, **told, **times})
    except (ValueError, TypeError, KeyError):
        return None
    known = change.kind in KINDS and change.to_status in STATUSES and change.at.tzinfo is not None
    return change if known else None
