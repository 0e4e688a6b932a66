"""Where alerts, silences and what is to be told are kept: the database. Each method is one transaction.

A look holds the one row of ``alert_looks``, so that two workers look one after the other; what is decided and
what is to be told are written together. A notice is settled by whoever holds its lease.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa

from regrow import audit
from regrow.alerts import outbox
from regrow.alerts.model import Alert, Notice, Reason, Silence, Status
from regrow.alerts.rules import Decided, Key
from regrow.audit import Act
from regrow.database import Database, upserts
from regrow.database.tables import alert_looks, alert_notices, alert_silences
from regrow.database.tables import alerts as table
from regrow.errors import AlertNotFoundError, StoreUnavailableError

T = TypeVar("T")

_LOOK = 1
TEXT = 2_000
_NAMES = tuple(Alert.__dataclass_fields__)


@dataclass(frozen=True)
class Kept:
    """An alert as it is kept, with the reasons of the last look."""

    alert: Alert
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Sent:
    """A notice as it is kept. ``status``: waiting, sent, refused, or folded into a digest."""

    id: int
    notice: Notice
    status: str
    due_at: datetime
    attempts: int
    settled_at: datetime | None
    error: str | None


@dataclass(frozen=True)
class Taken:
    """A notice under a lease; whoever settles it carries the token."""

    id: int
    notice: Notice
    attempts: int
    token: str


class Alerts:
    """The tables of alerts. Any method raises StoreUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(
        self, now: datetime, decide: Callable[[Mapping[Key, Alert], tuple[Silence, ...]], Decided]
    ) -> Decided | None:
        """Decide over what is kept, and keep what follows. None: somebody has looked at a later time."""

        def work(connection: sa.Connection) -> Decided | None:
            upserts.add_new(connection, alert_looks, [{"id": _LOOK, "at": None}])
            lock = sa.select(alert_looks.c.at).where(alert_looks.c.id == _LOOK).with_for_update()
            last: datetime | None = connection.execute(lock).scalar_one()
            if last is not None and last > now:
                return None
            before = _standing(connection)
            decided = decide(before, _silences(connection, now))
            _write(connection, before, decided)
            connection.execute(sa.update(alert_looks).where(alert_looks.c.id == _LOOK).values(at=now))
            return decided

        with errors():
            return self._database.run(work)

    def standing(self, now: datetime) -> tuple[dict[Key, Alert], tuple[Silence, ...], datetime | None]:
        """What a look would begin with, and when the last one was; nothing is changed."""
        with errors(), self._database.snapshot() as connection:
            at = connection.execute(sa.select(alert_looks.c.at)).scalar_one_or_none()
            return _standing(connection), _silences(connection, now), at

    def newest(self, *, status: Status | None = None, limit: int = 100) -> list[Kept]:
        """The newest first."""
        query = sa.select(table).order_by(table.c.since.desc(), table.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(table.c.status == status)
        with errors(), self._database.snapshot() as connection:
            return [_kept(row) for row in connection.execute(query).mappings()]

    def get(self, alert_id: str) -> Kept:
        """AlertNotFoundError."""
        with errors(), self._database.snapshot() as connection:
            return _kept(_row(connection, alert_id))

    def notices(self, alert_id: str | None = None, limit: int = 100) -> list[Sent]:
        """What was and is to be told, the newest first; of one alert or of all."""
        query = sa.select(alert_notices).order_by(alert_notices.c.id.desc()).limit(limit)
        if alert_id is not None:
            query = query.where(alert_notices.c.alert == alert_id)
        with errors(), self._database.snapshot() as connection:
            return [_sent(row) for row in connection.execute(query).mappings()]

    def waiting(self) -> dict[str, tuple[int, datetime]]:
        """By channel: how many notices wait, and since when the oldest does."""
        count, oldest = sa.func.count(), sa.func.min(alert_notices.c.at)
        query = (
            sa.select(alert_notices.c.channel, count, oldest)
            .where(alert_notices.c.status == "waiting")
            .group_by(alert_notices.c.channel)
        )
        with errors(), self._database.snapshot() as connection:
            return {channel: (number, at) for channel, number, at in connection.execute(query)}

    def change(self, alert_id: str, rule: Callable[[Alert], Alert], act: Act) -> Alert:
        """Apply a person's act to an alert, with its audit row."""

        def work(connection: sa.Connection) -> Alert:
            kept = _kept(_row(connection, alert_id, lock=True))
            after = rule(kept.alert)
            _put(connection, after, kept.reasons)
            audit.keep(connection, act)
            return after

        with errors():
            return self._database.run(work)

    def silence(self, silence: Silence, act: Act) -> None:
        """Keep a silence."""

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.insert(alert_silences).values(asdict(silence)))
            audit.keep(connection, act)

        with errors():
            self._database.run(work)

    def unsilence(self, silence_id: str, now: datetime, act: Act) -> bool:
        """End a silence now; False when none of this id stands."""

        def work(connection: sa.Connection) -> bool:
            stands = sa.and_(alert_silences.c.id == silence_id, alert_silences.c.ends > now)
            ended = connection.execute(sa.update(alert_silences).where(stands).values(ends=now)).rowcount
            if ended:
                audit.keep(connection, act)
            return bool(ended)

        with errors():
            return self._database.run(work)

    def silences(self, now: datetime) -> list[Silence]:
        """Those that are not over, in order of their ends."""
        query = sa.select(alert_silences).where(alert_silences.c.ends > now).order_by(alert_silences.c.ends)
        with errors(), self._database.snapshot() as connection:
            return [Silence(**row) for row in connection.execute(query).mappings()]

    def enqueue(self, notices: Sequence[Notice], act: Act) -> None:
        """Put notices that belong to no look, such as tests, into the outbox."""

        def work(connection: sa.Connection) -> None:
            upserts.add_new(connection, alert_notices, [outbox.row_of(notice) for notice in notices])
            audit.keep(connection, act)

        with errors():
            self._database.run(work)

    # The outbox

    def channels(self) -> list[str]:
        """Channels with something that waits, whose oldest notice is the oldest first."""
        query = (
            sa.select(alert_notices.c.channel)
            .where(alert_notices.c.status == "waiting")
            .group_by(alert_notices.c.channel)
            .order_by(sa.func.min(alert_notices.c.id))
        )
        with errors(), self._database.snapshot() as connection:
            return list(connection.execute(query).scalars())

    def fold(self, channel: str, above: int, now: datetime, new_id: Callable[[datetime], str]) -> int:
        """When more than ``above`` notices wait and the first is due: fold what need not be told by itself.

        How many were folded. They stay, with the status ``folded``, and one digest tells of them.
        """
        folded, after = 0, 0
        with errors():
            while True:
                some, last = self._database.run(partial(outbox.fold, channel, above, now, new_id, after))
                folded += some
                if last is None:
                    return folded
                after = last

    def take(self, channel: str, now: datetime, until: datetime, token: str) -> Taken | None:
        """Lease the oldest notice of a channel; None when there is none, or it is not due, or another's.

        Those behind it wait: a channel tells things in their order.
        """

        def work(connection: sa.Connection) -> Taken | None:
            row = outbox.head(connection, channel, now)
            if row is None:
                return None
            leased = {"lease_token": token, "lease_until": until, "attempts": row["attempts"] + 1}
            connection.execute(sa.update(alert_notices).where(alert_notices.c.id == row["id"]).values(leased))
            return Taken(row["id"], _notice(row), row["attempts"] + 1, token)

        with errors():
            return self._database.run(work)

    def settle(self, taken: Taken, status: str, now: datetime, error: str | None = None) -> bool:
        """It is sent, or refused for good. False: the lease was over, and another has it."""
        return self._end(taken, {"status": status, "settled_at": now, "error": error})

    def put_off(self, taken: Taken, due_at: datetime, error: str) -> bool:
        """It could not be sent: try again then."""
        return self._end(taken, {"due_at": due_at, "error": error[:TEXT]})

    def _end(self, taken: Taken, values: dict[str, Any]) -> bool:
        mine = sa.and_(alert_notices.c.id == taken.id, alert_notices.c.lease_token == taken.token)
        changed = (
            sa.update(alert_notices).where(mine).values({**values, "lease_token": None, "lease_until": None})
        )
        with errors():
            return bool(self._database.run(lambda connection: connection.execute(changed).rowcount))

    def prune(self, before: datetime) -> int:
        """Delete alerts that were over before that time, with their notices that are settled."""
        over = sa.select(table.c.id).where(table.c.status == "resolved", table.c.resolved_at < before)

        def work(connection: sa.Connection) -> int:
            ids = list(connection.execute(over.limit(100)).scalars())
            connection.execute(
                sa.delete(alert_notices).where(
                    alert_notices.c.alert.in_(ids), alert_notices.c.status != "waiting"
                )
            )
            connection.execute(sa.delete(table).where(table.c.id.in_(ids)))
            return len(ids)

        total = 0
        with errors():
            while went := self._database.run(work):
                total += went
            self._database.run(partial(_prune_rest, before))
        return total


