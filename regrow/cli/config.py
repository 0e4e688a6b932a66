"""``regrow config``: whether the settings are usable, and what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from regrow.cli.output import json_option, print_json, visible
from regrow.errors import SettingsError
from regrow.settings import Settings, load_settings, redacted


@click.group()
def config() -> None:
    """Check or show the settings."""


@config.command()
@json_option
def check(as_json: bool) -> None:
    """Say whether the settings are usable; exit code 1 and every error when they are not."""
    settings, errors = _usable()
    if settings is None:
        if as_json:
            print_json({"ok": False, "profile": None, "errors": errors})
        else:
            for line in errors:
                click.echo(f"regrow: {visible(line)}", err=True)
        raise click.exceptions.Exit(1)
    if as_json:
        print_json({"ok": True, "profile": settings.profile, "errors": []})
        return
    checks = sum(check.enabled for check in settings.health.checks.values())
    click.echo(f"The settings are usable: profile {settings.profile}, {checks} health checks.")


def _usable() -> tuple[Settings | None, list[str]]:
    """The settings, or why they are not: what is written, and functions of routes that cannot be loaded."""
    from regrow.dead_letters.routes import unloadable

    try:
        settings = load_settings()
    except SettingsError as error:
        return None, str(error).splitlines()
    slips = list(unloadable(settings))
    return (None if slips else settings), slips


@config.command()
def prometheus() -> None:
    """Print the rules for Prometheus: the shipped alerts, and those of the objectives in force."""
    from regrow.monitoring.prometheus import rules_file

    click.echo(rules_file(load_settings()), nl=False)


@config.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def grafana(folder: Path) -> None:
    """Write the dashboards for Grafana into FOLDER, over those that are there."""
    from regrow.monitoring.grafana import files

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, "utf-8")
        click.echo(folder / name)


@config.command()
@json_option
def show(as_json: bool) -> None:
    """Show every setting in force, secrets hidden."""
    values = redacted(load_settings())
    if as_json:
        print_json({"settings": values})
        return
    for name, value in _lines(values):
        click.echo(f"{name} = {visible(value)}")


def _lines(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """``a.b = value`` for every leaf; an empty table is a leaf of its own."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and value:
            yield from _lines(value, f"{name}.")
        else:
            yield visible(name), _written(value)


def _written(value: object) -> str:
    if value is None:
        return "(not set)"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
