"""``regrow reports``: what happened, hour by hour, or up to now."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from regrow.cli.output import Column, json_option, print_json, print_table, visible, when
from regrow.engine import get_engine
from regrow.reports import service
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
@click.option("--kind", help="Only this kind: hourly, now.")
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
@_format_option
@json_option
def now(shape: str, as_json: bool) -> None:
    """Report on the sixty minutes up to now, the running hour with them, and keep the report."""
    _print(service.generate(get_engine(), kind="now"), "json" if as_json else shape)


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
