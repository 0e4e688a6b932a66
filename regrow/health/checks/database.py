"""The database: a new connection with short timeouts, a query, and the tables' revision.

A connection of its own, because our pool being used up is not the database being down, and because a frozen
server would otherwise hold a pooled connection for the whole of its long statement timeout.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from regrow.database import Database
from regrow.errors import StoreUnavailableError
from regrow.health.rules import Finding, finding
from regrow.settings import Settings
from regrow.settings.checks import DatabaseCheck

_CONNECTIONS_USED = 0.9


def probe(check: DatabaseCheck, settings: Settings) -> Finding:
    url = settings.database.url.get_secret_value()
    file = sa.make_url(url).database
    if url.startswith("sqlite") and file and file != ":memory:" and not Path(file).exists():
        # Connecting would create it, and an empty database is not what was asked about.
        return finding("unhealthy", f"the file {file} does not exist; `regrow db upgrade` makes it")
    half = max(1.0, check.timeout * 0.45)
    database = Database(url, pool_size=1, pool_timeout=half, connect_timeout=half, statement_timeout=half)
    try:
        with database.snapshot() as connection:
            connection.execute(sa.text("SELECT 1"))
            facts = _facts(connection, database)
    except (StoreUnavailableError, sa.exc.SQLAlchemyError) as error:
        return finding("unhealthy", str(getattr(error, "orig", None) or error))
    finally:
        database.close()
    return verdict(facts)


def verdict(facts: Mapping[str, Any]) -> Finding:
    """What a database that answers says about itself."""
    if facts["revision"] is None:
        return finding("unhealthy", "answers, but has no tables; run `regrow db upgrade`", **facts)
    if facts.get("read_only"):
        return finding("degraded", "answers, but is read-only", **facts)
    used, limit = facts.get("connections"), facts.get("max_connections")
    if used is not None and limit and used >= _CONNECTIONS_USED * limit:
        return finding("degraded", f"{used} of {limit} connections are in use", **facts)
    return finding("healthy", "answers", **facts)


def _facts(connection: sa.Connection, database: Database) -> dict[str, Any]:
    facts: dict[str, Any] = {"revision": _revision(connection)}
    if database.is_sqlite:
        return {**facts, "version": connection.scalar(sa.text("SELECT sqlite_version()"))}
    row = connection.execute(sa.text("SELECT VERSION(), @@max_connections, @@read_only")).one()
    status = connection.execute(sa.text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")).first()
    return {
        **facts,
        "version": row[0],
        "max_connections": int(row[1]),
        "read_only": str(row[2]).upper() in {"1", "ON"},
        "connections": int(status[1]) if status else None,
    }


def _revision(connection: sa.Connection) -> str | None:
    """Read plainly: comparing with the newest revision would import Alembic at every probe."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found
