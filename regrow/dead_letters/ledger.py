"""The conservation ledger: of every letter that was ever accepted, the books say where it is.

    accepted = live + resolved + discarded + purged        per service, exact

Each change writes one row of what it changed (``ledger_deltas``), in its own transaction; nobody updates a
row that others update, so nobody waits. A job folds the deltas into ``ledger_totals``. Whoever reads takes
totals, deltas and the letters themselves in one statement, which is one snapshot, and compares: the books
say what must be there, the rows say what is.

The functions are steps inside the caller's transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database.inserting import insert_new
from regrow.database.tables import dead_letters, ledger_deltas, ledger_totals
from regrow.dead_letters.rules import UNSETTLED, State

_AMOUNTS = ("accepted", "resolved", "discarded", "purged")
_BOOKS = ""
"""What stands in the place of a state in the rows that come from the books."""


@dataclass(frozen=True)
class Entry:
    """What is booked, in letters. ``resolved`` and ``discarded`` are those that are not purged yet."""

    accepted: int = 0
    resolved: int = 0
    discarded: int = 0
    purged: int = 0

    @property
    def live(self) -> int:
        return self.accepted - self.resolved - self.discarded - self.purged

    def __add__(self, other: Entry) -> Entry:
        return Entry(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Entry) -> Entry:
        return Entry(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> Entry:
        return Entry(*(amount * times for amount in astuple(self)))

    def __bool__(self) -> bool:
        return any(astuple(self))


@dataclass(frozen=True)
class Account:
    """One service: what is booked, and the letters that were counted, by state.

    ``opened_at``: the books were opened on letters that were there already; what had been purged before
    that moment is in no book. None: every letter of the service is booked.
    """

    service: str
    booked: Entry
    counted: Mapping[str, int]
    opened_at: datetime | None = None

    @property
    def live(self) -> int:
        return sum(self.counted.get(state, 0) for state in UNSETTLED)

    @property
    def resolved(self) -> int:
        return self.counted.get(State.RESOLVED, 0)

    @property
    def discarded(self) -> int:
        return self.counted.get(State.DISCARDED, 0)

    @property
    def balance(self) -> int:
        """accepted - live - resolved - discarded - purged: above 0 letters are missing, below 0 doubled."""
        return self.booked.accepted - self.live - self.resolved - self.discarded - self.booked.purged

    @property
    def differences(self) -> dict[str, int]:
        """Booked minus counted, where they differ; a letter that was settled past the books shows here."""
        pairs = {
            "live": self.booked.live - self.live,
            "resolved": self.booked.resolved - self.resolved,
            "discarded": self.booked.discarded - self.discarded,
        }
        return {name: difference for name, difference in pairs.items() if difference}

    @property
    def balanced(self) -> bool:
        return not self.differences

    def as_json(self) -> dict[str, Any]:
        """The equation in numbers; ``states`` are the letters that are there."""
        return {
            "accepted": self.booked.accepted,
            "live": self.live,
            "resolved": self.resolved,
            "discarded": self.discarded,
            "purged": self.booked.purged,
            "balance": self.balance,
            "differences": self.differences,
            "states": dict(self.counted),
        }


@dataclass(frozen=True)
class Ledger:
    """All services, by name."""

    accounts: tuple[Account, ...] = field(default=())

    @property
    def balanced(self) -> bool:
        return all(account.balanced for account in self.accounts)

    @property
    def unbalanced(self) -> tuple[Account, ...]:
        return tuple(account for account in self.accounts if not account.balanced)

    @property
    def opened_at(self) -> datetime | None:
        """The latest moment at which books were opened on letters that were there already."""
        return max((account.opened_at for account in self.accounts if account.opened_at), default=None)

    def as_json(self) -> dict[str, Any]:
        """``balanced``, ``opened_at`` and the accounts by service, as JSON values."""
        return {
            "balanced": self.balanced,
            "opened_at": self.opened_at.isoformat() if self.opened_at else None,
            "services": {account.service: account.as_json() for account in self.accounts},
        }

    def total(self) -> Account:
        """All services as one account."""
        states = {state for account in self.accounts for state in account.counted}
        return Account(
            "",
            sum((account.booked for account in self.accounts), Entry()),
            {state: sum(account.counted.get(state, 0) for account in self.accounts) for state in states},
            self.opened_at,
        )


def add(connection: sa.Connection, entries: Mapping[str, Entry]) -> None:
    """Book what changed, by service: one row a service, however many letters."""
    rows = [
        {"service": service, **dict(zip(_AMOUNTS, astuple(entry), strict=True))}
        for service, entry in entries.items()
        if entry
    ]
    if rows:
        connection.execute(sa.insert(ledger_deltas), rows)


def accepted(connection: sa.Connection, services: Iterable[str]) -> None:
    """Book new letters, of these services (named once for each letter)."""
    add(connection, {service: Entry(accepted=letters) for service, letters in Counter(services).items()})


def moved(connection: sa.Connection, service: str, was: State, to: State) -> None:
    """Book one letter's way from a state to another; between live states there is nothing to book."""
    add(connection, {service: _holding(to) - _holding(was)})


