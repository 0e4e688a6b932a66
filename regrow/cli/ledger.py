"""``regrow dead-letters ledger``: whether the books and the letters agree."""

from __future__ import annotations

import click

from regrow.cli.output import Column, actor, confirm, json_option, print_json, print_table, when, yes_option
from regrow.dead_letters import service
from regrow.dead_letters.ledger import Account, Ledger
from regrow.dead_letters.rules import UNSETTLED
from regrow.engine import get_engine
from regrow.errors import RegrowError


@click.command(name="ledger")
@click.option("--correct", is_flag=True, help="Book the differences, so that the books say what is there.")
@click.option("--reason", default="", help="How the differences came about; needed with --correct.")
@yes_option
@json_option
def ledger(correct: bool, reason: str, yes: bool, as_json: bool) -> None:
    """Compare what was accepted with what is there: accepted = live + resolved + discarded + purged.

    The exit code is 1 when that does not hold for every service.
    """
    engine = get_engine()
    if correct:
        if not reason.strip():
            raise RegrowError("--correct needs a --reason; it is kept for the audit")
        confirm("Book every difference between the books and the letters?", yes=yes)
        service.correct_ledger(engine, actor=actor(), reason=reason)
    found = service.read_ledger(engine)
    if as_json:
        print_json(found.as_json())
    else:
        _print(found)
    if not found.balanced:
        raise click.exceptions.Exit(1)


def _print(found: Ledger) -> None:
    print_table(
        [
            Column("SERVICE"),
            Column("ACCEPTED", right=True),
            Column("LIVE", right=True),
            Column("RESOLVED", right=True),
            Column("DISCARDED", right=True),
            Column("PURGED", right=True),
            Column("BALANCE", whole=True, right=True),
        ],
        [
            (
                account.service,
                account.booked.accepted,
                account.live,
                account.resolved,
                account.discarded,
                account.booked.purged,
                account.balance,
            )
            for account in found.accounts
        ],
        empty="No letter was ever accepted.",
    )
    states = found.total().counted
    live = ", ".join(f"{states[state]} {state}" for state in sorted(UNSETTLED) if states.get(state))
    if live:
        click.echo(f"live: {live}")
    if found.opened_at:
        click.echo(f"What was purged before {when(found.opened_at)} is in no book.")
    for account in found.unbalanced:
        click.echo(f"{account.service}: {_told(account)}", err=True)


def _told(account: Account) -> str:
    parts = (
        f"{abs(by)} {name} {'in the books and not there' if by > 0 else 'there and not in the books'}"
        for name, by in account.differences.items()
    )
    return "; ".join(parts)
