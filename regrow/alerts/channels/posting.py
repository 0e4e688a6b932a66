"""A POST that is a notice. Redirects are not followed; what answers mean stands here, once."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from regrow.alerts.channels.errors import ChannelAwayError, NoticeRefusedError
from regrow.outgoing import client

_NEVER = frozenset({400, 413, 422})
"""Answers that say that this notice itself is the trouble. Any other one may be another tomorrow."""


def post(what: str, url: str, content: bytes, headers: Mapping[str, str], timeout: float) -> None:
    """Send it; ``what`` names the channel in errors, which show no address."""
    try:
        with client().stream(
            "POST", url, content=content, headers=dict(headers), timeout=timeout
        ) as response:
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Its text may quote what was sent; the kind says enough.
        raise ChannelAwayError(f"{what} did not answer: {type(error).__name__}") from None
    if 200 <= status < 300:
        return
    if status in _NEVER:
        raise NoticeRefusedError(f"{what} answered {status}")
    hint = " (redirects are not followed: declare the new address)" if 300 <= status < 400 else ""
    raise ChannelAwayError(f"{what} answered {status}{hint}")
