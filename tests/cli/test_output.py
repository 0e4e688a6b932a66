"""What is printed: readable, 80 columns wide, and unable to drive a terminal."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.cli.output import Column, iso, lasted, print_json, print_table, visible, when
from regrow.errors import RegrowError

NOW = datetime(2026, 3, 1, 12, 0, 1, 500_000, tzinfo=UTC)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_text_reaches_the_terminal_with_a_control_character(text: str) -> None:
    for letter in visible(text):
        assert unicodedata.category(letter) not in {"Cc", "Cf", "Zl", "Zp"}


@given(st.text())
def test_text_of_letters_and_spaces_is_left_as_it_is(text: str) -> None:
    plain = "".join(c for c in text if unicodedata.category(c)[0] in "LNS" or c == " ")
    assert visible(plain) == plain


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\u00e9", "caf\u00e9"),
        ("\x9b5n", "\\x9b5n"),
    ],
)
def test_control_characters_are_written_out(given_text: str, shown: str) -> None:
    assert visible(given_text) == shown


def test_line_breaks_can_be_kept_where_lines_are_meant() -> None:
    assert visible("a\n\tb\r\x1b", keep="\n\t") == "a\n\tb\\r\\x1b"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0021, "2 ms"),
        (4.25, "4.2 s"),
        (59.99, "60.0 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (180000, "2 d 2 h"),
    ],
)
def test_durations_are_told_in_the_units_that_matter(seconds: float, words: str) -> None:
    assert lasted(seconds) == words


def test_times_are_utc_and_say_so() -> None:
    assert iso(NOW) == "2026-03-01T12:00:01.500Z"
    assert when(NOW) == "2026-03-01 12:00:01Z"
    assert when(None) == "-"


def test_json_is_ascii_with_times_in_iso_8601(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": NOW, "name": "\u202e\x9b\x1b"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"at": "2026-03-01T12:00:01.500Z", "name": "\u202e\x9b\x1b"}


def test_a_table_is_80_columns_wide_and_keeps_ids_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    identifier = "0199f1a0-0000-7000-8000-000000000000"
    row = (identifier, "[bold]not markup[/bold] " + "long " * 40 + "\x1b[2J")
    print_table([Column("ID", whole=True), Column("WHAT")], [row], empty="nothing")
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert identifier in out
    assert "[bold]not markup" in out
    assert "\x1b" not in out


def test_an_empty_table_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Column("ID")], [], empty="No dead letters.")
    assert capsys.readouterr().out == "No dead letters.\n"


def test_without_a_terminal_to_ask_at_nothing_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from regrow.cli.output import confirm

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(RegrowError, match="--yes"):
        confirm("Really?", yes=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    with pytest.raises(RegrowError, match="nothing was done"):
        confirm("Really?", yes=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    confirm("Really?", yes=False)