def _prune_rest(before: datetime, connection: sa.Connection) -> None:
    """Silences, and notices that are of no alert."""
    connection.execute(sa.delete(alert_silences).where(alert_silences.c.ends < before))
    c = alert_notices.c
    settled = sa.and_(c.at < before, c.kind.in_(("test", "digest")), c.status != "waiting")
    connection.execute(sa.delete(alert_notices).where(settled))


@contextmanager
def errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise StoreUnavailableError(f"the database refused: {error.orig}") from error


def _standing(connection: sa.Connection) -> dict[Key, Alert]:
    rows = connection.execute(sa.select(table).where(table.c.open_key.is_not(None))).mappings()
    return {alert.key: alert for alert in (_kept(row).alert for row in rows)}


def _silences(connection: sa.Connection, now: datetime) -> tuple[Silence, ...]:
    query = sa.select(alert_silences).where(alert_silences.c.starts <= now, alert_silences.c.ends > now)
    return tuple(Silence(**row) for row in connection.execute(query).mappings())


def _write(connection: sa.Connection, before: Mapping[Key, Alert], decided: Decided) -> None:
    kept = {alert.id for alert in decided.alerts.values()}
    gone = [alert for alert in before.values() if alert.id not in kept]
    never = [alert.id for alert in gone if alert.status == "pending"]
    over = [alert.id for alert in gone if alert.status != "pending"]
    # First, so that what begins anew finds its name free.
    connection.execute(sa.delete(table).where(table.c.id.in_(never)))
    connection.execute(sa.update(table).where(table.c.id.in_(over)).values(open_key=None))
    for key, alert in decided.alerts.items():
        if alert != before.get(key) or key in decided.reasons:
            _put(connection, alert, tuple(decided.reasons.get(key, ())))
    upserts.add_new(connection, alert_notices, [outbox.row_of(notice) for notice in decided.notices])


