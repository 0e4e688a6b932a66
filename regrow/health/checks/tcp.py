"""TCP: whether a port takes a connection, and, where it speaks TLS, whether the handshake succeeds."""

from __future__ import annotations

import socket
import ssl
import time

from regrow.health.checks import conditions
from regrow.health.checks.conditions import Remark, concluded
from regrow.health.rules import Finding, finding
from regrow.settings import Settings
from regrow.settings.checks import TcpCheck


def probe(check: TcpCheck, settings: Settings) -> Finding:
    del settings
    where = f"{check.host}:{check.port}"
    bound = 0.9 * check.timeout
    began = time.monotonic()
    try:
        with socket.create_connection((check.host, check.port), bound) as connection:
            ends = _handshake(check, connection, began + bound) if check.tls else None
    except TimeoutError:
        return finding("unhealthy", f"{where} did not answer within {bound:.1f} s")
    except ssl.SSLError as error:
        return finding("unhealthy", f"{where}: no TLS: {getattr(error, 'verify_message', None) or error}")
    except OSError as error:
        return finding("unhealthy", f"{where}: {error.strerror or error}")
    return verdict(check, time.monotonic() - began, ends, time.time())


def verdict(check: TcpCheck, seconds: float, certificate_ends: float | None, now: float) -> Finding:
    """``certificate_ends`` and ``now``: epoch seconds."""
    remarks: list[Remark] = list(conditions.slowness(check, seconds))
    if certificate_ends is not None:
        remarks += conditions.lasting(check, certificate_ends, now)
    said = f"{check.host}:{check.port} takes connections{' over TLS' if check.tls else ''}"
    return concluded(said, remarks, certificate_ends=certificate_ends)


def _handshake(check: TcpCheck, connection: socket.socket, until: float) -> float | None:
    """When the peer's certificate ends; raises ssl.SSLError when the handshake fails."""
    connection.settimeout(max(0.1, until - time.monotonic()))
    context = conditions.trusting(check.ca_bundle)
    with context.wrap_socket(connection, server_hostname=check.server_name or check.host) as encrypted:
        return conditions.end_of(encrypted)
