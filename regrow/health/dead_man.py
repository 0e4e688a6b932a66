"""The monitor's own dead man: after each run of the checks somebody outside is told that they ran.

Whoever waits there (a service such as healthchecks.io) raises the alarm when nothing comes: beat, broker,
worker and the sweep itself must all have worked for a word to go out. The address is a secret: who knows it
can keep the alarm silent. A word that cannot be sent is logged, and nothing else: its absence is the alarm.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import structlog

from regrow.engine import Engine
from regrow.outgoing import client

logger = structlog.get_logger(__name__)

TIMEOUT = 5.0
"""Seconds for the whole of it: a run of the checks must not be held up."""


def tell(engine: Engine) -> bool:
    """Say that the checks ran; True when somebody heard it. Without a URL nobody is told. Raises nothing."""
    secret = engine.settings.health.dead_man_url
    if secret is None:
        return False
    url = secret.get_secret_value()
    try:
        status = client().get(url, timeout=TIMEOUT).status_code
        said = None if status < 300 else f"it answered {status}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = type(error).__name__  # its text may quote the address
    if said is not None:
        logger.warning("dead_man.not_told", host=urlsplit(url).hostname, error=said)
    return said is None
