"""``regrow breakers``: the circuit breakers that the fleet shares, and a person's hand on their switch."""

from __future__ import annotations

import math

import click

from regrow import breakers as fleet
from regrow.breakers import BreakerStatus, OrderKind, ReporterStatus, by_hand, history
from regrow.breakers.declared import differences
from regrow.breakers.history import PastTransition
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
from regrow.cli.simulate import simulate
from regrow.cli.watch import watch
from regrow.engine import get_engine
from regrow.errors import RegrowError


@click.group()
def breakers() -> None:
    """List, show or switch circuit breakers."""


@breakers.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """List the breakers that the fleet used lately."""
    found = fleet.list_breakers(get_engine().redis)
    if as_json:
        print_json({"breakers": [breaker.as_dict() for breaker in found]})
        return
    print_table(
        [
            Column("NAME"),
            Column("STATE", whole=True),
            Column("SINCE", whole=True),
            Column("FAILED", right=True),
            Column("RETRY IN", whole=True, right=True),
            Column("BY HAND"),
        ],
        [
            (
                breaker.name,
                breaker.state,
                when(breaker.since),
                f"{breaker.failures} of {breaker.successes + breaker.failures}",
                "-" if breaker.retry_after is None else lasted(breaker.retry_after),
                breaker.override or "",
            )
            for breaker in found
        ],
        empty="No breaker is known: no application has used one lately.",
    )


@breakers.command()
@click.argument("name")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many changes."
)
@json_option
def show(name: str, limit: int, as_json: bool) -> None:
    """Show a breaker, its settings and its latest changes."""
    engine = get_engine()
    breaker = fleet.show(engine.redis, name)
    past = history.past(engine.database, name, limit=limit)
    if breaker is None and not past:
        raise _unknown(name)
    if as_json:
        print_json(
            {
                "breaker": None if breaker is None else breaker.as_dict(),
                "transitions": [_as_dict(change) for change in past],
            }
        )
        return
    if breaker is None:
        click.echo(f"{visible(name)} is not in use now; this is its history.")
    else:
        _print_breaker(breaker)
    click.echo()
    print_table(
        [Column("CHANGED", whole=True), Column("FROM"), Column("TO"), Column("WHY")],
        [
            (when(change.at), change.from_state, change.to_state, _why(change.reason, change.actor))
            for change in past
        ],
        empty="The history has no changes of it yet.",
    )


_reason_option = click.option("--reason", required=True, help="Why; kept with the breaker and for the audit.")
_for_option = click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long it holds; without it, until someone resets the breaker.",
)


@breakers.command()
@click.argument("name")
@_reason_option
@yes_option
@json_option
def reset(name: str, reason: str, yes: bool, as_json: bool) -> None:
    """Close a breaker for the whole fleet and end whatever a person told it before."""
    confirm(f"Reset {visible(name)}? Every process calls it again at once.", yes=yes)
    _order(name, OrderKind.RESET, reason, None, as_json=as_json)


@breakers.command(name="open")
@click.argument("name")
@_reason_option
@_for_option
@yes_option
@json_option
def open_command(name: str, reason: str, seconds: float | None, yes: bool, as_json: bool) -> None:
    """Open a breaker for the whole fleet: nobody calls what it guards."""
    confirm(f"Open {visible(name)} {_until(seconds)}? Every call is refused.", yes=yes)
    _order(name, OrderKind.FORCE_OPEN, reason, seconds, as_json=as_json)


@breakers.command()
@click.argument("name")
@_reason_option
@_for_option
@yes_option
@json_option
def disable(name: str, reason: str, seconds: float | None, yes: bool, as_json: bool) -> None:
    """Let every call through, whatever fails."""
    confirm(f"Disable {visible(name)} {_until(seconds)}? It will guard nothing.", yes=yes)
    _order(name, OrderKind.DISABLE, reason, seconds, as_json=as_json)


@breakers.command()
@click.argument("name")
@_reason_option
@_for_option
@yes_option
@json_option
def shadow(name: str, reason: str, seconds: float | None, yes: bool, as_json: bool) -> None:
    """Let every call through, and count how often the breaker would have opened."""
    confirm(f"Let {visible(name)} refuse nobody {_until(seconds)}? It will only count.", yes=yes)
    _order(name, OrderKind.METRICS_ONLY, reason, seconds, as_json=as_json)


def _order(name: str, kind: OrderKind, reason: str, seconds: float | None, *, as_json: bool) -> None:
    engine, who = get_engine(), actor()
    if not reason.strip():
        raise RegrowError("say why: --reason must not be empty.")
    if seconds is not None and not math.isfinite(seconds):
        raise RegrowError(f"--for {seconds}: say a number of seconds, or leave it out.")
    switched = by_hand.switch(engine, name, kind, actor=who, reason=reason, expires_in=seconds)
    if switched is None:
        raise _unknown(name)
    breaker = switched.status
    if switched.unwritten is not None:
        click.echo(f"regrow: done, but not written to the audit: {switched.unwritten}", err=True)
    if as_json:
        print_json({"breaker": breaker.as_dict()})
    else:
        switch = f", {breaker.override} by hand" if breaker.override else ""
        click.echo(f"{visible(name)} is {breaker.state} now{switch}.")


def _print_breaker(breaker: BreakerStatus) -> None:
    calls = breaker.successes + breaker.failures
    settings = breaker.config.as_dict()
    settings |= differences(settings, breaker.declared or {})
    shadow = breaker.override == "metrics_only"
    switch = f"{breaker.override} by {breaker.override_actor}: {breaker.override_reason}"
    print_facts(
        [
            ("name", breaker.name),
            ("state", breaker.state),
            ("since", when(breaker.since)),
            ("let through", None if breaker.ramp is None else f"{breaker.ramp:.0%} of the calls, and more"),
            ("retry in", None if breaker.retry_after is None else lasted(breaker.retry_after)),
            ("failed calls", f"{breaker.failures} of {calls} in the window, {breaker.run} in a row"),
            ("slow calls", f"{breaker.slow} of {calls} in the window" if breaker.slow else None),
            ("by hand", switch if breaker.override else None),
            (
                "would have opened",
                f"{breaker.would_open} times" if shadow else None,
            ),
            ("until", when(breaker.override_until) if breaker.override_until else None),
            *((f"host {visible(host.name)}", _host(host)) for host in breaker.reporters),
            *settings.items(),
        ]
    )


def _host(host: ReporterStatus) -> str:
    calls = host.successes + host.failures
    silent = "" if host.alive else f", silent for {lasted(host.silent)}"
    return f"{host.state}, {host.failures} of {calls} failed, {host.run} in a row{silent}"


def _as_dict(change: PastTransition) -> dict[str, object]:
    return {name: getattr(change, name) for name in PastTransition.__dataclass_fields__}


def _why(reason: str, who: str | None) -> str:
    return f"{reason} ({who})" if who else reason


def _until(seconds: float | None) -> str:
    return "until someone resets it" if seconds is None else f"for {lasted(seconds)}"


def _unknown(name: str) -> RegrowError:
    return RegrowError(f"no breaker is called {visible(name)}; `regrow breakers list` shows those in use")


breakers.add_command(watch)
breakers.add_command(simulate)
