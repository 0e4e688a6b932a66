"""A report as one HTML file: no script, nothing loaded from elsewhere, light and dark, readable as e-mail.

Everything that comes from outside passes through :func:`html.escape`, in the functions at the end that make
cells; no other place puts a value between tags.
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

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #51606f; --line: #d5dce3; --page: #ffffff;
  --up: #1a7f4b; --degraded: #8a6100; --down: #b3261e; --unknown: #6d5a8c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #a5b1bd; --line: #38434e;
  --page: #14191e; --up: #5fce93; --degraded: #e0b34a; --down: #ff8a80; --unknown: #c3aee6; } }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.headline { font-size: 1.1rem; font-weight: 600; margin: .25rem 0; } .soft, caption { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { caption-side: bottom; text-align: left; padding-top: .4rem; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; } .words { overflow-wrap: anywhere; }
.strip { font-family: ui-monospace, monospace; white-space: nowrap; letter-spacing: -.02em; }
.up { color: var(--up); } .degraded { color: var(--degraded); } .down { color: var(--down); }
.unknown { color: var(--unknown); } code { font-size: .85rem; overflow-wrap: anywhere; }
"""

_STYLE_ELEMENT = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def html(report: Mapping[str, Any], digest: str) -> str:
    """The whole page; ``digest`` is that of the report's JSON."""
    period = report["period"]
    title = f"Reliability report, {report['kind']}, {wording.shown_time(period['end'])}"
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n",
            f"<h1>Reliability report, {escape(report['kind'])}</h1>\n",
            f'<p class="headline">{escape(report["headline"])}</p>\n',
            f'<p class="soft">From {_time(period["start"])} to {_time(period["end"])}, ',
            f"made {_time(report['now']['at'])}.</p>\n",
            _checks(report),
            _breakers(report),
            _levels(report),
            _recoveries(report),
            _letters(report),
            _jobs(report),
            _resources(report),
            _clean_up(report),
            f'<p class="soft">SHA-256 of the JSON: <code>{escape(digest)}</code></p>\n',
            "</main>\n</body>\n</html>\n",
        ]
    )


