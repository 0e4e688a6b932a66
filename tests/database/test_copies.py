"""What the tests take for migrated databases is what the migrations make."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from regrow.database import Database, migrating
from tests.conftest import new_mysql_database
from tests.copies import Copies


@pytest.fixture(params=["sqlite", "mysql"])
def three(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str):
    """Databases of one kind, empty."""
    if request.param == "sqlite":
        yield [Database(f"sqlite:///{tmp_path / name}") for name in ("made", "migrated", "copied")]
        return
    made = [new_mysql_database(request.getfixturevalue("_mysql_server")) for _ in range(3)]
    databases = [Database(next(one)) for one in made]
    yield databases
    for database, one in zip(databases, made, strict=True):
        database.close()
        next(one, None)


def everything(database: Database) -> dict[str, object]:
    """Each table's definition as the database has it, and its rows."""
    with database.snapshot() as connection:
        names = sorted(sa.inspect(connection).get_table_names())
        if database.is_sqlite:
            query = "SELECT name, sql FROM sqlite_master ORDER BY name"
            defined = [tuple(row) for row in connection.exec_driver_sql(query)]
        else:
            defined = [
                tuple(connection.exec_driver_sql(f"SHOW CREATE TABLE `{name}`").one()) for name in names
            ]
        rows = {
            name: connection.execute(sa.select(sa.text("*")).select_from(sa.table(name))).all()
            for name in names
        }
    return {"definitions": defined, **rows}


@pytest.mark.usefixtures("real_migrations")
def test_a_copy_is_what_the_migrations_make(three: list[Database]) -> None:
    ran: list[Database] = []

    def migrate(database: Database, revision: str) -> None:
        ran.append(database)
        migrating.upgrade(database, revision)

    copies = Copies(migrate)
    made, migrated, copied = three
    copies.upgrade(made, "head")
    migrated.upgrade()
    copies.upgrade(copied, "head")
    assert ran == [made], "the others were not migrated"
    assert everything(copied) == everything(migrated)
    assert copied.revision() == migrating.newest()
    for database in three:
        database.close()


def test_what_has_tables_or_goes_elsewhere_is_migrated(sqlite_url: str, copies: Copies) -> None:
    ran: list[str] = []

    def migrate(database: Database, revision: str) -> None:
        ran.append(revision)
        copies.migrate(database, revision)

    others, database = Copies(migrate), Database(sqlite_url)
    for revision in ("0003", "head", "head"):
        others.upgrade(database, revision)
    assert ran == ["0003", "head", "head"]
    assert database.revision() == migrating.newest()
    database.close()


def test_a_database_of_another_character_set_has_tables_of_its_own(mysql_url: str) -> None:
    copies, database = Copies(migrating.upgrade), Database(mysql_url)
    charset = sa.text(
        "SELECT DISTINCT table_collation FROM information_schema.tables WHERE table_schema = :name"
    )
    found = []
    for name in ("latin1", "utf8mb4"):
        with database.transaction() as connection:
            schema = f"{connection.engine.url.database}_{name}"
            connection.exec_driver_sql(f"CREATE DATABASE {schema} CHARACTER SET {name}")
        one = Database(sa.make_url(mysql_url).set(database=schema))
        copies.upgrade(one, "head")
        one.close()
        with database.transaction() as connection:
            found += [str(row)[:6] for row in connection.execute(charset, {"name": schema}).scalars()]
            connection.exec_driver_sql(f"DROP DATABASE {schema}")
    assert found == ["latin1", "utf8mb"]
    database.close()
