"""``regrow trends``: where capacity goes."""

from __future__ import annotations

import click

from regrow.capacity import service
from regrow.capacity.rules import Trend
from regrow.cli.output import Column, json_option, lasted, print_json, print_table
from regrow.engine import get_engine


@click.command()
@json_option
def trends(as_json: bool) -> None:
    """Show every figure with what is known of where it goes, and when it is full."""
    engine = get_engine()
    now = engine.clock()
    found = service.trends(engine, now)
    if as_json:
        print_json({"at": now, "trends": [one.as_dict() for one in found]})
        return
    print_table(
        [
            Column("FIGURE", whole=True),
            Column("SUBJECT"),
            Column("NOW", whole=True, right=True),
            Column("A DAY", whole=True, right=True),
            Column("FULL IN"),
            Column("WHAT IS KNOWN"),
        ],
        [
            (one.kind.replace("_", " "), one.subject, _now(one), _per_day(one), _full(one), one.why)
            for one in found
        ],
        empty="Nothing to look at yet.",
    )


def _now(one: Trend) -> str:
    return "-" if one.now is None else f"{one.now:.3g} {one.unit}"


def _per_day(one: Trend) -> str:
    return "-" if one.per_day is None else f"{one.per_day:+.3g}"


def _full(one: Trend) -> str:
    if one.full_in is None:
        return "-"
    latest = lasted(one.full_latest) if one.full_latest is not None else "never"
    return f"{lasted(one.full_in)} ({lasted(one.full_earliest or 0.0)} to {latest})"