def content_security_policy(page: str) -> str:
    """The strictest policy under which this very page shows: its own style, by hash, and nothing else."""
    hashes = " ".join(_hash(style) for style in _STYLE_ELEMENT.findall(page))
    return (
        f"default-src 'none'; style-src {hashes}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(style: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


def _checks(report: Mapping[str, Any]) -> str:
    rows = [
        (
            _words(check["name"]),
            _cell(check["words"]),
            _number(wording.percent(check["confidence_low"])),
            _number(" to ".join(wording.percent(bound) for bound in check["bounds"])),
            _number(wording.percent(check["coverage"])),
            _number(wording.downtime_words(check)),
            _cell(wording.target_words(check["target_met"])),
            _strip(check),
        )
        for check in report["checks"]
    ]
    titles = ("check", "uptime", "at least (95%)", "bounds", "coverage", "downtime", "target", "the period")
    caption = (
        f"{wording.LEGEND}. Target {report['target'] * 100:g}%. Uptime is up time over known time; the "
        "bounds say what it was if the unknown time was all down or all up."
    )
    return _section("Uptime", titles, rows, caption, "No check was declared, and none has reported.")


def _breakers(report: Mapping[str, Any]) -> str:
    rows = [
        (
            _words(breaker["name"]),
            _number(breaker["openings"]),
            _number(wording.lasted(breaker["open_seconds"])),
            _cell(breaker["state_at_end"]),
            _cell(wording.history_words(breaker["gaps"])),
        )
        for breaker in report["breakers"]
    ]
    titles = ("breaker", "openings", "time open", "state at the end", "history")
    return _section("Circuit breakers", titles, rows, "", "No breaker has changed its state so far.")


def _levels(report: Mapping[str, Any]) -> str:
    rows = [
        (
            _cell(level),
            _number(wording.lasted(seconds)),
            _number(wording.percent(seconds / report["period"]["seconds"])),
        )
        for level, seconds in report["degradation"].items()
        if seconds
    ]
    return _section("Degradation", ("level", "time", "share"), rows, "", "No level was told in the period.")


def _recoveries(report: Mapping[str, Any]) -> str:
    rows = [
        (
            _words(service["name"]),
            _words(wording.job_words(service["outcomes"])),
            _number(wording.percent(service["success_ratio"])),
            _number(service["tests_passed"]),
            _number(service["came_back"]),
            _number(wording.lasted(service["median_seconds_down"])),
            _number(wording.lasted(service["longest_seconds_down"])),
            _cell(wording.lock_words(service["locked"])),
        )
        for service in report["recoveries"]
    ]
    return _section("Recovery", wording.RECOVERY_TITLES, rows, "", "Nothing had to be recovered.")


def _letters(report: Mapping[str, Any]) -> str:
    flow, now = report["dead_letters"], report["now"]
    rows = [(_cell(name), _number(count)) for name, count in flow.items()]
    states = ", ".join(f"{state} {count}" for state, count in now["dead_letters"].items() if count)
    caption = (
        f"When the report was made: {states or 'none kept'}. "
        f"Oldest unsettled: {wording.shown_time(now['oldest_unsettled'])}."
    )
    return _section("Dead letters", ("in the period", "letters"), rows, caption, "")


def _jobs(report: Mapping[str, Any]) -> str:
    rows = [
        (
            _words(job["name"]),
            _cell(wording.job_words(job["outcomes"])),
            _number(wording.lasted(job["longest_seconds"])),
            _cell(wording.shown_time(job["last_at"])),
            _words(job["last_error"] or ""),
        )
        for job in report["jobs"]
    ]
    return _section("Jobs", ("job", "runs", "longest", "last run", "last error"), rows, "", "")


def _resources(report: Mapping[str, Any]) -> str:
    rows = [
        (
            _words(resource["name"]),
            _number(f"{resource['last_percent']:g}%"),
            _number(f"{resource['max_percent']:g}%"),
            _words(resource["message"]),
        )
        for resource in report["resources"]
    ]
    titles = ("resource", "last", "largest", "last result")
    return _section("Resources", titles, rows, "", "Nothing was measured in the period.")


def _clean_up(report: Mapping[str, Any]) -> str:
    rows = [
        (_words(entry["job"]), _words(wording.totals_words(entry["totals"]))) for entry in report["clean_up"]
    ]
    return _section("Clean-up", ("job", "what it did"), rows, "", "")


def _section(
    title: str, titles: Sequence[str], rows: Iterable[Sequence[str]], caption: str, empty: str
) -> str:
    """A heading and a table of cells that are HTML already, or the words for an empty one."""
    rows = list(rows)
    if not rows:
        return f"<h2>{escape(title)}</h2>\n<p>{escape(empty)}</p>\n"
    head = "".join(_title(name) for name in titles)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    under = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<h2>{escape(title)}</h2>\n<div class="wide"><table>{under}\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
    )


# Titles of columns of numbers, which stand on the right.
_NUMBERS = {
    "at least (95%)",
    "bounds",
    "coverage",
    "downtime",
    "openings",
    "time open",
    "letters",
    "longest",
    "last",
    "largest",
}


def _title(name: str) -> str:
    side = ' class="number"' if name in _NUMBERS else ""
    return f'<th scope="col"{side}>{escape(name)}</th>'


def _strip(check: Mapping[str, Any]) -> str:
    """The period as signs (shape), classes (colour) and words (for those who see neither)."""
    strip = check["strip"]
    signs = "".join(
        f'<span class="{wording.NAMES[state]}">{wording.SIGNS[state] * len(list(run))}</span>'
        for state, run in groupby(strip["states"])
    )
    words = escape(wording.strip_words(strip))
    return f'<td class="strip"><span role="img" aria-label="{words}" title="{words}">{signs}</span></td>'


def _cell(value: object) -> str:
    return f"<td>{escape(str(value))}</td>"


def _number(value: object) -> str:
    return f'<td class="number">{escape(str(value))}</td>'


def _words(value: object) -> str:
    """A cell whose text may be long and without spaces."""
    return f'<td class="words">{escape(str(value))}</td>'


def _time(iso: str) -> str:
    return f'<time datetime="{escape(iso)}">{escape(wording.shown_time(iso))}</time>'
