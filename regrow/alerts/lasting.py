"""Reads the alerts of a period out of the database; what they amount to is ``regrow.alerts.periods``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from regrow.alerts.model import Alert, Silence
from regrow.alerts.periods import Acknowledged, Lasted, Told, lasted
from regrow.alerts.store import alert_of, errors
from regrow.database import Database
from regrow.database.tables import alert_looks, alert_notices, alert_silences, audit
from regrow.database.tables import alerts as table

AWAY = timedelta(minutes=5)
"""When nobody has looked for so long at the end of the period, nothing is known of it."""
_AT_ONCE = 200
_ACTS = ("alert.acknowledged", "incident.acknowledged")


def of_period(database: Database, since: datetime, until: datetime) -> tuple[Lasted, ...] | None:
    """Alerts that fired at some moment of ``[since, until)``, the newest first, as its end knew them.

    None: nobody looked until then, so nothing is known. StoreUnavailableError when the database is away.
    """
    with errors(), database.snapshot() as connection:
        looked = connection.execute(sa.select(alert_looks.c.at)).scalar_one_or_none()
        if looked is None or looked < until - AWAY:
            return None
        silences = _silences(connection, since, until)
        found = [
            one
            for some in _chunks(_alerts(connection, since, until))
            for one in _lasted(connection, some, silences, since, until)
        ]
    return tuple(sorted(found, key=lambda one: (one.fired_at, one.id), reverse=True))


def _alerts(connection: sa.Connection, since: datetime, until: datetime) -> list[Alert]:
    """Those of which the row or a notice says that they lasted then: a row of one that came again begins
    anew."""
    told = sa.select(alert_notices.c.alert).where(alert_notices.c.at >= since, alert_notices.c.at < until)
    lasts = sa.or_(table.c.resolved_at.is_(None), table.c.resolved_at > since)
    query = sa.select(table).where(sa.or_(sa.and_(table.c.since < until, lasts), table.c.id.in_(told)))
    return [alert_of(row) for row in connection.execute(query.order_by(table.c.id)).mappings()]


def _silences(connection: sa.Connection, since: datetime, until: datetime) -> list[Silence]:
    query = sa.select(alert_silences).where(alert_silences.c.starts < until, alert_silences.c.ends > since)
    return [Silence(**row) for row in connection.execute(query).mappings()]


def _chunks(alerts: Sequence[Alert]) -> Iterator[Sequence[Alert]]:
    for at in range(0, len(alerts), _AT_ONCE):
        yield alerts[at : at + _AT_ONCE]


def _lasted(
    connection: sa.Connection,
    alerts: Sequence[Alert],
    silences: Sequence[Silence],
    since: datetime,
    until: datetime,
) -> Iterator[Lasted]:
    told = _told(connection, [alert.id for alert in alerts], until)
    said = _acknowledged(connection, {name for one in alerts for name in (one.id, one.incident) if name})
    for alert in alerts:
        acknowledged = [*said.get(alert.id, ()), *said.get(alert.incident or "", ())]
        found = lasted(alert, told.get(alert.id, ()), acknowledged, silences, since, until)
        if found is not None:
            yield found


def _told(connection: sa.Connection, ids: Sequence[str], until: datetime) -> dict[str, list[Told]]:
    query = (
        sa.select(alert_notices)
        .where(alert_notices.c.alert.in_(ids), alert_notices.c.at < until)
        .order_by(alert_notices.c.id)
    )
    found: dict[str, list[Told]] = {}
    for row in connection.execute(query).mappings():
        found.setdefault(row["alert"], []).append(_one(row))
    return found


def _one(row: Any) -> Told:
    names = ("at", "kind", "step", "channel", "settled_at")
    told = {name: row[name] for name in names}
    return Told(**told, severity=row["body"]["severity"], refused=row["status"] == "refused")


def _acknowledged(connection: sa.Connection, subjects: Iterable[str]) -> dict[str, list[Acknowledged]]:
    query = sa.select(audit.c.subject, audit.c.at, audit.c.actor).where(
        audit.c.subject.in_(list(subjects)), audit.c.act.in_(_ACTS)
    )
    found: dict[str, list[Acknowledged]] = {}
    for subject, at, actor in connection.execute(query):
        found.setdefault(subject, []).append(Acknowledged(at, actor))
    return found
