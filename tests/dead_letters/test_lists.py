"""Lists of letters read what they show, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import dead_letters
from regrow.dead_letters import listing, service
from regrow.dead_letters.rules import State
from regrow.engine import Engine
from tests.dead_letters.conftest import Clock, call

SHOWN = 20
KINDS = {
    "state": {"state": State.QUARANTINED},  # one in 64
    "frequent state": {"state": State.RESOLVED},
    "service": {"service": "bank"},  # one in 32
    "frequent service": {"service": "mail"},
    "service and state": {"service": "bank", "state": State.PENDING},
    "message type": {"message_type": "shop.refund"},  # one in 32
    "frequent message type": {"message_type": "shop.charge"},
    "all": {},
}


def _crowd(engine: Engine) -> None:
    """8,192 letters of two services."""
    service.capture(engine, call())
    columns = [column.name for column in dead_letters.columns]
    changed = {
        "id": "CONCAT(LPAD(HEX(n), 8, '0'), SUBSTR(id, 9))",
        "idempotency_key": "CONCAT('crowd:', n)",
        "state": "IF(MOD(n, 64) = 7, 'quarantined', IF(MOD(n DIV 32, 2) = 1, 'pending', 'resolved'))",
        "service": "IF(MOD(n, 32) = 5, 'bank', 'mail')",
        "message_type": "IF(MOD(n, 32) = 9, 'shop.refund', 'shop.charge')",
    }
    numbers = (
        "WITH RECURSIVE ten AS (SELECT 0 AS d UNION ALL SELECT d + 1 FROM ten WHERE d < 31)"
        " SELECT a.d * 1024 + b.d * 32 + c.d + 1 AS n FROM ten a, ten b, ten c WHERE a.d < 8"
    )
    into = ", ".join(f"`{name}`" for name in columns)
    values = ", ".join(changed.get(name, f"`{name}`") for name in columns)
    with engine.database.transaction() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO dead_letters ({into}) SELECT {values} FROM dead_letters, ({numbers}) AS numbers"  # noqa: S608
        )


def _rows_read(connection: sa.Connection) -> int:
    found = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'")
    return sum(int(value) for _, value in found)


def test_a_page_reads_no_more_letters_than_it_shows(
    mysql_url: str, make_settings: Callable[..., Any], clock: Clock
) -> None:
    engine = Engine(make_settings(database_url=mysql_url), clock=clock)
    engine.database.upgrade()
    _crowd(engine)
    read = {}
    with engine.database.transaction() as connection:
        listing.page(connection, state=None, service=None, message_type=None, limit=1, before=None)
        idle = _rows_read(connection)
        idle = _rows_read(connection) - idle
        for name, given in KINDS.items():
            wanted = {"state": None, "service": None, "message_type": None, **given}
            before = None
            for place in ("first page", "second page"):
                earlier = _rows_read(connection)
                found = listing.page(connection, **wanted, limit=SHOWN, before=before)
                read[name, place] = _rows_read(connection) - earlier - idle
                assert len(found) == SHOWN, name
                assert [x.id for x in found] == sorted((x.id for x in found), reverse=True)
                assert all(getattr(x, key) == value for x in found for key, value in given.items())
                assert before is None or found[0].id < before
                before = found[-1].id
    states = len(State)  # a list of one service takes the newest ids of each state, and sorts them
    allowed = {name: (2 * states + 2 if name.endswith("service") else 1) * SHOWN + states for name in KINDS}
    assert {key: rows for key, rows in read.items() if rows > allowed[key[0]]} == {}
    engine.close()
