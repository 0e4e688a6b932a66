"""A report as one HTML file: no script, nothing loaded from elsewhere, light and dark, readable as e-mail.

Readers of e-mail that drop the style sheet keep the styles of the elements, those that drop pictures keep
the tables. Everything that comes from outside passes through :func:`html.escape`, in the functions at the end
that make cells and in ``charts``; no other place puts a value between tags.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from regrow.reports import wording
from regrow.reports.charts import SOFT, chart
from regrow.reports.sections import sections
from regrow.reports.tables import Cell, Number, Section, Strip

_SHEET = """
:root { color-scheme: light dark; }
.wide { overflow-x: auto; } .words { overflow-wrap: anywhere; } th.words { overflow-wrap: break-word; }
.wide:focus-visible { outline: 3px solid #2563a8; outline-offset: 2px; }
svg { display: block; max-width: 100%; }
@media (prefers-color-scheme: dark) {
  body { background: #14191e !important; color: #e6ebf0 !important; }
  .soft, caption { color: #a5b1bd !important; } th, td { border-color: #38434e !important; }
  span.up { color: #5fce93 !important; } span.degraded { color: #e0b34a !important; }
  span.down { color: #ff8a80 !important; } span.unknown { color: #c3aee6 !important; }
  span.maintenance, span.paused { color: #a5b1bd !important; }
  .ink { fill: #e6ebf0; } .ink-line { stroke: #e6ebf0; } .line { stroke: #5b6874; }
  rect.up { fill: #5fce93; } rect.degraded { fill: #e0b34a; } rect.down { fill: #ff8a80; }
  rect.maintenance, rect.paused { fill: #a5b1bd; } .hatch { fill: #c3aee6; } .bar { fill: #7fa8d6; }
  .wide:focus-visible { outline-color: #9cc4f0; }
}
"""

_BODY = (
    "margin:0 auto;padding:24px 16px 48px;max-width:1088px;background:#ffffff;color:#1d2733;"
    "font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif"
)
_TABLE = "border-collapse:collapse;width:100%;font-size:15px"
_SIDES = "padding:6px 12px 6px 0;border-bottom:1px solid #d5dce3;vertical-align:top;text-align:"
_LEFT, _RIGHT = f"{_SIDES}left", f"{_SIDES}right"
_SIGNS = f"{_LEFT};font-family:ui-monospace,Consolas,monospace;white-space:nowrap"
_COLOURS = {
    "u": "color:#1a7f4b",
    "g": "color:#8a6100",
    "d": "color:#b3261e",
    "x": "color:#6d5a8c",
    "m": "color:#51606f",
    "p": "color:#51606f",
}

_STYLE_ELEMENT = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_STYLE_ATTRIBUTE = re.compile(r' style="([^"]*)"')


def html(report: Mapping[str, Any], digest: str, parts: Sequence[Section] | None = None) -> str:
    """The whole page; ``digest`` is that of the report's JSON, ``parts`` its sections if they are made."""
    period = report["period"]
    title = f"Reliability report, {report['kind']}, {wording.shown_time(period['end'])}"
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f"<title>{escape(title)}</title>\n<style>{_SHEET}</style>\n</head>\n",
            f'<body style="{_BODY}">\n<main>\n',
            f'<h1 style="{_H1}">Reliability report, {escape(report["kind"])}</h1>\n',
            f'<p style="{_HEADLINE}">{escape(report["headline"])}</p>\n',
            f'<p class="soft" style="{SOFT}">From {_time(period["start"])} to {_time(period["end"])}, ',
            f"made {_time(report['now']['at'])}.</p>\n",
            *(_section(section, report) for section in parts or sections(report)),
            f'<p class="soft words" style="{SOFT}">SHA-256 of the JSON: <code>{escape(digest)}</code></p>\n',
            "</main>\n</body>\n</html>\n",
        ]
    )


_H1 = "font-size:24px;line-height:1.3;margin:0"
_H2 = "font-size:18px;line-height:1.3;margin:32px 0 8px"
_HEADLINE = "font-size:18px;font-weight:600;margin:4px 0"


def content_security_policy(page: str) -> str:
    """The strictest policy under which this very page shows: its own styles, by hash, and nothing else.

    ``'unsafe-hashes'`` lets hashes speak of attributes, too; it allows nothing that is not listed.
    """
    sheets = _hashes(_STYLE_ELEMENT.findall(page))
    attributes = _hashes(sorted(set(_STYLE_ATTRIBUTE.findall(page))))
    styles = " ".join([*sheets, "'unsafe-hashes'", *attributes] if attributes else sheets)
    return (
        f"default-src 'none'; style-src {styles}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(styles: Iterable[str]) -> list[str]:
    digests = (hashlib.sha256(style.encode()).digest() for style in styles)
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def _section(section: Section, report: Mapping[str, Any]) -> str:
    """A heading, the picture, and a table; or the words for an empty one."""
    head = f'<h2 style="{_H2}">{escape(section.title)}</h2>\n'
    if not section.rows:
        told = " ".join(filter(None, (section.empty, section.caption)))
        return f"{head}<p>{escape(told)}</p>\n"
    numbers = [isinstance(cell, Number) for cell in section.rows[0]]
    titles = "".join(
        f'<th scope="col" style="{_RIGHT if number else _LEFT}">{escape(title)}</th>'
        for title, number in zip(section.titles, numbers, strict=True)
    )
    body = "\n".join(f"<tr>{_row(row)}</tr>" for row in section.rows)
    caption = f'<caption class="soft" style="{_CAPTION}">{escape(section.caption or section.title)}</caption>'
    return (
        f'{head}{chart(section.chart, report)}<div class="wide" role="region" tabindex="0" '
        f'aria-label="{escape(section.title)}, table"><table style="{_TABLE}">{caption}\n'
        f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
    )


_CAPTION = f"{SOFT};caption-side:bottom;padding-top:6px"


def _row(cells: Iterable[Cell]) -> str:
    first, *others = cells
    name = f'<th scope="row" class="words" style="{_LEFT};font-weight:600">{escape(str(first))}</th>'
    return name + "".join(map(_cell, others))


def _cell(cell: Cell) -> str:
    match cell:
        case Number(text):
            return f'<td style="{_RIGHT}">{escape(text)}</td>'
        case Strip():
            return _strip(cell)
    return f'<td class="words" style="{_LEFT}">{escape(cell)}</td>'


def _strip(strip: Strip) -> str:
    """The period as signs (shape), classes (colour) and words (for those who see neither)."""
    signs = "".join(
        f'<span class="{wording.NAMES[state]}" style="{_COLOURS[state]}">'
        f"{wording.SIGNS[state] * len(list(run))}</span>"
        for state, run in groupby(strip.states)
    )
    words = escape(strip.words)
    return f'<td style="{_SIGNS}"><span role="img" aria-label="{words}" title="{words}">{signs}</span></td>'


def _time(iso: str) -> str:
    return f'<time datetime="{escape(iso)}">{escape(wording.shown_time(iso))}</time>'
