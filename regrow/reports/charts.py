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

WIDTH = 740
"""Of what is drawn, in units of its own; it takes the width that is there."""
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
    drawn = [_row(one["name"], ("" if n else _PATTERN) + _strip(one, parts)) for n, one in enumerate(checks)]
    return _figure(
        "Uptime by part of the period",
        "".join(drawn),
        "High bars: down. Full: up. Half: degraded. Hatched: unknown. A line: maintenance or paused.",
    )


def _strip(check: Mapping[str, Any], parts: Sequence[float]) -> str:
    scale = WIDTH / sum(parts)
    ends = [seconds * scale for seconds in accumulate(parts)]
    drawn, at, left = [], 0, 0.0
    for state, run in groupby(check["strip"]["states"]):
        at += len(list(run))
        down, height = _HEIGHTS[state]
        width = max(1.0, ends[at - 1] - left - 1)
        drawn.append(_bar(wording.NAMES[state], left, down, width, height, _FILLS[state]))
        left = ends[at - 1]
    return "".join(drawn)


def budgets(report: Mapping[str, Any]) -> str:
    """How the budgets of those with the least left went down over their windows."""
    told = [one for one in report["objectives"] if one["budget_left"]]
    if not told:
        return ""
    least: float = min(0.0, *(max(-1.0, min(one["budget_left"])) for one in told))
    high = 3 * _ROW

    def y(left: float) -> float:
        return 4 + (1 - max(least, left)) / (1 - least) * (2 * high - 8)

    drawn = [
        f'<line class="line" x1="0" x2="{WIDTH}" y1="{y(at):.1f}" y2="{y(at):.1f}" stroke="#8794a1"/>'
        for at in (1.0, 0.5, 0.0)
    ]
    legend = []
    for n, one in enumerate(told):
        left = one["budget_left"]
        step = WIDTH / (len(left) - 1)
        points = " ".join(f"{i * step:.1f},{y(value):.1f}" for i, value in enumerate(left))
        dash = _DASHES[n % len(_DASHES)]
        pen = 'class="ink-line" stroke="#1d2733" stroke-width="2"' + (
            f' stroke-dasharray="{dash}"' if dash else ""
        )
        drawn.append(f'<polyline {pen} fill="none" points="{points}"/>')
        line = f'<line {pen} x1="0" x2="{WIDTH}" y1="{_ROW // 2}" y2="{_ROW // 2}"/>'
        legend.append(_row(one["name"], line, f"{wording.left(left[-1])} left"))
    lines = _row("", "".join(drawn), height=2 * high)
    caption = (
        "From the beginning of each window to the end of the period. The lines across are at 100%, 50% and "
        "0%; below the last one it is overspent."
    )
    return _figure("Error budgets, what was left", lines + "".join(legend), caption)


def latency(report: Mapping[str, Any]) -> str:
    """From p50 to p99 of each check, with a mark at p95; the slowest first."""
    found = [one for one in report["checks"] if one["latency"]["count"]]
    found = sorted(found, key=lambda one: -one["latency"]["p95"])[:_MOST]
    if not found:
        return ""
    longest = max(one["latency"]["p99"] for one in found)
    scale = WIDTH / longest
    drawn = []
    for one in found:
        told = one["latency"]
        low, mark, high = (told[name] * scale for name in ("p50", "p95", "p99"))
        bars = _bar("bar", low, 8, max(2.0, high - low), 10, "#5b7fa6") + _bar(
            "ink", mark - 1.5, 3, 3, 20, "#1d2733"
        )
        drawn.append(_row(one["name"], bars, wording.lasted(told["p95"])))
    caption = "Bars from p50 to p99, the mark and the figure are p95."
    return _figure("Latency of checks", "".join(drawn), caption)


def _bar(kind: str, x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{fill}"/>'


def _row(name: str, drawn: str, figure: str = "", *, height: int = _ROW) -> str:
    """A name, what is drawn, a figure. No text stands in a drawing: what is behind it could not be told."""
    told = f'<div style="{_FIGURE}">{escape(figure)}</div>' if figure else ""
    return (
        f'<div style="{_LINE}"><div style="{_NAME}">{escape(name)}</div>'
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" preserveAspectRatio="none" '
        f'style="flex:1 1 auto;min-width:0">{drawn}</svg>{told}</div>'
    )


def _figure(name: str, drawn: str, caption: str) -> str:
    return (
        f'<figure style="margin:0 0 12px"><div role="img" '
        f'aria-label="{escape(name)}; the table says the same">{drawn}</div>'
        f'<figcaption class="soft" style="{SOFT}">{escape(name)}. {escape(caption)}</figcaption></figure>\n'
    )


_LINE = "display:flex;align-items:center;gap:12px"
_NAME = "flex:0 0 23%;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;font-size:15px"
_FIGURE = "flex:0 0 84px;font-size:15px;white-space:nowrap"
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
