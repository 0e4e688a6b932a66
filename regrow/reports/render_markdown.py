"""A report as Markdown, for chats, wikis and terminals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from regrow.reports import wording
from regrow.reports.sections import sections
from regrow.reports.tables import Cell, Number, Section, Strip

# What means something inside a line. Text never begins a line here, so #, -, + and 1. mean nothing, and an
# underscore between letters is one: names stay readable where Markdown is read as it is.
_SPECIAL = re.compile(r"([\\`*\[\]<>|~&@$]|(?<!\w)_|_(?!\w)|(?<=www)\.|:(?=//))", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def markdown(report: Mapping[str, Any], digest: str, parts: Sequence[Section] | None = None) -> str:
    """The whole report; ``digest`` is that of its JSON, ``parts`` its sections if they are made."""
    period = report["period"]
    return "\n".join(
        [
            f"# Reliability report, {report['kind']}",
            "",
            f"**{escaped(report['headline'])}**",
            "",
            f"From {period['start']} to {period['end']}, made {wording.shown_time(report['now']['at'])}.",
            *(line for section in parts or sections(report) for line in _section(section)),
            "",
            f"SHA-256 of the JSON: `{digest}`",
            "",
        ]
    )


def escaped(text: object) -> str:
    """Text as it is, whatever is in it: no markup, no link, no new line or cell."""
    return _SPECIAL.sub(r"\\\1", _CONTROL.sub(" ", str(text)))


def _section(section: Section) -> list[str]:
    lines = ["", f"## {section.title}", ""]
    if section.rows:
        lines += [_row(section.titles), _row(["---"] * len(section.titles))]
        lines += [_row([_cell(cell) for cell in row]) for row in section.rows]
    elif section.empty:
        lines.append(section.empty)
    if section.caption:
        lines += ["", escaped(section.caption)] if section.rows else [escaped(section.caption)]
    return lines


def _cell(cell: Cell) -> str:
    match cell:
        case Strip(states):
            return "".join(wording.SIGNS[state] for state in states)
        case Number(text):
            return escaped(text)
    return escaped(cell)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
