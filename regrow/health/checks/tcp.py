"""TCP: whether a port takes a connection."""

from __future__ import annotations

import socket

from regrow.health.rules import Finding, finding
from regrow.settings import Settings
from regrow.settings.checks import TcpCheck


def probe(check: TcpCheck, settings: Settings) -> Finding:
    del settings
    where = f"{check.host}:{check.port}"
    try:
        with socket.create_connection((check.host, check.port), check.timeout * 0.9):
            return finding("healthy", f"{where} takes connections")
    except TimeoutError:
        return finding("unhealthy", f"{where} did not answer within {check.timeout * 0.9:.1f} s")
    except OSError as error:
        return finding("unhealthy", f"{where}: {error.strerror or error}")
