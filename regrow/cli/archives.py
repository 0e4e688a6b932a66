"""``regrow dead-letters archives``: settled letters that were archived and purged."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from regrow.cli.output import Column, actor, json_option, print_facts, print_json, print_table, visible, when
from regrow.dead_letters import service
from regrow.dead_letters.archive_store import Archive
from regrow.engine import get_engine
from regrow.errors import ArchiveError


@click.group(name="archives")
def archives() -> None:
    """List, verify, search or export the archives of settled letters."""


@archives.command(name="list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@json_option
def list_command(limit: int, as_json: bool) -> None:
    """List archives, newest first."""
    found = service.list_archives(get_engine(), limit)
    if as_json:
        print_json({"archives": [vars(archive) for archive in found]})
        return
    print_table(
        [Column("ID", whole=True), Column("LETTERS", right=True), Column("SETTLED"), Column("PURGED")],
        [
            (
                archive.id,
                archive.letters,
                f"{when(archive.first_settled_at)} to {when(archive.last_settled_at)}",
                _purged(archive),
            )
            for archive in found
        ],
        empty="No letter has been archived yet.",
    )


def _purged(archive: Archive) -> str:
    if archive.purged_at:
        return when(archive.purged_at)
    how_many = f"{archive.purged} of {archive.letters}"
    return f"{how_many}, given up {when(archive.given_up_at)}" if archive.given_up_at else how_many


@archives.command()
@click.argument("ids", metavar="[ID...]", nargs=-1)
@json_option
def verify(ids: tuple[str, ...], as_json: bool) -> None:
    """Read archives, or all, to the last byte and compare them with what was recorded.

    The exit code is 1 when one is missing, cut or changed.
    """
    checked = []
    for one in service.verify_archives(get_engine(), *ids):
        checked.append({"id": one.archive.id, "file": str(one.path), "problem": one.problem})
        if not as_json:
            click.echo(f"{one.archive.id}  {visible(one.problem or f'whole, {one.archive.letters} letters')}")
    if as_json:
        print_json({"archives": checked})
    elif not checked:
        click.echo("No letter has been archived yet.")
    if any(one["problem"] for one in checked):
        raise click.exceptions.Exit(1)


@archives.command()
@click.argument("letter_id", metavar="ID")
@json_option
def find(letter_id: str, as_json: bool) -> None:
    """Say which archive holds a letter (its id or an event's), and what the letter was."""
    archive, line = service.find_archived(get_engine(), letter_id)
    letter = line["letter"]
    facts = {
        "archive": archive.id,
        "file": archive.file,
        **{
            name: letter[name]
            for name in ("id", "state", "service", "message_type", "error_class", "settled_at", "attempts")
        },
    }
    if as_json:
        print_json(facts)
    else:
        print_facts(facts.items())


@archives.command()
@click.argument("archive_id", metavar="ID")
@click.option("--reason", required=True, help="Why; kept for the audit.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A new file, not stdout.")
def export(archive_id: str, reason: str, output: Path | None) -> None:
    """Write an archive's letters as JSON lines, whole and unredacted; leaves an audit row."""
    lines = service.export_archive(get_engine(), archive_id, actor=actor(), reason=reason)
    if output is None:
        for line in lines:
            sys.stdout.write(f"{json.dumps(line, ensure_ascii=True)}\n")
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            written = sum(1 for line in lines if file.write(f"{json.dumps(line, ensure_ascii=True)}\n"))
    except OSError as error:
        raise ArchiveError(f"{output} could not be written: {error}") from error
    click.echo(f"{written} letters written to {output}", err=True)
