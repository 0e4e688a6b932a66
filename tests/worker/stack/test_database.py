from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from regrow.engine import Engine
from worker.stack import database
from worker.stack.errors import StackError


def test_the_tables_are_made_before_any_child_starts(engine: Engine) -> None:
    database.make_ready(engine, time.sleep)
    with engine.database.snapshot() as connection:
        assert "job_runs" in sa.inspect(connection).get_table_names()


def test_a_damaged_file_is_named_with_a_remedy(engine: Engine, tmp_path: Path) -> None:
    engine.close()
    for file in tmp_path.glob("regrow.sqlite3*"):
        file.unlink()
    (tmp_path / "regrow.sqlite3").write_bytes(b"this was never a database " * 100)
    with pytest.raises(
        StackError, match=r"regrow\.sqlite3 cannot be used: file is not a database\. .*move it away"
    ):
        database.make_ready(engine, time.sleep)


def test_a_database_of_a_later_version_is_not_touched(engine: Engine) -> None:
    with engine.database.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        StackError, match=r"belongs to another version of Regrow .*9999.*Update this checkout"
    ):
        database.make_ready(engine, time.sleep)
    assert engine.database.revision() == "9999"


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("database or disk is full", "Make room"),
        ("unable to open database file", "owner and mode"),
        ("attempt to write a readonly database", "owner and mode"),
        ("(1142, 'CREATE command denied')", "REGROW_DATABASE_URL"),
    ],
)
def test_each_trouble_of_a_database_has_its_remedy(said: str, remedy: str) -> None:
    assert remedy in database.explain("sqlite:///x", said)
