"""How the start-up gate asks a dependency by its URL; each look is short and leaves nothing open."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

from regrow.errors import SettingsError, StoreUnavailableError

PATIENCE = 5.0
"""Seconds for one answer."""

_PORTS = {"http": 80, "https": 443, "amqp": 5672, "amqps": 5671, "pyamqp": 5672}


def probe_of_url(url: str) -> Callable[[], None]:
    """A function that raises while nothing that answers stands behind the URL; SettingsError for no URL."""
    scheme = url.partition(":")[0].lower()
    if "://" not in url:
        raise SettingsError("a dependency is a URL (redis://, http://, tcp://host:port, ...) or a function")
    match scheme.partition("+")[0]:
        case "redis" | "rediss" | "sentinel":
            return lambda: _redis(url)
        case "http" | "https":
            return lambda: _http(url)
        case "tcp" | "amqp" | "amqps" | "pyamqp":
            host, port = _place(url, scheme)
            return lambda: _tcp(host, port)
        case _:
            return lambda: _database(url)


def _redis(url: str) -> None:
    from regrow.redis import connect

    with connect(url, socket_timeout=PATIENCE, connect_timeout=PATIENCE, max_connections=1) as client:
        client.ping()


def _http(url: str) -> None:
    """An answer below 400; redirects are not followed, proxies not used, certificates verified."""
    parts = urlsplit(url)
    host, port = _place(url, parts.scheme.lower())
    kind = http.client.HTTPSConnection if parts.scheme.lower() == "https" else http.client.HTTPConnection
    with closing(kind(host, port, timeout=PATIENCE)) as connection:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "regrow-startup", "Connection": "close"})
        status = connection.getresponse().status
    if status >= 400:
        raise StoreUnavailableError(f"it answers {status}")


def _tcp(host: str, port: int) -> None:
    socket.create_connection((host, port), PATIENCE).close()


def _database(url: str) -> None:
    """SELECT 1 over a connection of its own."""
    try:
        import sqlalchemy as sa
    except ImportError:
        raise SettingsError("waiting for a database by its URL needs SQLAlchemy: install it") from None
    try:
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool, hide_parameters=True)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
        raise SettingsError(f"no URL of a database that can be used here: {type(error).__name__}") from None
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except sa.exc.DBAPIError as error:
        raise StoreUnavailableError(f"{type(error.orig).__name__}: {error.orig}") from error
    finally:
        engine.dispose()


def _place(url: str, scheme: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(scheme)
    except ValueError:
        port = None
    if port is None or not parts.hostname:
        raise SettingsError(f"a {scheme} dependency needs a host and a port: {scheme}://host:port")
    return parts.hostname, port
