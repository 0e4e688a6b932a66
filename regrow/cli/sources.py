"""``regrow dead-letters sources``: whether all that the spools of apps accepted has arrived."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from regrow.cli.output import Column, json_option, lasted, print_json, print_table
from regrow.dead_letters import service
from regrow.dead_letters.sources import SourceState
from regrow.engine import get_engine


@click.command(name="sources")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@json_option
def sources(limit: int, as_json: bool) -> None:
    """List the spools of apps: how far each was received, what is missing, what its disk damaged.

    The exit code is 1 when entries have been missing for 15 minutes, or were damaged.
    """
    engine = get_engine()
    found, counts, now = (
        service.list_sources(engine, limit=limit),
        service.count_sources(engine),
        engine.clock(),
    )
    if as_json:
        print_json(
            {
                "sources": [_fields(source, now) for source in found],
                "counts": {"sources": counts.sources, "missing": counts.missing, "lost": counts.lost},
            }
        )
    else:
        print_table(
            [
                Column("SOURCE", whole=True),
                Column("HOST"),
                Column("RECEIVED", whole=True, right=True),
                Column("MISSING", whole=True, right=True),
                Column("LOST", whole=True, right=True),
                Column("SEEN"),
            ],
            [
                (
                    source.source,
                    source.host,
                    str(source.received.watermark),
                    str(source.received.missing),
                    str(source.lost),
                    f"{lasted((now - source.last_seen_at).total_seconds())} ago",
                )
                for source in found
            ],
            empty="No app has sent anything through a spool yet.",
        )
    if counts.missing or counts.lost:
        click.echo(
            f"{counts.missing} missing for too long, {counts.lost} damaged on an app's disk: "
            'see docs/spool.md, "A gap that stays"',
            err=True,
        )
        raise click.exceptions.Exit(1)


def _fields(source: SourceState, now: datetime) -> dict[str, Any]:
    return {
        "source": source.source,
        "host": source.host,
        "received": source.received.watermark,
        "gaps": [list(gap) for gap in source.received.gaps],
        "missing": source.received.missing,
        "lost": source.lost,
        "alert": source.has_gap(now) or source.lost > 0,
        "gap_since": source.gap_since,
        "first_seen_at": source.first_seen_at,
        "last_seen_at": source.last_seen_at,
    }
