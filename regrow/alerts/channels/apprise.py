"""A notice by whatever Apprise reaches; the extra ``regrow[apprise]`` brings it."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from regrow.alerts.channels.errors import ChannelAwayError
from regrow.alerts.model import Notice
from regrow.alerts.wording import text, title
from regrow.settings.alerts import AppriseChannel

_QUOTING = ("apprise", "urllib3")
"""Loggers that quote addresses, which are secrets; what is amiss is told by the channel itself."""
_TYPES = {"critical": "failure", "high": "failure", "medium": "warning", "low": "info"}


def send(chosen: AppriseChannel, notice: Notice) -> None:
    """Addresses are secrets: of one that is not understood only its number is told."""
    try:
        apprise: Any = importlib.import_module("apprise")
    except ModuleNotFoundError:
        raise ChannelAwayError('Apprise is not installed here: pip install "regrow[apprise]"') from None
    for name in _QUOTING:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    teller = apprise.Apprise()
    for number, url in enumerate(chosen.urls, 1):
        if not teller.add(url.get_secret_value()):
            raise ChannelAwayError(f"Apprise does not understand address {number}")
    past = {"resolved": "success", "digest": "info"}
    kind = past.get(notice.kind, _TYPES[notice.body["severity"]])
    if not teller.notify(title=title(notice), body=text(notice), notify_type=kind):
        raise ChannelAwayError("Apprise could not tell all of its addresses")
