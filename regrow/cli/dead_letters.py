"""``regrow dead-letters``: what could not be delivered, and what a person can do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click

from regrow.cli.archives import archives
from regrow.cli.keys import erase, new_key, rotate_keys
from regrow.cli.ledger import ledger
from regrow.cli.output import (
    Column,
    act_on_each,
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
from regrow.cli.sources import sources
from regrow.dead_letters import service
from regrow.dead_letters.rules import State
from regrow.dead_letters.store import Attempt, Letter
from regrow.engine import get_engine

# Whoever holds a lease's token may settle the letter. It is no one's to read.
_FENCES = {"lease_token", "token"}


@click.group(name="dead-letters")
def dead_letters() -> None:
    """List, show, check, retry or discard dead letters; look into ledger, sources and archives."""


dead_letters.add_command(ledger)
for command in (sources, archives, new_key, rotate_keys, erase):
    dead_letters.add_command(command)


@dead_letters.command(name="list")
@click.option(
    "--state", type=click.Choice([state.value for state in State]), help="Only those in this state."
)
@click.option("--service", "owner", help="Only those of this service.")
@click.option("--type", "message_type", help="Only those of this message type.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--before", metavar="ID", help="Go on after this id: the last one of the page before.")
@json_option
def list_command(
    state: str | None,
    owner: str | None,
    message_type: str | None,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """List dead letters, newest first."""
    engine = get_engine()
    letters = service.list_letters(
        engine, state=state, service=owner, message_type=message_type, limit=limit, before=before
    )
    counts = service.counts(engine)
    if as_json:
        print_json({"dead_letters": [_fields(letter) for letter in letters], "counts": counts})
        return
    now = engine.clock()
    print_table(
        [
            Column("ID", whole=True),
            Column("STATE", whole=True),
            Column("TRIES", whole=True, right=True),
            Column("FAILED"),
            Column("WHAT"),
        ],
        [
            (
                letter.id,
                letter.state.value,
                f"{letter.attempts}/{letter.max_retries}",
                _ago(now, letter.last_failed_at),
                _what(letter),
            )
            for letter in letters
        ],
        empty="No such dead letters." if state or owner or message_type or before else "No dead letters.",
    )
    if letters:
        click.echo(", ".join(f"{count} {name}" for name, count in counts.items() if count))
    if len(letters) == limit:
        click.echo(f"More may follow: --before {letters[-1].id}")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@click.option("--raw", is_flag=True, help="Unredacted; leaves an audit row.")
@click.option("--reason", default="", help="Why; needed with --raw.")
@json_option
def show(letter_id: str, raw: bool, reason: str, as_json: bool) -> None:
    """Show a dead letter (its id or an event's): its errors, its attempts, its message as text.

    What looks secret is hidden and what cannot be redacted is withheld, unless --raw is said with a --reason.
    """
    engine = get_engine()
    if raw:
        found = service.show_raw(engine, letter_id, actor=actor(), reason=reason)
    else:
        found = service.show_redacted(engine, letter_id)
    letter = found.letter
    if as_json:
        print_json(
            {
                **_fields(letter),
                "redacted": not raw,
                "body": {
                    "text": found.text,
                    "bytes": found.size,
                    "content_type": found.body.content_type,
                    "content_encoding": found.body.content_encoding,
                    "headers": found.body.headers,
                },
                "redrives": [_fields(attempt) for attempt in found.attempts],
                "hazards": found.hazards,
            }
        )
        return
    print_facts([*_facts(letter), *(("beware", hazard) for hazard in found.hazards)])
    _print_redrives(found.attempts)
    if letter.traceback:
        click.echo(f"\n{visible(letter.traceback.rstrip(), keep=_LINES)}")
    click.echo(
        f"\nMessage ({found.size} bytes, {visible(found.body.content_type)}{'' if raw else ', redacted'}):"
    )
    click.echo(visible(found.text, keep=_LINES))


@dead_letters.command()
@click.argument("ids", metavar="[ID...]", nargs=-1)
@json_option
def check(ids: tuple[str, ...], as_json: bool) -> None:
    """Look whether letters would arrive, without sending any; exit code 1 when one would not.

    Without IDs, at every route and dead-letter queue of the settings.
    """
    engine = get_engine()
    found = service.check_letters(engine, ids) if ids else service.check_routes(engine)
    if as_json:
        print_json({"checked": [dataclasses.asdict(finding) for finding in found]})
    else:
        print_table(
            [Column("WHAT", whole=True), Column("OK", whole=True), Column("FOUND")],
            [(finding.subject, _OK[finding.ok], finding.told) for finding in found],
            empty="No routes or queues are declared; letters go home where they came from.",
        )
    if any(finding.ok is False for finding in found):
        raise click.exceptions.Exit(1)


@dead_letters.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="", help="Why, for the audit.")
@yes_option
@json_option
def retry(ids: tuple[str, ...], reason: str, yes: bool, as_json: bool) -> None:
    """Make dead letters due now, out of quarantine too; the next redrive sends them home."""
    confirm(f"Retry {_counted(ids)}?", yes=yes)
    engine, who = get_engine(), actor()
    act_on_each(
        ids,
        lambda letter: service.retry(engine, letter, actor=who, reason=reason),
        done="is due now; the next redrive sends it home",
        as_json=as_json,
    )


@dead_letters.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why these messages are not needed; kept for the audit.")
@yes_option
@json_option
def discard(ids: tuple[str, ...], reason: str, yes: bool, as_json: bool) -> None:
    """Settle dead letters by hand: they will not be sent again."""
    confirm(f"Discard {_counted(ids)}? They will not be sent again.", yes=yes)
    engine, who = get_engine(), actor()
    act_on_each(
        ids,
        lambda letter: service.discard(engine, letter, actor=who, reason=reason),
        done="is discarded",
        as_json=as_json,
    )


_LINES = "\n\t"
_OK = {True: "yes", False: "no", None: "unknown"}


def _fields(row: Letter | Attempt) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(row))
    return {name: getattr(row, name) for name in names if name not in _FENCES}


def _facts(letter: Letter) -> Iterable[tuple[str, object]]:
    yield "id", letter.id
    yield "state", letter.state.value
    yield "reason", letter.reason
    yield "service", letter.service
    yield "type", letter.message_type
    yield "task", letter.task
    yield "queue", letter.queue
    yield "published to", _published_to(letter)
    yield "broker", letter.broker
    yield "correlation", letter.correlation_id
    yield "trace", letter.traceparent
    yield "code version", letter.code_version
    yield "deliveries", letter.deliveries
    yield "error", f"{letter.error_class}: {letter.error_message}"
    yield "first failed", when(letter.first_failed_at)
    yield "last failed", when(letter.last_failed_at)
    yield "seen", letter.seen
    yield "redrives", f"{letter.attempts} of {letter.max_retries}"
    yield "due", when(letter.due_at) if letter.state is State.PENDING else None
    yield "settled", when(letter.settled_at) if letter.settled_at else None
    yield "key", f"{letter.idempotency_key} (generation {letter.generation})"


def _print_redrives(attempts: tuple[Attempt, ...]) -> None:
    if not attempts:
        return
    click.echo()
    print_table(
        [Column("REDRIVEN", whole=True), Column("OUTCOME"), Column("ERROR")],
        [
            (when(attempt.leased_at), attempt.outcome or "in flight", attempt.error or _held(attempt))
            for attempt in attempts
        ],
        empty="",
    )


def _held(attempt: Attempt) -> str:
    """Why no second copy was sent when the deadline had passed."""
    if not attempt.holds:
        return ""
    times = "once" if attempt.holds == 1 else f"{attempt.holds} times"
    return f"late; waited for ({times}): {attempt.held_for}"


def _published_to(letter: Letter) -> str | None:
    """Its exchange and routing key, unless it was published straight to its queue."""
    return f"{letter.exchange} with key {letter.routing_key}" if letter.exchange else None


def _what(letter: Letter) -> str:
    told = f"{letter.message_type}: {letter.error_class}: {letter.error_message}"
    return told if len(told) <= 100 else f"{told[:99]}…"


def _ago(now: datetime, moment: datetime) -> str:
    seconds = (now - moment).total_seconds()
    return f"{lasted(seconds)} ago" if seconds >= 0 else when(moment)


def _counted(ids: tuple[str, ...]) -> str:
    return "1 dead letter" if len(ids) == 1 else f"{len(ids)} dead letters"
