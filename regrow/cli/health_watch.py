"""``regrow health watch``: all checks, live; plain lines where there is no terminal. Runs no check itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from regrow.cli.output import Column, lasted, print_table, table_of, visible, when
from regrow.engine import get_engine
from regrow.health import service

if TYPE_CHECKING:
    from regrow.health.rules import CheckView, Overview

COLUMNS = (
    Column("CHECK", whole=True),
    Column("STATUS", whole=True),
    Column("FOR", whole=True, right=True),
    Column("LAST PROBE", whole=True),
    Column("AGE", whole=True, right=True),
    Column("WHY"),
)
EMPTY = "No checks are declared."


def watch(every: float, *, once: bool) -> None:
    """Show what the workers found: a live table, or a line for each change when not on a terminal."""
    engine = get_engine()
    if once:
        seen = service.overview(engine)
        print_table(COLUMNS, _rows(seen), empty=EMPTY)
        click.echo(f"all: {seen.status}: {visible(seen.message)}")
        return
    try:
        with _screen() as show:
            while True:
                engine.refresh()
                show(service.overview(engine))
                time.sleep(every)
    except KeyboardInterrupt:
        return  # how a watch ends


@contextmanager
def _screen() -> Iterator[Callable[[Overview], None]]:
    if not sys.stdout.isatty():
        yield Lines().show
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(screen=True, auto_refresh=False) as live:

        def show(seen: Overview) -> None:
            said = Text(f"{when(seen.at)} {seen.status}: {visible(seen.message)}")
            rows = _rows(seen)
            live.update(Group(said, table_of(COLUMNS, rows) if rows else Text(EMPTY)), refresh=True)

        yield show


class Lines:
    """A line for each check at first, then one for each whose word, cause or maintenance has changed.

    Likewise for all of them, and beat, which has them run.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[object, ...]] = {}
        self._verdict: tuple[object, ...] = ()

    def show(self, seen: Overview) -> None:
        """Print what is new since the last time."""
        at = when(seen.at)
        now = {check.name: (check.word, check.cause, check.maintenance) for check in seen.checks}
        for check in seen.checks:
            if self._last.get(check.name) != now[check.name]:
                click.echo(f"{at} {visible(check.name)} {check.word}: {visible(_why(check))}")
        for name in sorted(self._last.keys() - now.keys()):
            click.echo(f"{at} {visible(name)} is not declared any more")
        verdict = (seen.status, None if seen.beat is None else seen.beat.status)
        if verdict != self._verdict:
            click.echo(f"{at} all: {seen.status}: {visible(seen.message)}")
        self._last, self._verdict = dict(now), verdict


def _rows(seen: Overview) -> list[tuple[str, ...]]:
    return [
        (
            check.name,
            check.word,
            "-" if check.since is None else lasted(max(0.0, (seen.at - check.since).total_seconds())),
            check.status,
            "never" if check.age is None else lasted(check.age),
            _why(check),
        )
        for check in seen.checks
    ]


def _why(check: CheckView) -> str:
    notes = [
        f"because of {check.cause}" if check.cause else "",
        "in maintenance" if check.maintenance else "",
    ]
    return "; ".join([*filter(None, notes), check.message])
