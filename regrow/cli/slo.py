"""``regrow slo``: what was promised, how it stands, and whether the alerts about it make sense."""

from __future__ import annotations

import click

from regrow.cli.output import Column, json_option, lasted, print_facts, print_json, print_table, when
from regrow.engine import Engine, get_engine
from regrow.slo import ledger, service, wording
from regrow.slo.burn import SEVERITIES, span_words
from regrow.slo.objectives import Standing


@click.group()
def slo() -> None:
    """Show objectives and their error budgets; judge their burn alerts."""


@slo.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """How every objective stands. Exits 1 when one that was declared is missed."""
    engine = get_engine()
    found = service.standing(engine, engine.clock())
    if as_json:
        print_json({"objectives": [wording.standing_json(one) for one in found]})
    else:
        print_table(
            [
                Column("OBJECTIVE", whole=True),
                Column("PROMISE"),
                Column("IS", whole=True),
                Column("VERDICT", whole=True),
                Column("BUDGET"),
                Column("LASTS", whole=True),
            ],
            [
                (
                    one.objective.name,
                    wording.promise_words(one.objective),
                    wording.value_words(one),
                    one.words,
                    wording.remaining_words(one),
                    wording.forecast_words(one),
                )
                for one in found
            ],
            empty="No check is declared, so nothing is promised.",
        )
    if any(one.met is False and one.objective.declared for one in found):
        raise click.exceptions.Exit(1)


@slo.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """One objective: where its time went, its budget, and what burns."""
    engine = get_engine()
    one = _wanted(engine, name)
    burning = [b for b in service.burning(engine, engine.clock()) if b.objective == name]
    if as_json:
        told = {
            "objective": wording.standing_json(one),
            "burning": [wording.burning_json(b) for b in burning],
        }
        print_json(told)
        return
    print_facts(
        [
            ("objective", one.objective.name),
            ("promise", wording.promise_words(one.objective)),
            ("is", wording.value_words(one)),
            ("verdict", f"{one.words}: {one.why}" if one.why else one.words),
            ("about", ", ".join(one.objective.checks) or one.objective.service or None),
            *_of_time(one),
        ]
    )
    for alert in burning:
        click.echo(f"{alert.severity}: {alert.message}")


def _of_time(one: Standing) -> list[tuple[str, object]]:
    if one.account is None or one.budget is None:
        return []
    found, budget = one.account, one.budget
    low = ledger.confidence_low(found)
    spent = {
        name: lasted(getattr(found, name).total_seconds())
        for name in ("up", "degraded", "down", "unknown", "maintenance", "paused")
        if getattr(found, name)
    }
    return [
        ("time", ", ".join(f"{length} {name}" for name, length in spent.items())),
        ("coverage", f"{100 * found.coverage:.1f}%"),
        ("at least", None if low is None else f"{int(low * 100_000) / 1000:.3f}% with 95% confidence"),
        ("budget", f"{lasted(budget.total.total_seconds())}, {wording.remaining_words(one)}"),
        (
            "burn",
            ", ".join(f"{r:.3g} over {span_words(s)}" for s, r in sorted(one.burns.items()) if r is not None),
        ),
        ("lasts", wording.forecast_words(one)),
    ]


@slo.command()
@json_option
def lint(as_json: bool) -> None:
    """Are the burn alerts of declared objectives of any use? Exits 1 when one is refused."""
    found = service.lint(get_engine())
    if as_json:
        print_json({"remarks": [wording.remark_json(remark) for remark in found]})
    else:
        print_table(
            [
                Column("OBJECTIVE", whole=True),
                Column("ALERT", whole=True),
                Column("LEVEL", whole=True),
                Column("WHY"),
            ],
            [(r.objective, r.rule or "-", r.level, r.message) for r in found],
            empty="Nothing to say against them.",
        )
    if any(remark.level == "refused" for remark in found):
        raise click.exceptions.Exit(1)


@slo.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def backtest(names: tuple[str, ...], as_json: bool) -> None:
    """How often this configuration would have alerted in the last 30 days, of all objectives or these."""
    engine = get_engine()
    for name in names:
        _wanted(engine, name)
    found = service.backtest(engine, engine.clock(), names or None)
    if as_json:
        print_json({"objectives": [wording.backtest_json(one) for one in found]})
        return
    print_table(
        [
            Column("OBJECTIVE", whole=True),
            Column("CALLS", right=True),
            *(Column(severity.upper(), right=True) for severity in SEVERITIES),
            Column("LAST", whole=True),
        ],
        [
            (
                one.objective,
                one.pages,
                *(one.count(severity) for severity in SEVERITIES),
                when(one.fired[-1].began) if one.fired else "-",
            )
            for one in found
        ],
        empty="No objective of availability.",
    )


def _wanted(engine: Engine, name: str) -> Standing:
    found = service.standing(engine, engine.clock(), [name])
    if not found:
        raise service.ObjectiveError(f"no objective is named {name}; `regrow slo list` shows them")
    return found[0]
