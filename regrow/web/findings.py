"""What a job found, in words: from the summary of its run to one short sentence.

Summaries are read leniently: an older worker may still write what this version words differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from regrow.web.wording import counted, number, plain, size

Summary = Mapping[str, Any]


def finding(job: str, outcome: str, summary: Summary) -> str:
    """One sentence without a full stop; never empty."""
    if outcome == "failed":
        return str(summary.get("error") or "The run failed; the log says why")
    worded = _WORDS[job](summary) if job in _WORDS else ""
    return worded or _plainly(summary) or "Nothing to tell"


def _plainly(summary: Summary) -> str:
    """The numbers and words of any summary, as they are."""
    told = [
        f"{plain(key)} {number(value) if isinstance(value, int | float) else value}"
        for key, value in summary.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    ]
    return ", ".join(told[:6])


_WORDS: Mapping[str, Callable[[Summary], str]] = {}

__all__ = ["counted", "finding", "size"]
