"""The pictures of a report: SVG within the page. Pure.

Each says by shape what it says by colour, has a name for those who do not see it, and stands above the table
that holds its figures. Where a reader of e-mail drops pictures, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import accumulate, groupby
from typing import Any

from regrow.reports import wording

WIDTH = 960
_LABEL = 220
_ROW = 26
_MOST = 20
"""So many rows of a picture are enough; the table has all."""

_HEIGHTS = {"u": (5, 16), "g": (13, 8), "d": (1, 24), "x": (5, 16), "m": (12, 3), "p": (12, 2)}
"""Of each state in a row: where its bar begins from above, and how high it is."""
_FILLS = {
    "u": "#1a7f4b",
    "g": "#8a6100",
    "d": "#b3261e",
    "x": "url(#unknown)",
    "m": "#51606f",
    "p": "#51606f",
}
_DASHES = ("", "8 4", "2 4", "12 4 2 4", "4 2")


def chart(name: str, report: Mapping[str, Any]) -> str:
    """The picture of this name, or nothing where there is nothing to draw."""
    return _CHARTS[name](report) if name else ""


def uptime(report: Mapping[str, Any]) -> str:
    """A strip for each check, those that were down first."""
    checks = sorted(report["checks"], key=lambda one: (one["uptime"] is None, one["uptime"] or 0.0))[:_MOST]
    if not checks:
        return ""
    parts = report["period"]["parts"]
    drawn = [_strip(one, parts, n * _ROW) for n, one in enumerate(checks)]
    return _figure(
        "Uptime by part of the period",
        _PATTERN + "".join(drawn),
        len(checks) * _ROW,
        "High bars: down. Full: up. Half: degraded. Hatched: unknown. A line: maintenance or paused.",
    )


def _strip(check: Mapping[str, Any], parts: Sequence[float], top: int) -> str:
    scale = (WIDTH - _LABEL) / sum(parts)
    ends = [_LABEL + seconds * scale for seconds in accumulate(parts)]
    drawn, at, left = [_text(0, top + 18, check["name"])], 0, float(_LABEL)
    for state, run in groupby(check["strip"]["states"]):
        at += len(list(run))
        down, height = _HEIGHTS[state]
        drawn.append(
            _bar(
                wording.NAMES[state],
                left,
                top + down,
                max(1.0, ends[at - 1] - left - 1),
                height,
                _FILLS[state],
            )
        )
        left = ends[at - 1]
    return "".join(drawn)


def budgets(report: Mapping[str, Any]) -> str:
    """How the budgets of those with the least left went down over their windows."""
    told = [one for one in report["objectives"] if one["budget_left"]]
    if not told:
        return ""
    least: float = min(0.0, *(max(-1.0, min(one["budget_left"])) for one in told))
    high = 160

    def y(left: float) -> float:
        return 12 + (1 - max(least, left)) / (1 - least) * high

    drawn = [
        f'<line class="line" x1="{_LABEL}" x2="{WIDTH}" y1="{y(at):.1f}" y2="{y(at):.1f}" stroke="#8794a1"/>'
        + _text(_LABEL - 56, y(at) + 5, f"{at:.0%}")
        for at in (1.0, 0.5, 0.0)
    ]
    for n, one in enumerate(told):
        left = one["budget_left"]
        step = (WIDTH - _LABEL) / (len(left) - 1)
        points = " ".join(f"{_LABEL + i * step:.1f},{y(value):.1f}" for i, value in enumerate(left))
        dash = _DASHES[n % len(_DASHES)]
        pen = 'class="ink-line" stroke="#1d2733" stroke-width="2"' + (
            f' stroke-dasharray="{dash}"' if dash else ""
        )
        drawn.append(f'<polyline {pen} fill="none" points="{points}"/>')
        foot = 200 + n * _ROW
        drawn.append(f'<line {pen} x1="0" x2="60" y1="{foot}" y2="{foot}"/>')
        drawn.append(_text(70, foot + 5, f"{one['name']}: {wording.left(left[-1])} left", longest=100))
    caption = "From the beginning of each window to the end of the period; below 0% is overspent."
    return _figure("Error budgets, what was left", "".join(drawn), 192 + len(told) * _ROW, caption)


def latency(report: Mapping[str, Any]) -> str:
    """From p50 to p99 of each check, with a mark at p95; the slowest first."""
    found = [one for one in report["checks"] if one["latency"]["count"]]
    found = sorted(found, key=lambda one: -one["latency"]["p95"])[:_MOST]
    if not found:
        return ""
    longest = max(one["latency"]["p99"] for one in found)
    scale = (WIDTH - _LABEL - 110) / longest
    drawn = []
    for n, one in enumerate(found):
        told, top = one["latency"], n * _ROW
        low, mark, high = (_LABEL + told[name] * scale for name in ("p50", "p95", "p99"))
        drawn += [
            _text(0, top + 18, one["name"]),
            _bar("bar", low, top + 8, max(2.0, high - low), 10, "#5b7fa6"),
            _bar("ink", mark - 1.5, top + 3, 3, 20, "#1d2733"),
            _text(high + 10, top + 18, wording.lasted(told["p95"])),
        ]
    caption = "Bars from p50 to p99, the mark and the figure are p95."
    return _figure("Latency of checks", "".join(drawn), len(found) * _ROW, caption)


def _bar(kind: str, x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{fill}"/>'


def _text(x: float, y: float, text: str, longest: int = 26) -> str:
    shown = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return f'<text class="ink" x="{x:.1f}" y="{y:.1f}" font-size="15" fill="#1d2733">{escape(shown)}</text>'


def _figure(name: str, drawn: str, height: int, caption: str) -> str:
    return (
        '<figure style="margin:0 0 12px">'
        f'<svg role="img" aria-label="{escape(name)}; the table says the same" '
        f'viewBox="0 0 {WIDTH} {height}" width="100%" font-family="sans-serif">{drawn}</svg>'
        f'<figcaption class="soft" style="{SOFT}">{escape(name)}. {escape(caption)}</figcaption></figure>\n'
    )


SOFT = "color:#51606f;font-size:14px;text-align:left"

_PATTERN = (
    '<defs><pattern id="unknown" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect class="hatch" width="3" height="6" fill="#6d5a8c"/></pattern></defs>'
)

_CHARTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "uptime": uptime,
    "budgets": budgets,
    "latency": latency,
}
