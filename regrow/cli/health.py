"""``regrow health``: probe one component, or all, here and now; made for container health checks.

Exit codes: 0 healthy or degraded, 1 unhealthy or unknown (with ``--strict`` degraded too), 64 a command line
that is wrong. Nothing is stored, nothing is broadcast. What a component does not need is not imported: this
runs every few seconds in every container.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from regrow.health.rules import CheckView, Finding, Status
    from regrow.settings import CheckSettings, Settings

ALIASES: Mapping[str, str] = {
    "redis": "redis",
    "database": "database",
    "mysql": "database",
    "broker": "queue",
    "celery-worker": "celery_worker",
    "celery-beat": "celery_beat",
    "disk": "disk",
    "memory": "memory",
    "cpu": "cpu",
    "load": "load",
    "canary": "canary",
    "temp-files": "temp_files",
}
"""Names that always work, and the kind of check each one means when no check is declared by that name."""

LOCAL: Mapping[str, tuple[str, float]] = {
    "celery-worker": ("worker.heartbeat", 30.0),
    "celery-beat": ("beat.heartbeat", 60.0),
}
"""The heartbeat file of this container below ``<home>/run``, and its greatest age in seconds."""


@click.command(
    epilog=f"COMPONENT is all, watch, a declared check, or one of: {', '.join(ALIASES)}.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("component")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--strict", is_flag=True, help="Degraded is exit code 1, too.")
@click.option(
    "--local",
    is_flag=True,
    help="celery-worker and celery-beat: look at the heartbeat file of this container alone.",
)
@click.option("--max-age", type=click.FloatRange(min=0, min_open=True), help="Of that file, in seconds.")
@click.option("--once", is_flag=True, help="watch: look once and end.")
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="watch: how often to look; 2 without it.",
)
def health(component: str, as_json: bool, strict: bool, **options: Any) -> None:
    """Probe COMPONENT now and say how it is; the exit code says it to programs.

    `watch` probes nothing: it shows live what the workers find.
    """
    local, max_age = options["local"], options["max_age"]
    if component == "watch":
        _watch(options)
        return
    if options["once"] or options["every"] is not None:
        raise click.UsageError("--once and --every go with watch alone.")
    if (local or max_age is not None) and component not in LOCAL:
        raise click.UsageError(f"--local and --max-age go with {' and '.join(LOCAL)} alone.")
    if max_age is not None and not local:
        raise click.UsageError("--max-age goes with --local alone.")
    status = _show_local(component, max_age, as_json) if local else _show(component, as_json)
    if status in {"unhealthy", "unknown"} or (strict and status != "healthy"):
        raise click.exceptions.Exit(1)


def _watch(options: Mapping[str, Any]) -> None:
    from regrow.cli.health_watch import watch

    if options["local"] or options["max_age"] is not None:
        raise click.UsageError("--local and --max-age do not go with watch.")
    watch(options["every"] or 2.0, once=options["once"])


def _show_local(component: str, max_age: float | None, as_json: bool) -> Status:
    """The heartbeat file alone: no server is asked, no settings are read when REGROW_HOME says where."""
    from regrow.cli.output import print_json
    from regrow.health.checks import heartbeats

    file, usual = LOCAL[component]
    path = _home() / "run" / file
    found = heartbeats.judge_file(heartbeats.from_file(path, time.time()), path, max_age or usual)
    if as_json:
        print_json({"component": component, **_plain(found)})
    else:
        _say(component, found.status, found.message)
    return found.status


def _home() -> Path:
    if given := os.environ.get("REGROW_HOME"):
        return Path(given)
    from regrow.settings import load_settings

    return load_settings().home


def _show(component: str, as_json: bool) -> Status:
    from regrow.cli.output import print_json
    from regrow.settings import load_settings

    settings = load_settings()
    checks = _chosen(component, settings)
    views = _probe(checks, settings)
    if component != "all":
        (only,) = views
        if as_json:
            print_json({"component": component, **_view(only)})
        else:
            _say(component, only.status, only.message)
        return only.status
    return _show_all(views, as_json)


def _show_all(views: list[CheckView], as_json: bool) -> Status:
    from regrow.cli.output import Column, print_json, print_table
    from regrow.clock import utc_now
    from regrow.health.rules import overview

    found = overview(views, utc_now())
    if as_json:
        checks = [_view(view) for view in found.checks]
        print_json({"status": found.status, "message": found.message, "checks": checks})
        return found.status
    columns = (Column("CHECK", whole=True), Column("STATUS", whole=True), Column("MESSAGE"))
    print_table(
        columns, ((v.name, v.status, v.message) for v in found.checks), empty="No checks are declared."
    )
    _say("all", found.status, found.message)
    return found.status


def _chosen(component: str, settings: Settings) -> dict[str, CheckSettings]:
    """The checks that a name means. A check that is switched off can still be asked for by name."""
    checks = settings.health.checks
    if component == "all":
        return {name: check for name, check in checks.items() if check.enabled}
    if component in checks:
        return {component: checks[component]}
    if kind := ALIASES.get(component):
        same = [(name, check) for name, check in checks.items() if check.kind == kind]
        return dict(same[:1]) or {component: _of_kind(kind)}
    known = sorted({*checks, *ALIASES, "all"})
    raise click.UsageError(f"no component is named {component!r}; known here: {', '.join(known)}.")


def _of_kind(kind: str) -> CheckSettings:
    """A check as its kind's defaults have it."""
    from pydantic import TypeAdapter

    from regrow.settings import CheckSettings

    adapter: TypeAdapter[CheckSettings] = TypeAdapter(CheckSettings)
    return adapter.validate_python({"kind": kind})


def _probe(checks: Mapping[str, CheckSettings], settings: Settings) -> list[CheckView]:
    """Run the probes, all at once, each within its own timeout, and nothing beside them."""
    from regrow.clock import utc_now
    from regrow.health.checks import look_of
    from regrow.health.rules import declare, view
    from regrow.health.sweep import Sweeper, Task

    declared = {name: declare(name, check, settings.health.interval) for name, check in checks.items()}
    tasks = [Task(declared[name], look_of(check, settings)) for name, check in checks.items()]
    sweeper = Sweeper(settings.health.concurrency)
    budget = 2 * max((check.timeout for check in checks.values()), default=0.0)
    batches = sweeper.sweep(tasks, utc_now, budget)
    results = {result.check: result for batch in batches for result in batch}
    return [view(check, results.get(name), utc_now()) for name, check in declared.items()]


def _say(component: str, status: Status, message: str) -> None:
    from regrow.cli.output import visible

    click.echo(f"{component}: {click.style(status, fg=_COLOURS[status])}: {visible(message)}")


_COLOURS: Mapping[str, str] = {
    "healthy": "green",
    "degraded": "yellow",
    "unhealthy": "red",
    "unknown": "magenta",
}


def _view(view: CheckView) -> dict[str, object]:
    return {
        "name": view.name,
        "kind": view.kind,
        "status": view.status,
        "message": view.message,
        "latency": None if view.latency is None else round(view.latency, 4),
        "required": view.required,
        "data": dict(view.data),
        "labels": dict(view.labels),
    }


def _plain(found: Finding) -> dict[str, object]:
    return {"status": found.status, "message": found.message, "data": dict(found.data)}
