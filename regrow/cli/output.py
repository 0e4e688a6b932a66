"""How answers are printed: tables for people, JSON for programs, nothing that could drive a terminal.

Names, errors and bodies come from other programs. Whatever is not printable is shown, never sent.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import socket
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from regrow.errors import RegrowError

if TYPE_CHECKING:
    from rich.table import Table  # imported where it is used: `regrow health` starts without it

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")

_STYLES = {
    "healthy": "green",
    "succeeded": "green",
    "closed": "green",
    "resolved": "green",
    "degraded": "yellow",
    "flapping": "yellow",
    "partial": "yellow",
    "half_open": "yellow",
    "quarantined": "yellow",
    "unhealthy": "red",
    "failed": "red",
    "open": "red",
    "unknown": "magenta",
}


def visible(text: object, *, keep: str = "") -> str:
    r"""``text`` with every control, format and unassigned character written out (``\x1b``, ``\u202e``).

    Characters in ``keep`` (a line break, say) stay as they are.
    """
    return "".join(
        letter
        if letter in keep or unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        else letter.encode("unicode_escape").decode("ascii")
        for letter in str(text)
    )


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object; times are ISO 8601 in UTC. ASCII only, so that nothing in it drives a terminal."""
    click.echo(json.dumps(value, default=_plain, indent=2, ensure_ascii=True))


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with a Z, to the millisecond."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def when(moment: datetime | None) -> str:
    """A time for a table: to the second, in UTC."""
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def moment_of(text: str, place: ZoneInfo, option: str) -> datetime:
    """A time as people write it; one that names no zone is on the clock of ``place``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{option} {visible(text)}: write a time as 2026-11-22T02:00.") from None
    if moment.tzinfo is not None:
        return moment
    there = moment.replace(tzinfo=place)
    if there.utcoffset() != moment.replace(tzinfo=place, fold=1).utcoffset():
        raise RegrowError(
            f"{option} {text}: the clock of {place.key} shows this twice or not at all on that day. "
            "Say which one you mean: 2026-10-25T02:30+02:00."
        )
    return there


def lasted(seconds: float) -> str:
    """A duration in the two units that matter: ``350 ms``, ``4.2 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table. ``whole``: never cut, because people copy it. ``lines``: may have several."""

    title: str
    whole: bool = False
    right: bool = False
    lines: bool = False


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table that fits the terminal (80 columns when there is none), or ``empty`` when it has no rows."""
    from rich.console import Console

    rows = list(rows)
    if not rows:
        click.echo(empty)
        return
    Console(highlight=False).print(table_of(columns, rows))


def table_of(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> Table:
    """The rows as a table for rich; whatever could drive a terminal is written out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            no_wrap=column.whole,
            overflow="fold",
            justify="right" if column.right else "left",
        )
    for row in rows:
        cells = [
            visible(cell, keep="\n" if column.lines else "")
            for column, cell in zip(columns, row, strict=True)
        ]
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    return table


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """``name  value`` lines, values made visible and aligned; None is left out."""
    shown = [(name, value) for name, value in facts if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {visible(value)}")


def actor() -> str:
    """Who acts, for the audit: the operating system's user and this host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        import os

        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def confirm(question: str, *, yes: bool) -> None:
    """Go on only after a yes; without a terminal to ask at, ``--yes`` is that yes."""
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise RegrowError("nobody to ask here: nothing was done. Say --yes to go ahead.") from None
    if not agreed:
        raise RegrowError("not confirmed: nothing was done.")


@dataclasses.dataclass(frozen=True)
class Acted:
    """What became of one item of an act: ``error`` is None when it was done."""

    id: str
    error: str | None


def act_on_each(ids: Sequence[str], act: Callable[[str], object], *, done: str, as_json: bool) -> None:
    """Do ``act`` for every id and say what became of each; exit code 1 when one could not be done.

    A failure does not stop the others: each is an act of its own.
    """
    results = [_acted(item, act) for item in ids]
    if as_json:
        print_json({"results": [dataclasses.asdict(result) for result in results]})
    for result in results:
        if result.error is not None:
            click.echo(f"regrow: {visible(result.error)}", err=True)
        elif not as_json:
            click.echo(f"{visible(result.id)} {done}")
    if any(result.error is not None for result in results):
        raise click.exceptions.Exit(1)


def _acted(item: str, act: Callable[[str], object]) -> Acted:
    try:
        act(item)
    except RegrowError as error:
        return Acted(item, str(error))
    return Acted(item, None)
