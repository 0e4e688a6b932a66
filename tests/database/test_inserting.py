"""Rows that are inserted past SQLAlchemy's statements are what its own way would have made of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from regrow.database import Database
from regrow.database.columns import Blob, UtcDateTime, key
from regrow.database.inserting import insert_many, insert_new

metadata = sa.MetaData()
things = sa.Table(
    "things",
    metadata,
    sa.Column("id", key(36), primary_key=True),
    sa.Column("rank", UtcDateTime),  # a word of MySQL's own
    sa.Column("headers", sa.JSON, nullable=False),
    sa.Column("body", Blob),
    sa.Column("note", sa.Text),
    sa.Column("kind", key(64), nullable=False, server_default="unknown"),
)
AT = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
HERE = AT.astimezone(timezone(timedelta(hours=5)))
ROWS = [
    {
        "id": "1",
        "rank": AT,
        "headers": {"a": ["%s", "'"]},
        "body": b"\x00\xff%s'",
        "note": None,
        "kind": None,
    },
    {"id": "2", "rank": HERE, "headers": {}, "body": None, "note": "100 % 'so' \\ (?) ünï", "kind": None},
]


@pytest.fixture
def database(database_url: str) -> Database:
    found = Database(database_url)
    metadata.create_all(found.engine)
    return found


def test_values_come_back_as_they_were_and_what_nobody_fills_has_its_default(database: Database) -> None:
    with database.transaction() as connection:
        insert_many(connection, things, ROWS)
        insert_many(connection, things, [])
    with database.snapshot() as connection:
        found = [dict(row) for row in connection.execute(sa.select(things)).mappings()]
    assert found == [{**row, "rank": AT, "kind": "unknown"} for row in ROWS]
    database.close()


def test_what_a_column_refuses_is_refused(database: Database) -> None:
    naive = {**ROWS[0], "rank": AT.replace(tzinfo=None)}
    with pytest.raises(ValueError, match="no time zone"), database.transaction() as connection:
        insert_many(connection, things, [naive])
    with pytest.raises(IntegrityError), database.transaction() as connection:
        insert_many(connection, things, [*ROWS, ROWS[0]])
    with database.snapshot() as connection:
        assert connection.execute(sa.select(things)).all() == []
    database.close()


def test_what_is_there_already_is_left_alone(database: Database) -> None:
    for note in ("first", "second"):
        with database.transaction() as connection:
            connection.execute(insert_new(things).values(id="1", headers={}, note=note))
            told = [{"id": number, "headers": {}, "note": note} for number in ("1", note)]
            insert_many(connection, things, told, ignore=True)
    with database.snapshot() as connection:
        kept = connection.execute(sa.select(things.c.id, things.c.note).order_by(things.c.id)).all()
    assert kept == [("1", "first"), ("first", "first"), ("second", "second")]
    database.close()


@pytest.mark.parametrize("url", ["mysql+pymysql://h/d", "mariadb+pymysql://h/d", "sqlite://"])
def test_every_dialect_is_told_to_ignore_them(url: str) -> None:
    assert "IGNORE" in str(insert_new(things).compile(dialect=sa.create_engine(url).dialect))
