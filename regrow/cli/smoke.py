"""``regrow smoke``: a running deployment tried from outside; it reads no settings and no store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import click

from regrow import smoke as trial
from regrow.cli.output import json_option, lasted, print_json, visible


@click.command()
@click.option("--url", required=True, metavar="URL", help="Where the web process is: http(s)://host:port.")
@click.option(
    "--api-key", envvar="API_KEY", metavar="KEY", help="The key; others on this machine may see it."
)
@click.option(
    "--api-key-file",
    envvar="API_KEY_FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file that holds the key.",
)
@click.option(
    "--test",
    "tests",
    multiple=True,
    type=click.Choice(list(trial.TESTS)),
    help="Only this one; again for more.",
)
@click.option(
    "--requests", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="uptime: how many."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=100.0,
    show_default=True,
    help="uptime: how many a second; 0: as fast as it goes.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 100, min_open=True),
    default=99.9,
    show_default=True,
    help="uptime: percent that must be answered.",
)
@click.option("--path", default="/health/live", show_default=True, help="uptime: what is asked for.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds for an answer.",
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificates of an authority of your own.",
)
@json_option
def smoke(  # noqa: PLR0917 - click passes each option by its name
    url: str,
    api_key: str | None,
    api_key_file: Path | None,
    tests: tuple[str, ...],
    requests: int,
    rate: float,
    share: float,
    path: str,
    timeout: float,
    ca_file: str | None,
    as_json: bool,
) -> None:
    """Try a running deployment from outside: health, detail, metrics, breaker, uptime.

    Exit code 0 when all went well, 1 when one did not. Nothing is changed.
    """
    target = trial.Target(
        url=_checked(url),
        key=_key(api_key, api_key_file),
        timeout=timeout,
        requests=requests,
        rate=rate,
        share=share / 100,
        path=path if path.startswith("/") else f"/{path}",
        ca_file=ca_file,
    )
    visitor = trial.Visitor(target)
    verdicts = []
    try:
        for test in tests or tuple(trial.TESTS):
            verdict = trial.run(visitor, test)
            verdicts.append(verdict)
            if not as_json:
                _say(verdict)
    finally:
        visitor.close()
    passed = all(verdict.ok for verdict in verdicts)
    if as_json:
        print_json({"ok": passed, "url": target.url, "tests": [asdict(verdict) for verdict in verdicts]})
    if not passed:
        raise click.exceptions.Exit(1)


def _say(verdict: trial.Verdict) -> None:
    word = click.style("ok    ", fg="green") if verdict.ok else click.style("FAILED", fg="red")
    click.echo(f"{word}  {verdict.test:<8} {lasted(verdict.seconds):>8}  {visible(verdict.told)}")


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise click.BadParameter("its port is no number", param_hint="--url") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.BadParameter("write it as http://host:port or https://host", param_hint="--url")
    if parts.username or parts.password:
        raise click.BadParameter(
            "it holds a password; the key is given by --api-key-file", param_hint="--url"
        )
    return url.rstrip("/")


def _key(given: str | None, file: Path | None) -> str | None:
    if given or file is None:
        return given or None
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise click.BadParameter(f"{file}: {reason}", param_hint="--api-key-file") from None
