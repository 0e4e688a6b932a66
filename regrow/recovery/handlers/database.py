"""A database: our pool lets its connections go, a new one is made, and answers ``SELECT 1``.

The pools of other processes look after themselves: they try a connection before they hand it out.
"""

from __future__ import annotations

import sqlalchemy as sa

from regrow.database import Database
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health.rules import without_secrets
from regrow.recovery.model import Acted, Recovery
from regrow.settings.recovery import DatabaseHandler
from regrow.settings.redaction import without_credentials


def act(handler: DatabaseHandler, recovery: Recovery, engine: Engine) -> Acted:
    del recovery
    if handler.url is None:
        engine.database.close()  # connections in use stay with who uses them and are closed afterwards
    return probe(handler, engine, handler.timeout)


def probe(handler: DatabaseHandler, engine: Engine, timeout: float) -> Acted:
    """A new connection and ``SELECT 1``, within ``timeout`` seconds."""
    url = handler.url or engine.settings.database.url
    third = max(1.0, timeout / 3)
    database = Database(
        url.get_secret_value(),
        pool_size=1,
        pool_timeout=third,
        connect_timeout=third,
        statement_timeout=third,
    )
    try:
        database.ping()
    except (StoreUnavailableError, sa.exc.SQLAlchemyError) as error:
        return Acted(ok=False, message=without_secrets(str(getattr(error, "orig", None) or error)))
    finally:
        database.close()
    return Acted(ok=True, message="a new connection answers SELECT 1")


def target(handler: DatabaseHandler) -> str:
    where = without_credentials(handler.url.get_secret_value()) if handler.url else "Regrow's own database"
    return f"connect anew to {where} and ask it for SELECT 1"
