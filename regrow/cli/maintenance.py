"""``regrow maintenance``: windows in which checks are probed and nobody is called."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import click

from regrow.cli.output import (
    Column,
    actor,
    confirm,
    json_option,
    lasted,
    moment_of,
    print_json,
    print_table,
    visible,
    when,
    yes_option,
)
from regrow.engine import get_engine
from regrow.errors import RegrowError
from regrow.health import maintenance as windows
from regrow.health.windows import Scope, Window

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@click.group()
def maintenance() -> None:
    """List, add or end maintenance windows."""


@maintenance.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """List the windows that hold now or begin within 35 days."""
    engine = get_engine()
    now = engine.clock()
    found = windows.upcoming(engine, now)
    if as_json:
        print_json({"maintenance": [_as_dict(window, now) for window in found]})
        return
    print_table(
        [
            Column("ID", whole=True),
            Column("FROM", whole=True),
            Column("LASTS", whole=True, right=True),
            Column("WHAT"),
        ],
        [
            (
                window.name,
                when(window.starts).removesuffix(":00Z"),
                lasted((window.ends - window.starts).total_seconds()),
                f"{'now, ' if window.covers(now) else ''}{window.kind}, {window.scope}: {window.reason}",
            )
            for window in found
        ],
        empty="No maintenance is planned.",
    )


@maintenance.command()
@click.option(
    "--check", "checks", multiple=True, metavar="NAME", help="A check it holds for; may be repeated."
)
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", help="It holds for checks with all these."
)
@click.option("--service", metavar="NAME", help="The same as --label service=NAME.")
@click.option("--all", "everything", is_flag=True, help="It holds for every check.")
@click.option(
    "--from", "starts", default="now", metavar="TIME", help="now, or 2026-11-22T02:00. Default: now."
)
@click.option("--until", "ends", metavar="TIME", help="When it ends; or say --for.")
@click.option("--for", "lasts", metavar="DURATION", help="How long it lasts: 90m, 2h, 1d.")
@click.option(
    "--zone", default="UTC", show_default=True, help="Of times that name none, such as Europe/Berlin."
)
@click.option("--reason", required=True, help="Why; shown, and kept for the audit.")
@yes_option
@json_option
def add(
    checks: Sequence[str],
    labels: Sequence[str],
    service: str | None,
    everything: bool,
    reason: str,
    yes: bool,
    as_json: bool,
    **times: str | None,
) -> None:
    """Add a window: probes go on, results are marked, nobody is called and nothing recovered.

    One that begins in less than 24 h is an emergency and lasts 4 h at most.
    """
    engine = get_engine()
    scope = _scope(checks, [*labels, *([f"service={service}"] if service else [])], everything)
    begins, until = _times(engine.clock(), **times)
    confirm(f"Call nobody for {visible(scope)} from {when(begins)} until {when(until)}?", yes=yes)
    added = windows.add(engine, scope, begins, until, actor=actor(), reason=reason)
    if added.short_notice:
        click.echo("regrow: announced less than 24 h ahead: an emergency window", err=True)
    if as_json:
        print_json({"maintenance": _as_dict(added.window, engine.clock())})
    else:
        click.echo(f"{added.window.name} from {when(begins)} until {when(until)}")


@maintenance.command()
@click.argument("window_id", metavar="ID")
@click.option("--reason", required=True, help="Why; kept for the audit.")
@yes_option
@json_option
def end(window_id: str, reason: str, yes: bool, as_json: bool) -> None:
    """End a window now, or call it off when it has not begun."""
    engine = get_engine()
    confirm(f"End {visible(window_id)}? What is down is told from the next result on.", yes=yes)
    ended = windows.end(engine, window_id, actor=actor(), reason=reason)
    if as_json:
        print_json({"ended": ended.name})
    else:
        click.echo(f"{visible(ended.name)} is over.")


def _scope(checks: Sequence[str], labels: Sequence[str], everything: bool) -> Scope:
    pairs = dict(label.partition("=")[::2] for label in labels)
    if not all(name and value for name, value in pairs.items()):
        raise click.UsageError("write a label as --label NAME=VALUE.")
    if everything == bool(checks or pairs):
        raise click.UsageError("say whom it holds for: --check, --label or --service, or else --all.")
    return Scope(tuple(checks), tuple(sorted(pairs.items())), everything)


def _times(
    now: datetime, starts: str | None, ends: str | None, lasts: str | None, zone: str | None
) -> tuple[datetime, datetime]:
    if (ends is None) == (lasts is None):
        raise click.UsageError("say when it ends: either --until or --for.")
    place = _place(zone or "UTC")
    begins = now if starts in {None, "now"} else moment_of(str(starts), place, "--from")
    return begins, moment_of(ends, place, "--until") if ends is not None else begins + _duration(lasts or "")


def _duration(text: str) -> timedelta:
    number, unit = text[:-1], text[-1:]
    try:
        return timedelta(**{_UNITS[unit]: float(number)})
    except (KeyError, ValueError, OverflowError):
        raise click.UsageError(f"--for {visible(text)}: write 90m, 2h or 1d.") from None


def _place(zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise RegrowError(f"--zone {zone}: no such time zone; write one such as Europe/Berlin.") from None


def _as_dict(window: Window, now: datetime) -> dict[str, object]:
    return {
        "id": window.name,
        "kind": window.kind,
        "starts": window.starts,
        "ends": window.ends,
        "now": window.covers(now),
        "checks": list(window.scope.checks),
        "labels": dict(window.scope.labels),
        "everything": window.scope.everything,
        "reason": window.reason,
        "actor": window.actor,
        "announced": window.announced,
    }
