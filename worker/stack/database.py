"""The gate before worker, beat and page: Redis and the database answer, and its tables are up to date."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy.exc
from alembic.util.exc import CommandError

from regrow.dependencies import wait_for_dependencies
from regrow.engine import Engine
from worker.stack.errors import StackError


def make_ready(engine: Engine, rest: Callable[[float], None]) -> None:
    """Wait for both stores, then migrate. ``rest`` sleeps for so many seconds.

    A database that answers and is unusable is a StackError with a remedy; one that does not answer is
    waited for (``STARTUP_TIMEOUT``).
    """
    try:
        wait_for_dependencies(engine, rest=rest)
    except CommandError as error:
        raise StackError(
            f"the database {_named(engine)} belongs to another version of Regrow ({error}). Update this "
            "checkout, or use another database: REGROW_DATABASE_URL, or REGROW_HOME for a fresh folder."
        ) from error
    except sqlalchemy.exc.DBAPIError as error:
        raise StackError(explain(_named(engine), str(error.orig))) from error


def explain(database: str, said: str) -> str:
    """Cause and remedy for what the driver said about ``database``."""
    if "not a database" in said or "malformed" in said:
        remedy = "Put back a copy of that file, or move it away, with its -wal and -shm, to start empty."
    elif "full" in said:
        remedy = "Make room on its disk, or put the state elsewhere with REGROW_HOME."
    elif "unable to open" in said or "readonly" in said:
        remedy = "Correct its owner and mode, or choose another REGROW_HOME."
    else:
        remedy = "Correct REGROW_DATABASE_URL or that database."
    return f"the database {database} cannot be used: {said}. {remedy}"


def _named(engine: Engine) -> str:
    return engine.database.engine.url.render_as_string(hide_password=True)
