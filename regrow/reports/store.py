"""Where reports are kept: immutable rows, each the version of a period that its facts make.

A report's id is derived from its kind, its period and the digest of its facts. Two workers that make the
same report at once therefore make the same row, and the second finds it there; facts that came late make
other facts, and so a further version beside the first.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database import Database
from regrow.database.retention import delete_older
from regrow.database.tables import check_results, reports, rolled_checks


@dataclass(frozen=True)
class ReportSummary:
    """A report without its texts. ``version`` counts the versions of its kind and period from 1."""

    id: str
    kind: str
    period_start: datetime
    period_end: datetime
    created_at: datetime
    digest: str
    headline: str
    version: int


@dataclass(frozen=True)
class ReportRow(ReportSummary):
    """A report as it was made. ``digest`` is the SHA-256 of ``json``, in hexadecimal."""

    json: str
    markdown: str
    html: str

    @property
    def intact(self) -> bool:
        """Whether the JSON is still the text that the digest was taken of."""
        return digest_of(self.json) == self.digest


@dataclass(frozen=True)
class NewReport:
    """A report about to be kept."""

    id: str
    kind: str
    period_start: datetime
    period_end: datetime
    created_at: datetime
    headline: str
    json: str
    markdown: str
    html: str


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def id_of(kind: str, period_start: datetime, period_end: datetime, facts_digest: str) -> str:
    """An id that sorts by the period's end and is the same for the same report: UUID version 8.

    48 bits of milliseconds, then bits of a hash; version 8 is RFC 9562's for such ids of one's own.
    """
    seed = f"{kind}\n{period_start.isoformat()}\n{period_end.isoformat()}\n{facts_digest}"
    bits = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "big")
    milliseconds = int(period_end.timestamp() * 1000) & ((1 << 48) - 1)
    low = bits & ((1 << 80) - 1)
    value = milliseconds << 80 | low
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(uuid.UUID(int=value))


def keep(database: Database, report: NewReport) -> bool:
    """Insert the report; False when exactly this one is there already."""
    values = {**report.__dict__, "digest": digest_of(report.json)}

    def insert(connection: sa.Connection) -> None:
        connection.execute(sa.insert(reports).values(values))

    try:
        database.run(insert)
    except sa.exc.IntegrityError:
        return False
    return True


def newest_end(database: Database, kind: str) -> datetime | None:
    """The end of the latest period that has a report of this kind."""
    query = sa.select(sa.func.max(reports.c.period_end)).where(reports.c.kind == kind)
    with database.snapshot() as connection:
        return connection.execute(query).scalar_one_or_none()


def first_result(database: Database) -> datetime | None:
    """When the first result came that anything is known of."""
    with database.snapshot() as connection:
        rolled = connection.execute(sa.select(sa.func.min(rolled_checks.c.first_at))).scalar()
        return rolled or connection.execute(sa.select(sa.func.min(check_results.c.at))).scalar()


def versions(database: Database, kind: str, start: datetime, end: datetime) -> list[ReportSummary]:
    """All reports of one kind and period, the latest version first."""
    query = _summaries().where(
        reports.c.kind == kind, reports.c.period_start == start, reports.c.period_end == end
    )
    with database.snapshot() as connection:
        found = [_summary(row) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda row: row.version, reverse=True)


def prune(database: Database, before: Mapping[str, datetime], others: datetime) -> int:
    """Delete reports made before the time of their kind, those of other kinds made before ``others``."""
    kinds: list[tuple[sa.ColumnElement[bool], datetime]] = [(sa.not_(reports.c.kind.in_(before)), others)]
    kinds += [(reports.c.kind == kind, at) for kind, at in before.items()]
    return sum(delete_older(database, reports, reports.c.created_at, at, only) for only, at in kinds)


def listed(database: Database, limit: int, kind: str | None) -> list[ReportSummary]:
    """The latest periods first, and of one period the latest version first."""
    query = _summaries().order_by(
        reports.c.period_end.desc(), reports.c.created_at.desc(), reports.c.id.desc()
    )
    if kind is not None:
        query = query.where(reports.c.kind == kind)
    with database.snapshot() as connection:
        return [_summary(row) for row in connection.execute(query.limit(limit)).mappings()]


def read(database: Database, report_id: str) -> ReportRow | None:
    """One report with its texts."""
    texts = (reports.c.json, reports.c.markdown, reports.c.html)
    query = _summaries().add_columns(*texts).where(reports.c.id == report_id)
    with database.snapshot() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    return ReportRow(**_summary(row).__dict__, json=row["json"], markdown=row["markdown"], html=row["html"])


def beginning_with(database: Database, prefix: str) -> list[str]:
    """Ids that begin with ``prefix``, two at most: enough to tell one from several."""
    query = sa.select(reports.c.id).where(reports.c.id.startswith(prefix, autoescape=True)).limit(2)
    with database.snapshot() as connection:
        return list(connection.execute(query).scalars())


def _summaries() -> sa.Select[Any]:
    """Summaries with their version: how many reports of the same kind and period are not younger."""
    other = reports.alias("other")
    version = (
        sa.select(sa.func.count())
        .where(
            other.c.kind == reports.c.kind,
            other.c.period_end == reports.c.period_end,
            other.c.period_start == reports.c.period_start,
            sa.or_(
                other.c.created_at < reports.c.created_at,
                sa.and_(other.c.created_at == reports.c.created_at, other.c.id <= reports.c.id),
            ),
        )
        .correlate(reports)
        .scalar_subquery()
    )
    return sa.select(
        reports.c.id,
        reports.c.kind,
        reports.c.period_start,
        reports.c.period_end,
        reports.c.created_at,
        reports.c.digest,
        reports.c.headline,
        version.label("version"),
    )


def _summary(row: Any) -> ReportSummary:
    return ReportSummary(
        id=row["id"],
        kind=row["kind"],
        period_start=row["period_start"],
        period_end=row["period_end"],
        created_at=row["created_at"],
        digest=row["digest"],
        headline=row["headline"],
        version=row["version"],
    )
