"""``regrow reports``: what happened, hour by hour, or up to now."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, cast
from zoneinfo import ZoneInfo

import click

from regrow.cli.output import Column, json_option, moment_of, print_json, print_table, visible, when
from regrow.engine import get_engine
from regrow.reports import service
from regrow.reports.periods import KINDS, Kind
from regrow.reports.service import ReportRow, ReportSummary

_format_option = click.option(
    "--format",
    "shape",
    type=click.Choice(["md", "json", "html"]),
    default="md",
    show_default=True,
    help="Markdown, the JSON that the digest is taken of, or a page of its own.",
)


@click.group()
def reports() -> None:
    """List, show or make reliability reports."""


@reports.command(name="list")
@click.option("--kind", help="Only this kind: hourly, daily, monthly, now.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@json_option
def list_command(kind: str | None, limit: int, as_json: bool) -> None:
    """List reports, the latest period first."""
    found = service.list_reports(get_engine(), limit=limit, kind=kind)
    if as_json:
        print_json({"reports": [_summary(row) for row in found]})
        return
    print_table(
        [Column("ID", whole=True), Column("PERIOD ENDS", whole=True), Column("HEADLINE")],
        [(row.id, when(row.period_end), _headline(row)) for row in found],
        empty="No reports yet: the first comes within the hour, or at once with `regrow reports now`.",
    )


@reports.command()
@click.argument("report_id", metavar="ID")
@_format_option
@json_option
def show(report_id: str, shape: str, as_json: bool) -> None:
    """Show a report (its id, the beginning of it, or ``latest``)."""
    _print(_wanted(report_id), "json" if as_json else shape)


@reports.command()
@click.option(
    "--kind",
    type=click.Choice(["now", *KINDS]),
    default="now",
    show_default=True,
    help="The sixty minutes until then, or the last whole hour, day or month that had ended.",
)
@click.option("--until", metavar="TIME", help="Such as 2026-11-22T02:00, in reports.zone. Default: now.")
@_format_option
@json_option
def now(kind: str, until: str | None, shape: str, as_json: bool) -> None:
    """Make a report at once and keep it: the sixty minutes up to now, the running hour with them."""
    engine = get_engine()
    place = ZoneInfo(engine.settings.reports.zone)
    moment = None if until is None else moment_of(until, place, "--until")
    if moment is not None and moment > engine.clock():
        raise click.UsageError(f"--until {visible(str(until))}: that time is not over yet.")
    if kind == "now":
        row = service.generate(engine, kind="now", until=moment)
    else:
        row = service.generate_last(engine, cast("Kind", kind), moment)
    _print(row, "json" if as_json else shape)


@reports.command()
@click.argument("report_id", metavar="ID")
@click.argument("other_id", metavar="[OTHER]", required=False)
@json_option
def diff(report_id: str, other_id: str | None, as_json: bool) -> None:
    """Show what a report says otherwise than the version before it (or than OTHER)."""
    found = service.changes(get_engine(), _wanted(report_id).id, other_id and _wanted(other_id).id)
    if as_json:
        print_json(
            {
                "before": _summary(found.before),
                "after": _summary(found.after),
                "changes": [dataclasses.asdict(change) for change in found.changes],
            }
        )
        return
    print_table(
        [Column("WHAT"), Column(f"BEFORE ({found.before.id[:13]})"), Column(f"NOW ({found.after.id[:13]})")],
        [(change.where, _value(change.before), _value(change.after)) for change in found.changes],
        empty="Both say the same.",
    )


def _value(value: Any) -> str:
    return (
        "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )


def _wanted(report_id: str) -> ReportRow:
    engine = get_engine()
    if report_id == "latest" and (found := service.list_reports(engine, limit=1)):
        return service.get(engine, found[0].id)
    return service.get(engine, report_id)


def _print(row: ReportRow, shape: str) -> None:
    if not row.intact:
        click.echo(f"regrow: report {row.id} is not what it was when its digest was taken", err=True)
    if shape == "json":
        print_json({**_summary(row), "intact": row.intact, "report": json.loads(row.json)})
    elif shape == "html":
        click.echo(row.html, nl=False)
    else:
        click.echo(visible(row.markdown, keep="\n"), nl=False)


def _summary(row: ReportSummary) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(ReportSummary)}


def _headline(row: ReportSummary) -> str:
    """The kind and version where they are not the usual ones, then the headline."""
    told = [row.kind] if row.kind != "hourly" else []
    if row.version > 1:
        told.append(f"amended, version {row.version}")
    return f"{', '.join(told)}: {row.headline}" if told else row.headline
