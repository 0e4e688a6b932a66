"""``regrow temp-files``: what the declared folders hold, what would go, and cleaning them now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from regrow.cli.output import Column, confirm, json_option, print_json, print_table, visible, yes_option
from regrow.engine import get_engine
from regrow.temp_files import service

_root_option = click.option(
    "--root", type=click.Path(path_type=Path), help="Only this one of the declared folders."
)


@click.group("temp-files")
def temp_files() -> None:
    """The folders of [[temp_files.roots]], as this machine sees them."""


@temp_files.command()
@_root_option
@json_option
def scan(root: Path | None, as_json: bool) -> None:
    """Count, and say what a clean-up would remove now; nothing is removed."""
    _show(service.clean(get_engine(), dry_run=True, only=root), as_json)


@temp_files.command()
@_root_option
@click.option("--dry-run", is_flag=True, help="Remove nothing; the same as scan.")
@yes_option
@json_option
def clean(root: Path | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Clean by age, patterns and quotas, as the scheduled job does; 1 when something was left undone.

    Without --dry-run it removes, whatever temp_files.dry_run says.
    """
    engine = get_engine()
    if not dry_run:
        found = service.clean(engine, dry_run=True, only=root)
        if found["removed"]:
            confirm(f"Remove {found['removed']} files ({_size(found['freed_bytes'])})?", yes=yes)
    _show(service.clean(engine, dry_run=dry_run, only=root), as_json)


def _show(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(summary)
    else:
        verb = "WOULD GO" if summary["dry_run"] else "WENT"
        print_table(
            [
                Column(verb, right=True, whole=True),
                Column("BYTES", right=True, whole=True),
                Column("LEFT", right=True, whole=True),
                Column("BYTES", right=True, whole=True),
                Column("FOLDER, AND WHAT STAYED", lines=True),
            ],
            [_row(root) for root in summary.get("roots", ())],
            empty="No folders are declared under temp_files.roots, so nothing is touched.",
        )
        for root in summary.get("roots", ()):
            for error in root["errors"]:
                click.echo(f"regrow: {visible(root['path'])}: {visible(error)}", err=True)
    if summary["errors"] or not summary["finished"] or summary["over"]:
        raise click.exceptions.Exit(1)


def _row(root: dict[str, Any]) -> tuple[object, ...]:
    stayed = ", ".join(f"{reason}: {number}" for reason, number in root["kept"].items())
    over = f"over {', '.join(root['over'])} all the same" if root["over"] else ""
    told = "; ".join(part for part in (stayed, over) if part)
    path = visible(root["path"])
    return (
        root["removed"],
        _size(root["freed_bytes"]),
        root["left_files"],
        _size(root["left_bytes"]),
        f"{path}\n  {told}" if told else path,
    )


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
