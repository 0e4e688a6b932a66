"""``regrow alerts``: what fires, why, who was told, and a person's hand on it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal

import click

from regrow.alerts import service
from regrow.alerts.service import Why
from regrow.alerts.store import Sent
from regrow.cli.output import (
    Column,
    actor,
    confirm,
    json_option,
    print_facts,
    print_json,
    print_table,
    visible,
    when,
    yes_option,
)
from regrow.engine import get_engine
from regrow.errors import AlertRefusedError
from regrow.incidents.model import Severity

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group()
def alerts() -> None:
    """List, explain, acknowledge or silence alerts, and test channels."""


@alerts.command("list")
@click.option("--status", type=click.Choice(["pending", "firing", "resolved"]), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@json_option
def list_(status: Literal["pending", "firing", "resolved"] | None, limit: int, as_json: bool) -> None:
    """List alerts, newest first."""
    engine = get_engine()
    found = [kept.alert for kept in service.listed(engine, status=status, limit=limit)]
    waiting = service.waiting(engine)
    if as_json:
        told = {name: {"notices": number, "oldest": at} for name, (number, at) in waiting.items()}
        print_json({"alerts": [dataclasses.asdict(one) for one in found], "waiting": told})
        return
    print_table(
        [
            Column("ID", whole=True),
            Column("SINCE", whole=True),
            Column("SEVERITY", whole=True),
            Column("STATUS", whole=True),
            Column("WHAT"),
            Column("TOLD"),
        ],
        [
            (
                one.id,
                when(one.since),
                one.severity,
                "acknowledged" if one.status == "firing" and one.acknowledged_at else one.status,
                f"{one.rule} {one.subject}: {one.message}",
                one.held_by or ", ".join(one.reached) or "nobody yet",
            )
            for one in found
        ],
        empty="No alert.",
    )
    for name, (number, at) in waiting.items():
        click.echo(f"regrow: {number} waiting for {visible(name)}, the oldest since {when(at)}", err=True)


@alerts.command()
@click.argument("name")
@json_option
def why(name: str, as_json: bool) -> None:
    """Say why somebody was told, or not: NAME is a rule, a subject or the id of an alert."""
    found = service.why(get_engine(), name)
    if as_json:
        print_json({"why": [_as_dict(one) for one in found]})
        return
    for one in found:
        _print_why(one)


@alerts.command()
@click.argument("alert_id", metavar="ID")
@click.option("--reason", default="looking after it", show_default=True, help="Kept for the audit.")
@json_option
def acknowledge(alert_id: str, reason: str, as_json: bool) -> None:
    """Say that you look after it, and after its incident: nobody further is told."""
    done = service.acknowledge(get_engine(), alert_id, actor=actor(), reason=reason)
    if as_json:
        print_json({"alert": dataclasses.asdict(done)})
    else:
        click.echo(f"{visible(done.id)} acknowledged: {visible(done.rule)} {visible(done.subject)}")


@alerts.command()
@click.option("--rule", default="", help="Of this rule; * and ? match.")
@click.option("--subject", default="", help="Of this subject; * and ? match.")
@click.option(
    "--severity", type=click.Choice(["critical", "high", "medium", "low"]), help="Of this severity."
)
@click.option("--for", "lasts", required=True, metavar="DURATION", help="How long: 90m, 2h, 1d.")
@click.option("--reason", required=True, help="Why; shown, and kept for the audit.")
@yes_option
@json_option
def silence(
    rule: str,
    subject: str,
    severity: Severity | None,
    lasts: str,
    reason: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Tell nobody of what matches all that is given, for so long."""
    engine = get_engine()
    what = " ".join(filter(None, (rule, subject, severity)))
    confirm(f"Tell nobody of {visible(what)} for {visible(lasts)}?", yes=yes)
    made = service.silence(
        engine,
        seconds=_seconds(lasts),
        rule=rule,
        subject=subject,
        severity=severity,
        actor=actor(),
        reason=reason,
    )
    if as_json:
        print_json({"silence": dataclasses.asdict(made)})
    else:
        click.echo(f"{made.id} until {when(made.ends)}")


@alerts.command()
@json_option
def silences(as_json: bool) -> None:
    """List the silences that are not over."""
    found = service.silences(get_engine())
    if as_json:
        print_json({"silences": [dataclasses.asdict(one) for one in found]})
        return
    print_table(
        [Column("ID", whole=True), Column("ENDS", whole=True), Column("WHAT"), Column("BY"), Column("WHY")],
        [
            (
                one.id,
                when(one.ends),
                " ".join(filter(None, (one.rule, one.subject, one.severity))),
                one.actor,
                one.reason,
            )
            for one in found
        ],
        empty="Nothing is silenced.",
    )


@alerts.command()
@click.argument("silence_id", metavar="ID")
@click.option("--reason", default="over", show_default=True, help="Kept for the audit.")
@json_option
def unsilence(silence_id: str, reason: str, as_json: bool) -> None:
    """End a silence now."""
    service.unsilence(get_engine(), silence_id, actor=actor(), reason=reason)
    if as_json:
        print_json({"ended": silence_id})
    else:
        click.echo(f"{visible(silence_id)} is over.")


@alerts.command()
@click.argument("channel", required=False)
@json_option
def test(channel: str | None, as_json: bool) -> None:
    """Tell a test by CHANNEL, or by all of them; exit code 1 when one did not take it."""
    found = service.send_test(get_engine(), channel, actor=actor())
    if as_json:
        print_json({"notices": [_notice(one) for one in found]})
    for one in found if not as_json else []:
        click.echo(
            f"{visible(one.notice.channel)}: {one.status}{f': {visible(one.error)}' if one.error else ''}"
        )
    if any(one.status != "sent" for one in found):
        raise click.exceptions.Exit(1)


def _seconds(lasts: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", lasts)
    if found is None:
        raise AlertRefusedError(f"{visible(lasts)!r} is no duration; write 90m, 2h or 1d")
    return float(int(found[1]) * _SECONDS[found[2]])


def _print_why(one: Why) -> None:
    alert = one.alert
    status = alert.status if alert else "no alert"
    print_facts(
        [
            ("rule", one.rule),
            ("subject", one.subject),
            ("alert", f"{alert.id} ({status})" if alert else status),
            ("last look", when(one.looked_at) if one.looked_at else "never: does `evaluate_alerts` run?"),
        ]
    )
    print_table(
        [Column("STEP", whole=True), Column("", whole=True), Column("WHY")],
        [(reason.step, "goes on" if reason.passed else "stops", reason.why) for reason in one.reasons],
        empty="No step.",
    )
    if one.notices:
        print_table(
            [
                Column("TOLD", whole=True),
                Column("BY"),
                Column("STATUS", whole=True),
                Column("TRIES", right=True),
                Column(""),
            ],
            [(when(n.notice.at), n.notice.channel, n.status, n.attempts, n.error or "") for n in one.notices],
            empty="",
        )
    click.echo()


def _as_dict(one: Why) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "subject": one.subject,
        "alert": dataclasses.asdict(one.alert) if one.alert else None,
        "reasons": [dataclasses.asdict(reason) for reason in one.reasons],
        "notices": [_notice(sent) for sent in one.notices],
        "looked_at": one.looked_at,
    }


def _notice(sent: Sent) -> dict[str, Any]:
    told = dataclasses.asdict(sent)
    return {**told.pop("notice"), **told}
