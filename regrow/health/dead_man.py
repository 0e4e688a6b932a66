"""The monitor's own dead man: after each run of the checks somebody outside is told that they run.

Whoever waits there (a service such as healthchecks.io) raises the alarm when nothing comes: beat, broker,
worker and the sweep itself must all have worked, and of some check something must be known and not too old,
for a word to go out. The address is a secret: who knows it can keep the alarm silent. A word that cannot be
sent is logged, and nothing else: its absence is the alarm.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import structlog

from regrow.engine import Engine
from regrow.health.reading import overview
from regrow.outgoing import client

logger = structlog.get_logger(__name__)

TIMEOUT = 5.0
"""Seconds for the whole of it: a run of the checks must not be held up."""


def tell(engine: Engine) -> bool:
    """Say that the checks run; True when somebody heard it. Without a URL nobody is told. Raises nothing.

    Nothing is said while nothing is known of any check: runs that find nothing are no sign of life.
    """
    secret = engine.settings.health.dead_man_url
    if secret is None:
        return False
    url = secret.get_secret_value()
    said = _heard(url) if _any_known(engine) else "nothing is known of any check"
    if said is not None:
        logger.warning("dead_man.not_told", host=urlsplit(url).hostname, error=said)
    return said is None


def _any_known(engine: Engine) -> bool:
    return any(check.status != "unknown" for check in overview(engine).checks)


def _heard(url: str) -> str | None:
    """Why nobody heard it; None when somebody did."""
    try:
        status = client().get(url, timeout=TIMEOUT).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__  # its text may quote the address
    return None if status < 300 else f"it answered {status}"
