"""A database: a new connection with short timeouts, a query, and of Regrow's own the tables' revision.

A connection of its own, because our pool being used up is not the database being down, and because a frozen
server would otherwise hold a pooled connection for the whole of its long statement timeout.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from regrow.database import Database
from regrow.errors import StoreUnavailableError
from regrow.health.checks import conditions
from regrow.health.checks.conditions import Remark, concluded
from regrow.health.rules import Finding, finding, judge
from regrow.settings import Settings
from regrow.settings.checks import DatabaseCheck

_CONNECTIONS_USED = 0.9
_OURS = frozenset({"mysql", "mariadb", "sqlite"})


def probe(check: DatabaseCheck, settings: Settings) -> Finding:
    url = sa.make_url((check.url or settings.database.url).get_secret_value())
    file = url.database
    if url.get_backend_name() == "sqlite" and file and file != ":memory:" and not Path(file).exists():
        # Connecting would create it, and an empty database is not what was asked about.
        remedy = "" if check.url else "; `regrow db upgrade` makes it"
        return finding("unhealthy", f"the file {file} does not exist{remedy}")
    began = time.monotonic()
    try:
        with _reading(url, max(1.0, check.timeout * 0.45)) as connection:
            answer = _asked(connection, check.query)
            took = time.monotonic() - began
            facts = _facts(connection, own=check.url is None)
    except (ImportError, sa.exc.NoSuchModuleError) as error:
        return finding("unknown", f"there is no driver for {url.drivername} here: {error}")
    except (StoreUnavailableError, sa.exc.SQLAlchemyError) as error:
        return finding("unhealthy", str(getattr(error, "orig", None) or error))
    remarks = [*conditions.slowness(check, took), *judged(check, answer)]
    return verdict(facts, remarks, answer=_shown(answer) if check.query else None)


def verdict(facts: Mapping[str, Any], remarks: Iterable[Remark] = (), *, answer: object = None) -> Finding:
    """What a database that answers says about itself, and what else was seen of it."""
    made = list(remarks)
    if "revision" in facts and facts["revision"] is None:
        made.append(Remark("unhealthy", "but has no tables; run `regrow db upgrade`"))
    if facts.get("read_only") and "revision" in facts:
        made.append(Remark("degraded", "but is read-only"))
    used, limit = facts.get("connections"), facts.get("max_connections")
    if used is not None and limit and used >= _CONNECTIONS_USED * limit:
        made.append(Remark("degraded", f"{used} of {limit} connections are in use"))
    data = dict(facts) if answer is None else {**facts, "answer": answer}
    return concluded("answers" if answer is None else f"answers {answer}", made, **data)


def judged(check: DatabaseCheck, answer: object) -> Iterable[Remark]:
    """What the query's first value says, where the settings have thresholds for it."""
    if check.warning is None and check.critical is None:
        return
    try:
        number = float(answer)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    limits = [limit for limit in (check.warning, check.critical) if limit is not None]
    status = judge(number, min(limits), check.critical)
    if status == "unknown":
        yield Remark("unknown", "the query's first value is no number")
    elif status != "healthy":
        yield Remark(
            status, f"from {check.critical if status == 'unhealthy' else check.warning:g} on too much"
        )


@contextmanager
def _reading(url: sa.URL, bound: float) -> Iterator[sa.Connection]:
    """A new connection, its work rolled back, closed afterwards. ``bound``: seconds for each answer."""
    if url.get_backend_name() in _OURS:
        database = Database(
            url, pool_size=1, pool_timeout=bound, connect_timeout=bound, statement_timeout=bound
        )
        try:
            with database.snapshot() as connection:
                yield connection
        finally:
            database.close()
        return
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, hide_parameters=True)
    with engine.connect() as connection:
        yield connection


def _asked(connection: sa.Connection, query: str | None) -> object:
    """The first value of the first row; None without any. A query goes to the driver as it stands."""
    if query is None:
        return connection.scalar(sa.select(sa.literal(1)))
    row = connection.exec_driver_sql(query).first()
    return row[0] if row else None


def _shown(answer: object) -> object:
    return answer if isinstance(answer, int | float | bool) else str(answer)[:200]


def _facts(connection: sa.Connection, *, own: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {"revision": _revision(connection)} if own else {}
    kind = connection.dialect.name
    if kind == "sqlite":
        return {**facts, "version": connection.scalar(sa.text("SELECT sqlite_version()"))}
    if kind not in _OURS:
        return facts
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
