"""What the other side said about when to come back: ``Retry-After``, or an open breaker's ``retry_after``."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


def retry_after(error: object, now: datetime | None = None) -> float | None:
    """Seconds to wait as asked, or None when nothing (understandable) was said.

    Looks at ``error.retry_after`` (seconds), else at the ``Retry-After`` header of ``error.response`` or of
    ``error`` itself: seconds, or a date, which is measured by the answer's own ``Date``, else by ``now``.
    """
    said = getattr(error, "retry_after", None)
    if isinstance(said, int | float) and not isinstance(said, bool):
        return _sane(float(said))
    headers = _headers(error)
    if headers is None:
        return None
    text = headers.get("Retry-After") or headers.get("retry-after")
    if not isinstance(text, str):
        return None
    try:
        return _sane(float(text))
    except ValueError:
        then, here = _date(text), _date(headers.get("Date") or headers.get("date")) or now
    return None if then is None or here is None else max(0.0, (then - here).total_seconds())


def _headers(error: object) -> Any:
    headers = getattr(getattr(error, "response", None), "headers", None)
    if headers is None:
        headers = getattr(error, "headers", None)
    return headers if hasattr(headers, "get") else None


def _sane(seconds: float) -> float | None:
    return seconds if 0 <= seconds < math.inf else None


def _date(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        read = parsedate_to_datetime(text)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
