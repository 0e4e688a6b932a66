"""``regrow recovery``: how the recovery of services stands, and a person's hand on it."""

from __future__ import annotations

import dataclasses

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
from regrow.errors import RegrowError, ServiceNotFoundError
from regrow.recovery import service
from regrow.recovery.service import Attempt, ServiceStatus


@click.group()
def recovery() -> None:
    """Show, trigger or unlock the recovery of services."""


@recovery.command()
@click.argument("name", required=False)
@json_option
def status(name: str | None, as_json: bool) -> None:
    """Show how the recovery of all services stands, or of one."""
    found = service.status(get_engine())
    if name is not None:
        found = [one for one in found if one.name == name]
        if not found:
            raise ServiceNotFoundError(f"no recovery handler is declared for {visible(name)!r}")
    if as_json:
        print_json({"services": [one.as_dict() for one in found]})
    elif name is not None:
        _print_service(found[0])
    else:
        print_table(
            [
                Column("SERVICE"),
                Column("STATE", whole=True),
                Column("ATTEMPTS", whole=True, right=True),
                Column("DOWN SINCE", whole=True),
                Column("WHY"),
            ],
            [(one.name, one.state, _attempts(one), when(one.down_since), one.why) for one in found],
            empty="No service declares a recovery handler ([recovery.services.NAME]).",
        )


@recovery.command()
@click.argument("name", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many attempts."
)
@json_option
def history(name: str | None, limit: int, as_json: bool) -> None:
    """List attempts, newest first, of all services or of one."""
    found = service.history(get_engine(), name, limit)
    if as_json:
        print_json({"recoveries": [dataclasses.asdict(one) for one in found]})
        return
    print_table(
        [
            Column("STARTED", whole=True),
            Column("SERVICE"),
            Column("TRY", whole=True, right=True),
            Column("OUTCOME", whole=True),
            Column("TOOK", whole=True, right=True),
            Column("WHAT CAME OF IT"),
        ],
        [
            (when(one.started_at), one.service, one.attempt, _outcome(one), _took(one), _told(one))
            for one in found
        ],
        empty="Nothing had to be recovered yet.",
    )


_reason_option = click.option("--reason", required=True, help="Why; kept with the attempt and for the audit.")


@recovery.command()
@click.argument("name")
@_reason_option
@yes_option
@json_option
def trigger(name: str, reason: str, yes: bool, as_json: bool) -> None:
    """Run a service's handler now, whatever pause or lock there is."""
    engine = get_engine()
    said = _said(reason)
    found = next((one for one in service.status(engine) if one.name == name), None)
    what = found.action if found else "run its handler"
    confirm(f"Recover {visible(name)} now: {visible(what)}?", yes=yes)
    sent = service.trigger(engine, name, actor=actor(), reason=said)
    if as_json:
        print_json({"service": name, "sent": sent})
    elif sent:
        click.echo(f"{visible(name)}: sent to the workers. `regrow recovery history {visible(name)}` tells.")
    else:
        click.echo(f"{visible(name)}: the broker is away; the next scheduled look begins it.")


@recovery.command()
@click.argument("name")
@_reason_option
@yes_option
@json_option
def unlock(name: str, reason: str, yes: bool, as_json: bool) -> None:
    """Lift a service's lock and pause, so that attempts begin anew."""
    said = _said(reason)
    confirm(f"Unlock {visible(name)}? Its handler is tried again by itself.", yes=yes)
    lifted = service.unlock(get_engine(), name, actor=actor(), reason=said)
    if as_json:
        print_json({"service": name, "unlocked": lifted})
    else:
        click.echo(f"{visible(name)} is unlocked." if lifted else f"{visible(name)} was not locked.")


def _said(reason: str) -> str:
    if not reason.strip():
        raise RegrowError("say why: --reason must not be empty.")
    return reason


def _print_service(one: ServiceStatus) -> None:
    last = one.last
    print_facts(
        [
            ("service", one.name),
            ("state", one.state),
            ("because", one.why or None),
            ("until", when(one.until) if one.until else None),
            ("handler", f"{one.kind}: {one.action}{' (dry run)' if one.dry_run else ''}"),
            ("breaker", one.breaker),
            ("check", one.check),
            ("depends on", ", ".join(one.depends_on) or None),
            ("attempts", _attempts(one)),
            ("down since", when(one.down_since) if one.down_since else None),
            ("locked since", when(one.locked_at) if one.locked_at else None),
            ("came back", when(one.recovered_at) if one.recovered_at else None),
            ("last attempt", f"{when(last.started_at)} {_outcome(last)}: {_told(last)}" if last else None),
        ]
    )


def _attempts(one: ServiceStatus) -> str:
    return f"{one.attempts} of {one.max_attempts}"


def _outcome(one: Attempt) -> str:
    return one.outcome or "under way"


def _took(one: Attempt) -> str:
    return lasted((one.ended_at - one.started_at).total_seconds()) if one.ended_at else "-"


def _told(one: Attempt) -> str:
    return one.message or one.reason
