"""HTTP that Regrow itself asks for: one client a process, which trusts nobody more than it must.

Redirects are not followed: what is declared is what is asked. Cookies are refused, proxies of the
environment not used, compressed answers not asked for (they would have to be unpacked, without a bound on
what comes out).
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from regrow.version import __version__

_clients: dict[int, httpx.Client] = {}
_lock = threading.Lock()


def client() -> httpx.Client:
    """This process's client; a forked child must not share its parent's connections."""
    with _lock:
        if os.getpid() not in _clients:
            _clients.clear()
            _clients[os.getpid()] = _new_client()
        return _clients[os.getpid()]


def plain(url: str) -> str:
    """A URL without what may be secret in it: user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}"


class Clients:
    """Clients of one event loop, pooled, by whom they trust. Made by :func:`clients`."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._made: dict[Path | None, httpx.AsyncClient] = {}

    def trusting(self, ca_bundle: Path | None = None) -> httpx.AsyncClient:
        """The client that trusts the system's certificates, and those of the file."""
        if ca_bundle not in self._made:
            made = httpx.AsyncClient(**_options(_context(ca_bundle, _changed(ca_bundle))))
            made.cookies.jar.set_policy(_no_cookies())
            self._stack.push_async_callback(made.aclose)
            self._made[ca_bundle] = made
        return self._made[ca_bundle]


@asynccontextmanager
async def clients() -> AsyncIterator[Clients]:
    """Clients for what happens inside; their connections are closed at its end."""
    async with AsyncExitStack() as stack:
        yield Clients(stack)


def _new_client() -> httpx.Client:
    made = httpx.Client(**_options(_context(None, 0.0)))
    made.cookies.jar.set_policy(_no_cookies())
    return made


def _options(context: ssl.SSLContext) -> dict[str, Any]:
    return {
        "http2": True,
        "follow_redirects": False,
        "trust_env": False,
        "verify": context,
        "limits": httpx.Limits(max_connections=256, max_keepalive_connections=16),
        "headers": {"User-Agent": f"regrow/{__version__}", "Accept-Encoding": "identity"},
    }


@lru_cache(maxsize=16)
def _context(ca_bundle: Path | None, changed: float) -> ssl.SSLContext:
    """Made once: reading the system's certificates takes longer than most requests."""
    del changed  # a file that was written anew is read anew
    made = httpx.create_ssl_context()
    if ca_bundle is not None:
        made.load_verify_locations(ca_bundle)
    return made


def _changed(ca_bundle: Path | None) -> float:
    return ca_bundle.stat().st_mtime if ca_bundle is not None else 0.0


def _no_cookies() -> DefaultCookiePolicy:
    return DefaultCookiePolicy(allowed_domains=[])