def _put(connection: sa.Connection, alert: Alert, reasons: Sequence[Reason]) -> None:
    row = asdict(alert)
    row["message"] = alert.message[:TEXT]
    row["reached"] = list(alert.reached)
    row["reasons"] = [asdict(reason) for reason in reasons]
    row["open_key"] = _digest(alert.key)
    upserts.put(connection, table, [row])


def _digest(key: Key) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()


def _row(connection: sa.Connection, alert_id: str, *, lock: bool = False) -> Any:
    query = sa.select(table).where(table.c.id == alert_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise AlertNotFoundError(f"no alert has the id {alert_id!r}; `regrow alerts list` shows them")
    return row


def _kept(row: Any) -> Kept:
    return Kept(alert_of(row), tuple(Reason(**reason) for reason in row["reasons"]))


def alert_of(row: Any) -> Alert:
    """The alert that a row of the table is."""
    told = {name: row[name] for name in _NAMES}
    return Alert(**{**told, "reached": tuple(row["reached"])})


def _notice(row: Any) -> Notice:
    return Notice(row["alert"], row["step"], row["channel"], row["kind"], row["at"], row["body"])


def _sent(row: Any) -> Sent:
    names = ("status", "due_at", "attempts", "settled_at", "error")
    return Sent(row["id"], _notice(row), *(row[name] for name in names))
