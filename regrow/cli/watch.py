"""``regrow breakers watch``: the fleet's breakers, live; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from regrow import breakers as fleet
from regrow.breakers import BreakerStatus
from regrow.cli.output import Column, lasted, print_table, table_of, visible, when
from regrow.engine import Engine, get_engine
from regrow.errors import StoreUnavailableError

Seen = list[BreakerStatus] | str
"""The breakers, or why nothing is known of them."""

COLUMNS = (
    Column("NAME"),
    Column("STATE", whole=True),
    Column("FOR", whole=True, right=True),
    Column("FAILED", whole=True, right=True),
    Column("IN A ROW", whole=True, right=True),
    Column("RETRY IN", whole=True, right=True),
    Column("BY HAND"),
)
EMPTY = "No breaker is known: no application has used one lately."


@click.command()
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option("--once", is_flag=True, help="Look once and end.")
def watch(every: float, once: bool) -> None:
    """Watch the breakers of the fleet: a live table, or a line for each change when not on a terminal."""
    engine = get_engine()
    if once:
        print_table(COLUMNS, _rows(fleet.list_breakers(engine.redis), engine), empty=EMPTY)
        return
    try:
        with _screen(engine) as show:
            while True:
                show(_look(engine))
                time.sleep(every)
    except KeyboardInterrupt:
        return  # how a watch ends


def _look(engine: Engine) -> Seen:
    try:
        return fleet.list_breakers(engine.redis)
    except StoreUnavailableError as error:
        return str(error)  # an outage is what one watches for; it does not end the watch


@contextmanager
def _screen(engine: Engine) -> Iterator[Callable[[Seen], None]]:
    if not sys.stdout.isatty():
        yield Lines(engine).show
        return
    from rich.live import Live
    from rich.text import Text

    with Live(screen=True, auto_refresh=False) as live:

        def show(seen: Seen) -> None:
            if isinstance(seen, str):
                live.update(Text(f"unknown: {visible(seen)}", style="magenta"), refresh=True)
            else:
                rows = _rows(seen, engine)
                live.update(table_of(COLUMNS, rows) if rows else Text(EMPTY), refresh=True)

        yield show


class Lines:
    """A line for each breaker at first, then one for each that changed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: dict[str, tuple[object, ...]] | None = None
        self._unknown = False

    def show(self, seen: Seen) -> None:
        """Print what is new since the last time."""
        at = when(self._engine.clock())
        if isinstance(seen, str):
            if not self._unknown:
                click.echo(f"{at} unknown: {visible(seen)}")
            self._unknown = True
            return
        if self._unknown:
            click.echo(f"{at} Redis answers again")
        elif self._last is None and not seen:
            click.echo(f"{at} {EMPTY}")
        self._unknown = False
        before = self._last or {}
        now = {breaker.name: (breaker.state, breaker.epoch, breaker.override) for breaker in seen}
        for breaker in seen:
            if before.get(breaker.name) != now[breaker.name]:
                click.echo(f"{at} {_line(breaker)}")
        for name in sorted(before.keys() - now.keys()):
            click.echo(f"{at} {visible(name)} gone: nobody has used it for long")
        self._last = dict(now)


def _line(breaker: BreakerStatus) -> str:
    calls = breaker.successes + breaker.failures
    by_hand = f", {breaker.override} by {breaker.override_actor}" if breaker.override else ""
    return visible(f"{breaker.name} {breaker.state} ({breaker.failures} of {calls} failed{by_hand})")


def _rows(seen: Iterable[BreakerStatus], engine: Engine) -> list[tuple[str, ...]]:
    now = engine.clock()
    return [
        (
            breaker.name,
            breaker.state,
            "-" if breaker.since is None else lasted(max(0.0, (now - breaker.since).total_seconds())),
            f"{breaker.failures} of {breaker.successes + breaker.failures}",
            str(breaker.run),
            "-" if not breaker.retry_after else lasted(breaker.retry_after),
            breaker.override or "",
        )
        for breaker in seen
    ]
