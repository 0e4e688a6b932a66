"""``regrow``: the entry point, its global options, and what each kind of error does to the exit code.

Exit codes: 0 done; 1 what was asked could not be done, or the answer is no; 64 the command line itself is
wrong; 130 interrupted. Never 2, which Docker keeps for itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from regrow.errors import RegrowError
from regrow.version import __version__

DONE = 0
FAILED = 1
USAGE = 64  # EX_USAGE
INTERRUPTED = 130

# Name, module, and the line in `regrow --help`, which must not import what it lists.
COMMANDS: dict[str, tuple[str, str]] = {
    "health": ("regrow.cli.health:health", "Say how one component is, or all; the exit code tells too."),
    "maintenance": (
        "regrow.cli.maintenance:maintenance",
        "List, add or end maintenance windows.",
    ),
    "jobs": ("regrow.cli.jobs:jobs", "List the runs of the scheduled jobs."),
    "dead-letters": (
        "regrow.cli.dead_letters:dead_letters",
        "List, show, check, retry or discard dead letters.",
    ),
    "breakers": ("regrow.cli.breakers:breakers", "List, show or switch circuit breakers."),
    "recovery": (
        "regrow.cli.recovery:recovery",
        "Show, trigger or unlock the recovery of services that are down.",
    ),
    "incidents": (
        "regrow.cli.incidents:incidents",
        "List, show, acknowledge, explain, close or export incidents.",
    ),
    "alerts": (
        "regrow.cli.alerts:alerts",
        "List, explain, acknowledge or silence alerts, and test channels.",
    ),
    "degradation": (
        "regrow.cli.degradation:degradation",
        "Show or set how much of the system is on.",
    ),
    "smoke": ("regrow.cli.smoke:smoke", "Try a running deployment from outside, as its users would."),
    "temp-files": ("regrow.cli.temp_files:temp_files", "Count the declared temp folders, or clean them now."),
    "slo": ("regrow.cli.slo:slo", "Show objectives and their error budgets; judge their burn alerts."),
    "reports": ("regrow.cli.reports:reports", "List, show or make reliability reports."),
    "trends": ("regrow.cli.trends:trends", "Show where capacity goes, and when a disk will be full."),
    "config": ("regrow.cli.config:config", "Check or show the settings, secrets hidden."),
    "db": ("regrow.cli.db:db", "Upgrade the database, or say where it is."),
}


class LazyCommands(click.Group):
    """Imports a command's module when the command is used, so that `regrow health` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - a slip in the table above, not an input
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The regrow.toml to use, instead of REGROW_CONFIG or config/regrow.toml.",
)
@click.option(
    "--profile",
    type=click.Choice(["production", "development", "testing"]),
    help="The profile to use, instead of REGROW_PROFILE.",
)
@click.version_option(__version__, prog_name="regrow", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, profile: str | None) -> None:
    """Watch and mend what Regrow looks after: health, jobs, dead letters, breakers, reports."""
    # An option is its environment variable, said for this one command: whatever a command opens reads it.
    if config is not None:
        os.environ["REGROW_CONFIG"] = str(config)
    if profile is not None:
        os.environ["REGROW_PROFILE"] = profile
    if ctx.invoked_subcommand != "health":  # runs every few seconds in every container, and logs nothing
        _log_to_stderr()


def _log_to_stderr() -> None:
    """Answers go to stdout; what the services log while they work goes to stderr, warnings and above."""
    from regrow.logs import configure_logging

    configure_logging("WARNING", "pretty")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code and never raises for what a person can mend."""
    try:
        code = cli.main(args=arguments, prog_name="regrow", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.ClickException, click.Abort, RegrowError, BrokenPipeError) as error:
        return _told(error)
    except Exception as error:
        if _driver(error) is None:
            raise
        return _told(error)
    return code if isinstance(code, int) else DONE


def _driver(error: Exception) -> str | None:
    """The driver an error comes from, if it is one of a store's; none is imported to find out."""
    packages = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return next((name for name in ("sqlalchemy", "redis") if name in packages), None)


def _store_failed(error: Exception) -> str:
    """What a driver says, in one line and without the statement and its values."""
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    if _driver(error) == "redis":
        return f"Redis: {said}. Is it up, and is REGROW_REDIS_URL its address? `regrow config show` tells."
    if "no such table" in said or "1146" in said:
        return f"the database has not got Regrow's tables ({said}): run `regrow db upgrade`"
    return f"the database refused: {said}"


def _told(error: Exception) -> int:
    """Say on stderr what went wrong; the exit code that belongs to it."""
    match error:
        case click.UsageError():
            error.show()
            return USAGE
        case click.ClickException():
            error.show()
        case click.Abort():
            click.echo("regrow: interrupted", err=True)
            return INTERRUPTED
        case BrokenPipeError():
            # The reader went away (`regrow jobs | head`). Python must not complain again when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        case RegrowError():
            for line in str(error).splitlines():
                click.echo(f"regrow: {line}", err=True)
        case _:
            click.echo(f"regrow: {_store_failed(error)}", err=True)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
