"""The minutes of requests that applications reported, out of the table ``request_rollups``."""

from __future__ import annotations

from datetime import datetime

from regrow.database import Database
from regrow.latency_buckets import merged
from regrow.requests import store
from regrow.slo.requests import RequestMinute


class ReportedMinutes:
    """:class:`regrow.slo.requests.RequestMinutes` on a database; as far back as minutes are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def minutes(self, service: str, start: datetime, end: datetime) -> list[RequestMinute]:
        """Those of ``[start, end)``, all routes together. StoreUnavailableError: the database is away."""
        told: dict[datetime, list[store.Rollup]] = {}
        for one in store.read(self._database, store.MINUTE, start, end, [service]):
            told.setdefault(one.starts_at, []).append(one)
        return [
            RequestMinute(
                service,
                minute,
                sum(one.count for one in parts),
                sum(one.failed for one in parts),
                merged(one.buckets for one in parts),
            )
            for minute, parts in told.items()
        ]
