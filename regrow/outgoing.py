"""HTTP that Regrow itself asks for: one client a process, which trusts nobody more than it must.

Redirects are not followed: what is declared is what is asked. Cookies are refused, proxies of the
environment not used, compressed answers not asked for (they would have to be unpacked, without a bound on
what comes out).
"""

from __future__ import annotations

import os
import threading
from http.cookiejar import DefaultCookiePolicy
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


def _new_client() -> httpx.Client:
    made = httpx.Client(
        http2=True,
        follow_redirects=False,
        trust_env=False,
        verify=httpx.create_ssl_context(),
        limits=httpx.Limits(max_connections=256, max_keepalive_connections=16),
        headers={"User-Agent": f"regrow/{__version__}", "Accept-Encoding": "identity"},
    )
    made.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return made
