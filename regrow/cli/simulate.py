"""``regrow breakers simulate``: what other settings would have made of what was recorded."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from regrow import breakers as fleet
from regrow.breakers import BreakerConfig, history, recorded
from regrow.breakers.history import PastTransition
from regrow.breakers.kinds import KINDS, preset
from regrow.breakers.replay import Call, Replay, replay, would_trip
from regrow.breakers.status import moment
from regrow.cli.output import (
    Column,
    json_option,
    lasted,
    print_facts,
    print_json,
    print_table,
    visible,
    when,
)
from regrow.engine import Engine, get_engine
from regrow.errors import RegrowError, StoreUnavailableError

MOST = 10_000  # transitions looked at

LIMITS_OF_HISTORY = (
    "The history keeps the window's figures at each change, not single calls. So this says which recorded"
    " openings the proposed settings would also have made at that moment; not whether they would have opened"
    " earlier, later, or where nothing was recorded. For that, replay calls: --file, or --check."
)
LIMITS_OF_REPLAY = (
    "Outcomes are taken as recorded: how callers would have acted on a refusal, and whether the service would"
    " have recovered sooner with fewer calls, nobody knows. Calls that name no host are taken for those of"
    " one."
)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(context: click.Context, option: click.Parameter, text: str) -> timedelta:
    """A length of time as people write it: ``90s``, ``30m``, ``12h``, ``7d``, ``2w``."""
    found = re.fullmatch(r"([0-9]{1,4})([smhdw])", text.strip())
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no length of time; write 90s, 30m, 12h, 7d or 2w", context, option
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@dataclass(frozen=True)
class Verdict:
    """A recorded opening, and why the proposed settings would have opened too; None: they would not."""

    opening: PastTransition
    reason: str | None


@click.command()
@click.argument("name")
@click.option(
    "--since",
    callback=age,
    default="7d",
    show_default=True,
    metavar="AGE",
    help="How far back: 90s, 12h, 7d.",
)
@click.option(
    "--set", "given", multiple=True, metavar="SETTING=VALUE", help="A proposed setting; may be repeated."
)
@click.option("--kind", type=click.Choice(list(KINDS)), help="Begin with the settings of a kind of service.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Replay the calls in this JSON Lines or CSV file (at, ok, seconds, host).",
)
@click.option(
    "--check", metavar="CHECK", help="Replay the results of this health check as if they were calls."
)
@json_option
def simulate(
    name: str,
    since: timedelta,
    given: tuple[str, ...],
    kind: str | None,
    file: Path | None,
    check: str | None,
    as_json: bool,
) -> None:
    """Say what breaker NAME would have done with other settings.

    The settings are those that it has (else the defaults), with what --kind and --set change.
    """
    if file is not None and check is not None:
        raise click.UsageError("choose one of --file and --check")
    engine = get_engine()
    earliest = engine.clock() - since
    config = proposed(_present(engine, name) if kind is None else _of_kind(kind), given)
    if file is None and check is None:
        _judge_history(engine, name, earliest, config, as_json=as_json)
    else:
        _replay(name, config, _calls(engine, file, check, earliest), as_json=as_json)


def proposed(config: BreakerConfig, given: tuple[str, ...]) -> BreakerConfig:
    """``config`` with ``setting=value`` texts over it. An error says what makes no sense."""
    known = {field.name: str(field.type) for field in fields(BreakerConfig)}
    values: dict[str, Any] = {}
    for text in given:
        key, equals, value = (part.strip() for part in text.partition("="))
        if key not in known or not equals:
            raise click.UsageError(f"--set {text}: write SETTING=VALUE with one of {', '.join(known)}")
        values[key] = _value(text, value, known[key])
    return BreakerConfig(**{**config.as_dict(), **values})


def _value(text: str, value: str, kind: str) -> float | None:
    if "None" in kind and value.lower() == "none":
        return None
    try:
        return int(value) if kind == "int" else float(value)
    except ValueError:
        wanted = "a whole number" if kind == "int" else "a number"
        raise click.UsageError(f"--set {text}: {value!r} is not {wanted}") from None


def _of_kind(kind: str) -> BreakerConfig:
    return BreakerConfig.from_dict(dict(preset(kind)))


def _present(engine: Engine, name: str) -> BreakerConfig:
    try:
        known = fleet.show(engine.redis, name)
    except StoreUnavailableError as error:
        click.echo(f"regrow: {error}; going on with the defaults", err=True)
        known = None
    return BreakerConfig() if known is None else known.config


def _calls(engine: Engine, file: Path | None, check: str | None, earliest: datetime) -> list[Call]:
    if file is not None:
        calls, source = recorded.calls_of_file(file, earliest), str(file)
    else:
        calls = recorded.calls_of_check(engine.database, check or "", earliest)
        source = f"the history of check {visible(check)}"
    if not calls:
        raise RegrowError(f"{source} has no calls since {when(earliest)}; --since looks further back")
    return calls


# A replay of calls


def _replay(name: str, config: BreakerConfig, calls: list[Call], *, as_json: bool) -> None:
    found = replay(config, calls)
    if as_json:
        print_json(
            {
                "breaker": name,
                "config": config.as_dict(),
                "replay": _replay_as_dict(found),
                "limits": LIMITS_OF_REPLAY,
            }
        )
        return
    first, last = min(call.at for call in calls), max(call.at for call in calls)
    several = any(call.host for call in calls)
    print_facts(
        [
            ("calls", f"{found.calls}, {found.failures} failed"),
            ("from, to", f"{when(moment(first))}, {when(moment(last))}"),
            ("opened", f"{len(found.openings)} times"),
            *([("for one host alone", f"{len(found.openings_alone)} times")] if several else []),
            ("not closed", lasted(found.not_closed_ms / 1000)),
            ("failures spared", found.refused_failures),
            ("successes lost", found.refused_successes),
            *([("of both, on the ramp", found.turned_away)] if config.ramp_seconds else []),
            ("state in the end", found.state),
        ]
    )
    click.echo()
    print_table(
        [Column("AT", whole=True), Column("FROM"), Column("TO"), Column("FOR"), Column("WHY")],
        [
            (when(moment(told.at)), told.from_state, told.to_state, told.reporter or "all", told.reason)
            for told in found.transitions
        ],
        empty="It would have stayed closed.",
    )
    click.echo(f"\n{LIMITS_OF_REPLAY}")


def _replay_as_dict(found: Replay) -> dict[str, Any]:
    return {
        "calls": found.calls,
        "failures": found.failures,
        "openings": len(found.openings),
        "openings_alone": len(found.openings_alone),
        "not_closed_seconds": found.not_closed_ms / 1000,
        "refused_failures": found.refused_failures,
        "refused_successes": found.refused_successes,
        "turned_away": found.turned_away,
        "state": found.state.value,
        "transitions": [
            {
                "at": moment(told.at),
                "from_state": told.from_state.value,
                "to_state": told.to_state.value,
                "reporter": told.reporter,
                "reason": told.reason,
            }
            for told in found.transitions
        ],
    }


# The recorded history


def verdicts(past: list[PastTransition], config: BreakerConfig) -> list[Verdict]:
    """What the settings would have made of each recorded opening; a person's and a probe's are left out."""
    return [
        Verdict(
            opening,
            would_trip(
                config,
                successes=opening.details.get("successes", 0),
                failures=opening.details.get("failures", 0),
                run=opening.details.get("run", 0),
                slow=opening.details.get("slow", 0),
            ),
        )
        for opening in past
        if (opening.from_state, opening.to_state) == ("closed", "open") and not opening.actor
    ]


def _judge_history(
    engine: Engine, name: str, earliest: datetime, config: BreakerConfig, *, as_json: bool
) -> None:
    past = history.past(engine.database, name, since=earliest, limit=MOST)
    found = verdicts(past[::-1], config)
    gaps = sum(bool(change.details.get("gap")) for change in past)
    if as_json:
        print_json(
            {
                "breaker": name,
                "config": config.as_dict(),
                "openings": [
                    {"at": it.opening.at, "recorded": it.opening.reason, "proposed": it.reason}
                    for it in found
                ],
                "gaps": gaps,
                "limits": LIMITS_OF_HISTORY,
            }
        )
        return
    print_table(
        [Column("OPENED", whole=True), Column("RECORDED"), Column("PROPOSED")],
        [(when(it.opening.at), it.opening.reason, it.reason or "would not have opened") for it in found],
        empty=f"The history has no opening of {visible(name)} since {when(earliest)}.",
    )
    if found:
        kept = sum(it.reason is not None for it in found)
        click.echo(f"\n{kept} of {len(found)} recorded openings would have been made too.")
    if gaps:
        click.echo(f"Changes are missing from the history of this time, in {gaps} places.")
    click.echo(f"\n{LIMITS_OF_HISTORY}")
