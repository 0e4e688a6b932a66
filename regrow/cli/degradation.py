"""``regrow degradation``: how much of the system is on, and a person's hand on it."""

from __future__ import annotations

import math

import click

from regrow.cli.output import (
    Column,
    actor,
    confirm,
    json_option,
    lasted,
    print_facts,
    print_json,
    print_table,
    when,
    yes_option,
)
from regrow.degradation import LEVELS, service
from regrow.degradation.kept import PastChange
from regrow.degradation.service import Ordered, Status
from regrow.engine import get_engine
from regrow.errors import RegrowError


@click.group()
def degradation() -> None:
    """Show or set how much of the system is on."""


@degradation.command()
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many changes."
)
@json_option
def show(limit: int, as_json: bool) -> None:
    """Show the level, what it follows from, and its latest changes."""
    engine = get_engine()
    found, past = service.status(engine), service.history(engine, limit)
    if as_json:
        print_json({"degradation": found.as_dict(), "changes": [_as_dict(change) for change in past]})
        return
    _print(found)
    click.echo()
    print_table(
        [Column("CHANGED", whole=True), Column("FROM"), Column("TO"), Column("WHY")],
        [(when(change.at), change.old or "-", change.new, _why(change)) for change in past],
        empty="The level has never changed.",
    )


_reason_option = click.option("--reason", required=True, help="Why; told with the level and for the audit.")


@degradation.command(name="set")
@click.argument("level", type=click.Choice([str(level) for level in LEVELS]))
@_reason_option
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long it holds; without it, until someone clears it.",
)
@yes_option
@json_option
def set_command(level: str, reason: str, seconds: float | None, yes: bool, as_json: bool) -> None:
    """Hold the level at LEVEL, whatever the checks say; applications hear within a second."""
    if seconds is not None and not math.isfinite(seconds):
        raise RegrowError(f"--for {seconds}: say a number of seconds, or leave it out.")
    how_long = "until someone clears it" if seconds is None else f"for {lasted(seconds)}"
    confirm(f"Hold the level at {level} {how_long}? Every application acts on it.", yes=yes)
    ordered = service.set_level(get_engine(), level, actor=actor(), reason=reason, expires_in=seconds)
    _told(ordered, as_json=as_json)


@degradation.command()
@_reason_option
@json_option
def clear(reason: str, as_json: bool) -> None:
    """Let the checks decide again."""
    _told(service.clear(get_engine(), actor=actor(), reason=reason), as_json=as_json)


def _told(ordered: Ordered, *, as_json: bool) -> None:
    if ordered.unheard is not None:
        click.echo(f"regrow: written down, but Redis has not got it yet: {ordered.unheard}", err=True)
        click.echo("regrow: the worker tells it when Redis is back.", err=True)
        if as_json:
            print_json({"degradation": None})
        return
    if ordered.unwritten is not None:
        click.echo(f"regrow: done, but not written to the audit: {ordered.unwritten}", err=True)
    found = service.status(get_engine())
    if as_json:
        print_json({"degradation": found.as_dict()})
    else:
        held = f", by hand: {found.reason}" if found.ordered else ""
        click.echo(f"The level is {found.level} now{held}.")


def _print(found: Status) -> None:
    score = found.score
    print_facts(
        [
            ("level", found.level if found.known else f"unknown; applications go by {found.level}"),
            ("since", when(found.since) if found.since else None),
            ("because", found.why),
            ("confirmed", when(found.confirmed_at) if found.confirmed_at else None),
            ("the score says", found.automatic),
            ("score", None if score is None else f"{score.low:.1f} to {score.high:.1f} of 100"),
            ("by hand", f"{found.ordered} by {found.actor}: {found.reason}" if found.ordered else None),
            ("until", when(found.until) if found.until else None),
            *(
                (name, f"{status}, {points:g} points")
                for name, status, points in (score.pulls if score else ())
            ),
        ]
    )


def _as_dict(change: PastChange) -> dict[str, object]:
    return {name: getattr(change, name) for name in PastChange.__dataclass_fields__}


def _why(change: PastChange) -> str:
    return f"{change.reason} ({change.actor})" if change.actor else change.reason
