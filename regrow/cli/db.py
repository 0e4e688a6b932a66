"""``regrow db``: the database's tables, brought to a revision and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from regrow.cli.output import confirm, json_option, print_json, yes_option
from regrow.database import migrating
from regrow.engine import get_engine
from regrow.errors import RegrowError


@click.group()
def db() -> None:
    """Upgrade the database, or say where it is."""


@db.command()
@click.argument("revision", default="head")
@json_option
def upgrade(revision: str, as_json: bool) -> None:
    """Bring the tables to REVISION (the newest by default). Safe to run twice, or by several at once."""
    database = get_engine().database
    before = database.revision()
    with _naming(revision):
        database.upgrade(revision)
    after = database.revision()
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        click.echo(f"The database is at {after} already.")
    else:
        click.echo(f"The database is at {after} now (was {before or 'empty'}).")


@db.command()
@json_option
def revision(as_json: bool) -> None:
    """Say which revision the tables are at; exit code 1 when that is not the one this version needs."""
    current, newest = get_engine().database.revision(), migrating.newest()
    if as_json:
        print_json({"revision": current, "newest": newest, "current": current == newest})
    elif current == newest:
        click.echo(f"The database is at {current}, the newest.")
    else:
        click.echo(
            f"The database is at {current or 'no revision'}, not at {newest}: run `regrow db upgrade`."
        )
    if current != newest:
        raise click.exceptions.Exit(1)


@db.command()
@click.argument("revision")
@yes_option
@json_option
def downgrade(revision: str, yes: bool, as_json: bool) -> None:
    """Take the tables back to REVISION (``base`` drops them all, with what is in them)."""
    database = get_engine().database
    before = database.revision()
    question = (
        f"Take the database from {before or 'empty'} back to {revision}? What its newer tables hold is lost."
    )
    confirm(question, yes=yes)
    with _naming(revision):
        database.downgrade(revision)
    after = database.revision()
    if as_json:
        print_json({"before": before, "after": after})
    else:
        click.echo(f"The database is at {after or 'empty'} now (was {before or 'empty'}).")


@contextmanager
def _naming(revision: str) -> Iterator[None]:
    """What Alembic says about a revision that it cannot go to, as an error of ours."""
    from alembic.util import CommandError

    try:
        yield
    except CommandError as error:
        raise RegrowError(f"cannot go to revision {revision}: {error}") from None
