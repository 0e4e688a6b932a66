"""``regrow maintenance``."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest

from regrow.engine import Engine
from tests.cli.conftest import Cli

WHY = ("--reason", "a new disk", "--yes")


def test_a_window_is_added_listed_and_ended(cli: Cli, on_engine: Engine) -> None:
    added = cli("maintenance", "add", "--check", "disk", "--for", "2h", *WHY)
    assert added.code == 0
    assert "emergency" in added.err
    (listed,) = cli("maintenance", "list", "--json").json["maintenance"]
    assert (listed["checks"], listed["kind"], listed["now"]) == (["disk"], "emergency", True)
    table = cli("maintenance", "list").out
    assert "2 h 0 min" in table
    assert "emergency" in table
    ended = cli("maintenance", "end", listed["id"], "--reason", "done", "--yes")
    assert (ended.code, ended.out.strip()) == (0, f"{listed['id']} is over.")
    assert cli("maintenance", "list").out.strip() == "No maintenance is planned."
    again = cli("maintenance", "end", listed["id"], "--reason", "done", "--yes")
    assert (again.code, "stands" in again.err) == (1, True)


def test_times_are_on_the_clock_of_a_place(cli: Cli, on_engine: Engine) -> None:
    day = (on_engine.clock() + timedelta(days=10)).strftime("%Y-%m-%d")
    told = cli(
        *("maintenance", "add", "--service", "shop", "--from", f"{day}T02:00", "--until", f"{day}T09:00"),
        *("--zone", "Asia/Kolkata", "--json", *WHY),
    ).json["maintenance"]
    assert (told["starts"][11:16], told["ends"][11:16]) == ("20:30", "03:30")
    assert (told["labels"], told["kind"]) == ({"service": "shop"}, "planned")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--for", "2h"), 64, "say whom it holds for"),
        (("--all", "--check", "disk", "--for", "2h"), 64, "say whom it holds for"),
        (("--all",), 64, "either --until or --for"),
        (("--all", "--for", "2h", "--until", "2030-01-01"), 64, "either --until or --for"),
        (("--all", "--for", "soon"), 64, "write 90m"),
        (("--all", "--for", "nand"), 64, "write 90m"),
        (("--all", "--from", "noon", "--for", "1h"), 64, "2026-11-22T02:00"),
        (("--all", "--for", "1h", "--zone", "Mars"), 1, "no such time zone"),
        (("--all", "--for", "5h"), 1, "4 h at most"),
        (("--check", "dsk", "--for", "1h"), 1, "no check is named dsk"),
        (("--label", "team", "--for", "1h"), 64, "NAME=VALUE"),
        (
            ("--all", "--from", "2030-10-27T02:30", "--for", "1h", "--zone", "Europe/Berlin"),
            1,
            "twice or not at all",
        ),
    ],
)
def test_what_makes_no_window_is_refused_with_the_remedy(
    cli: Cli, on_engine: Engine, arguments: tuple[str, ...], code: int, said: str
) -> None:
    refused = cli("maintenance", "add", *arguments, *WHY)
    assert (refused.code, said in refused.err) == (code, True), refused.err


def test_nothing_is_done_without_a_yes(cli: Cli, on_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    asked = cli("maintenance", "add", "--all", "--for", "1h", "--reason", "x")
    assert (asked.code, "--yes" in asked.err) == (1, True)
    assert cli("maintenance", "list", "--json").json == {"maintenance": []}
