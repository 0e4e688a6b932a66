"""How values are put into words on the page. Pure functions; times are aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

_UNITS = ((86400.0, "day"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit: ``8 s``, ``4 min``, ``3 h``, ``2 days``."""
    seconds = abs(seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 or seconds == 0 else "under 1 ms"
    for size, unit in _UNITS:
        count = int(seconds // size)
        if count >= 2 or (count and size in {1.0, 86400.0}) or (count and seconds < 1.5 * size):
            return f"{count} {unit}{'s' if unit == 'day' and count != 1 else ''}"
    return f"{int(seconds)} s"


def every(seconds: float) -> str:
    """How often: ``every minute``, ``every 2 min``."""
    single = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
    return f"every {single.get(seconds) or span(seconds)}"


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def ago(at: datetime, now: datetime) -> str:
    """``12 s ago``, ``in 3 min``, ``now``."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(seconds)}"


def clock(at: datetime) -> str:
    return f"{at:%H:%M:%S} UTC"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def number(value: float) -> str:
    """Digits in groups, no needless decimals: ``12 340``, ``0.5``."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:,.2f}".rstrip("0").replace(",", "\u202f")


def size(count: float) -> str:
    """Bytes for people: ``512 bytes``, ``1.4 MB``."""
    if count < 1000:
        return f"{int(count)} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 letter``, ``3 letters``."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def plain(name: str) -> str:
    """A name out of code as words: ``half_open`` is ``half open``."""
    return name.replace("_", " ").replace("-", " ")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "ago": ago,
    "clock": clock,
    "counted": counted,
    "every": every,
    "moment": moment,
    "number": number,
    "plain": plain,
    "sentence": sentence,
    "size": size,
    "span": span,
}


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
