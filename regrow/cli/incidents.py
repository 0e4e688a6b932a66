"""``regrow incidents``: what failed, when and why, and a person's hand on it."""

from __future__ import annotations

import dataclasses
from typing import Literal

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
    visible,
    when,
    yes_option,
)
from regrow.engine import get_engine
from regrow.incidents import service
from regrow.incidents.model import Event, Incident, Member, name_of
from regrow.incidents.service import Dossier


@click.group()
def incidents() -> None:
    """List, show, acknowledge, explain, close or export incidents."""


@incidents.command("list")
@click.option(
    "--status", type=click.Choice(["open", "closed"]), help="Only these. Default: open ones and closed ones."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@json_option
def list_(status: Literal["open", "closed"] | None, limit: int, as_json: bool) -> None:
    """List incidents, newest first."""
    engine = get_engine()
    found = service.listed(engine, status=status, limit=limit)
    if as_json:
        print_json({"incidents": [dataclasses.asdict(one) for one in found]})
        return
    now = engine.clock()
    print_table(
        [
            Column("ID", whole=True),
            Column("BEGAN", whole=True),
            Column("LASTED", whole=True, right=True),
            Column("SEVERITY", whole=True),
            Column("STATUS", whole=True),
            Column("WHAT"),
        ],
        [
            (
                one.id,
                when(one.began_at),
                lasted(((one.resolved_at or now) - one.began_at).total_seconds()),
                one.severity,
                _status(one),
                one.title,
            )
            for one in found
        ],
        empty="No incident.",
    )


@incidents.command()
@click.argument("incident_id", metavar="ID")
@json_option
def show(incident_id: str, as_json: bool) -> None:
    """Show one incident: what is in it, and its timeline."""
    found = service.dossier(get_engine(), incident_id)
    if as_json:
        print_json(service.as_review(get_engine(), found))
    else:
        _print_dossier(found)


@incidents.command()
@click.argument("incident_id", metavar="ID")
@click.option("--reason", default="looking after it", show_default=True, help="Kept in the timeline.")
@json_option
def acknowledge(incident_id: str, reason: str, as_json: bool) -> None:
    """Say that you look after it: nobody further is called."""
    _said(
        service.acknowledge(get_engine(), incident_id, actor=actor(), reason=reason), "acknowledged", as_json
    )


@incidents.command()
@click.argument("incident_id", metavar="ID")
@click.argument("text")
@json_option
def note(incident_id: str, text: str, as_json: bool) -> None:
    """Write a line into the timeline."""
    _said(service.note(get_engine(), incident_id, text, actor=actor()), "noted", as_json)


@incidents.command()
@click.argument("incident_id", metavar="ID")
@click.argument("text")
@json_option
def cause(incident_id: str, text: str, as_json: bool) -> None:
    """Write down what it came from."""
    _said(service.set_root_cause(get_engine(), incident_id, text, actor=actor()), "root cause kept", as_json)


@incidents.command()
@click.argument("incident_id", metavar="ID")
@click.option("--reason", required=True, help="Why; kept in the timeline and for the audit.")
@yes_option
@json_option
def close(incident_id: str, reason: str, yes: bool, as_json: bool) -> None:
    """End it by hand; what is still down opens another one with its next change."""
    engine = get_engine()
    found = service.dossier(engine, incident_id)
    confirm(f"Close {visible(found.incident.title)} ({_bad(found)} in it not well)?", yes=yes)
    _said(service.close(engine, incident_id, actor=actor(), reason=reason), "closed", as_json)


@incidents.command()
@click.argument("incident_id", metavar="ID")
@click.option(
    "--format", "form", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True
)
def export(incident_id: str, form: str) -> None:
    """Print the post-incident review: timeline, impact, budget spent."""
    engine = get_engine()
    found = service.dossier(engine, incident_id)
    if form == "json":
        print_json(service.as_review(engine, found))
    else:
        click.echo(visible(service.as_markdown(engine, found), keep="\n"), nl=False)


def _said(one: Incident, done: str, as_json: bool) -> None:
    if as_json:
        print_json({"incident": dataclasses.asdict(one)})
    else:
        click.echo(f"{visible(one.id)} {done}: {visible(one.title)}")


def _status(one: Incident) -> str:
    return "acknowledged" if one.is_open and one.acknowledged_at else one.status


def _bad(found: Dossier) -> int:
    return sum(member.state != "well" for member in found.members)


def _print_dossier(found: Dossier) -> None:
    one = found.incident
    print_facts(
        [
            ("incident", one.id),
            ("what", one.title),
            ("severity", one.severity),
            ("status", _status(one)),
            ("began", when(one.began_at)),
            ("detected", when(one.detected_at)),
            (
                "acknowledged",
                f"{when(one.acknowledged_at)} by {one.acknowledged_by}" if one.acknowledged_at else None,
            ),
            ("resolved", when(one.resolved_at) if one.resolved_at else None),
            ("closed by", one.closed_by),
            ("root cause", one.root_cause),
            ("part of", one.merged_into),
            ("went on", f"{one.reopened} times after its end" if one.reopened else None),
        ]
    )
    click.echo()
    print_table(
        [Column("IN IT"), Column("STATE", whole=True), Column("DOWN FOR", whole=True), Column("BECAUSE OF")],
        [_member_row(member, found) for member in found.members],
        empty="Nothing is in it.",
    )
    click.echo()
    print_table(
        [Column("WHEN", whole=True), Column("WHAT", whole=True), Column("OF"), Column("SAID")],
        [_event_row(event) for event in found.timeline],
        empty="No timeline.",
    )


def _member_row(member: Member, found: Dossier) -> tuple[str, str, str, str]:
    down = member.down_until(found.incident.resolved_at or found.at)
    return member.subject, member.state, lasted(down), name_of(member.cause) if member.cause else "-"


def _event_row(event: Event) -> tuple[str, str, str, str]:
    said = f"{event.message} ({event.actor})" if event.actor else event.message
    return when(event.at), event.kind.replace("_", " "), event.subject or "-", said