def settled(connection: sa.Connection, services: Iterable[str], state: State) -> None:
    """Book letters that this transaction moved from a live state to ``state``, by the service of each."""
    entry = _holding(state)
    add(connection, {service: entry * letters for service, letters in Counter(services).items()})


def purged(connection: sa.Connection, letters: Iterable[tuple[str, State]]) -> None:
    """Book settled letters that are deleted: (service, the state they were in) of each."""
    entries: dict[str, Entry] = {}
    for service, state in letters:
        entries[service] = entries.get(service, Entry()) + Entry(purged=1) - _holding(state)
    add(connection, entries)


def _holding(state: State) -> Entry:
    return Entry(resolved=int(state == State.RESOLVED), discarded=int(state == State.DISCARDED))


def fold(connection: sa.Connection, limit: int) -> int:
    """Add up to ``limit`` deltas to the totals and delete them; returns how many.

    Rows of writers that have not committed, and of another folder, are skipped.
    """
    query = sa.select(ledger_deltas).order_by(ledger_deltas.c.id).limit(limit)
    rows = connection.execute(query.with_for_update(skip_locked=True)).mappings().all()
    entries: dict[str, Entry] = {}
    for row in rows:
        entry = Entry(*(row[name] for name in _AMOUNTS))
        entries[row["service"]] = entries.get(row["service"], Entry()) + entry
    for service in sorted(entries):  # in one order, so that two folders do not wait for each other
        _add_to_total(connection, service, entries[service])
    if rows:
        ids = [row["id"] for row in rows]
        connection.execute(sa.delete(ledger_deltas).where(ledger_deltas.c.id.in_(ids)))
    return len(rows)


def _add_to_total(connection: sa.Connection, service: str, entry: Entry) -> None:
    change = (
        sa.update(ledger_totals)
        .where(ledger_totals.c.service == service)
        .values({name: ledger_totals.c[name] + getattr(entry, name) for name in _AMOUNTS})
    )
    if connection.execute(change).rowcount == 0:
        connection.execute(insert_new(ledger_totals).values(service=service, **dict.fromkeys(_AMOUNTS, 0)))
        connection.execute(change)


def read(connection: sa.Connection) -> Ledger:
    """Books and letters as they were at one moment: one statement, because that is what has one snapshot."""
    amounts = [ledger_totals.c[name] for name in _AMOUNTS]
    booked = sa.union_all(
        sa.select(ledger_totals.c.service, ledger_totals.c.opened_at, *amounts),
        sa.select(
            ledger_deltas.c.service,
            sa.null().label("opened_at"),
            *(sa.func.sum(ledger_deltas.c[name]).label(name) for name in _AMOUNTS),
        ).group_by(ledger_deltas.c.service),
    ).subquery()
    statement = sa.union_all(
        sa.select(
            booked.c.service,
            sa.literal(_BOOKS).label("state"),
            booked.c.opened_at,
            *(booked.c[name] for name in _AMOUNTS),
        ),
        sa.select(
            dead_letters.c.service,
            dead_letters.c.state,
            sa.null(),
            sa.func.count(),
            *(sa.literal(0) for _ in _AMOUNTS[1:]),
        ).group_by(dead_letters.c.service, dead_letters.c.state),
    )
    booked_by: dict[str, Entry] = {}
    counted: dict[str, dict[str, int]] = {}
    opened: dict[str, datetime] = {}
    for service, state, opened_at, *numbers in connection.execute(statement):
        if state == _BOOKS:
            booked_by[service] = booked_by.get(service, Entry()) + Entry(*map(int, numbers))
            if opened_at is not None:
                opened[service] = opened_at
        else:
            counted.setdefault(service, {})[state] = int(numbers[0])
    return Ledger(
        tuple(
            Account(name, booked_by.get(name, Entry()), counted.get(name, {}), opened.get(name))
            for name in sorted(booked_by.keys() | counted.keys())
        )
    )
