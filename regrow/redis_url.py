"""Addresses of a Redis: one server, a master that Sentinels name, or a cluster.

==================================================================  =====================================
``redis://[USER:PASSWORD@]HOST[:PORT][/DB]``, ``unix://PATH``       one server
``redis+sentinel://[...@]HOST[:PORT],HOST[:PORT]/SERVICE[/DB]``     the master of SERVICE, port 26379
``redis+cluster://[...@]HOST[:PORT],HOST[:PORT]``                   a cluster, some of its nodes, port 6379
==================================================================  =====================================

``rediss`` instead of ``redis`` speaks TLS, to Sentinels too. ``sentinel://`` is ``redis+sentinel://``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from regrow.errors import SettingsError

Kind = Literal["server", "sentinel", "cluster"]

SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("server", False),
    "sentinel": ("sentinel", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
"""What a URL may begin with: the kind of address, and whether TLS is spoken."""

FORMS = {
    "server": "redis://[:password@]host:port/db",
    "sentinel": "redis+sentinel://[:password@]host:26379,host2:26379/mymaster/0",
    "cluster": "redis+cluster://[:password@]host:6379,host2:6379",
}

_PORTS = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_TLS = frozenset(
    {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)
_SENTINEL = frozenset({"sentinel_username", "sentinel_password", "ssl"})
_TRUE = frozenset({"1", "true", "yes"})


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart. ``nodes``: (host, port); empty for one server, whose URL redis-py reads itself.

    ``tls``: redis-py's ``ssl_*`` options. ``sentinel_login``: username and password of the Sentinels.
    """

    kind: Kind
    url: str
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None
    encrypted: bool = False
    sentinels_encrypted: bool = False
    tls: tuple[tuple[str, Any], ...] = ()
    sentinel_login: tuple[str | None, str | None] = (None, None)


def kind_of(url: str) -> Kind | None:
    """What a URL is by its scheme alone; None for what is no Redis."""
    known = SCHEMES.get(url.split("://", 1)[0])
    return known[0] if known else None


def parse(url: str, *, setting: str = "redis.url") -> Address:
    """The parts of ``url``. SettingsError, which names ``setting``, when it has none."""
    try:
        return read(url)
    except ValueError as error:
        raise SettingsError(f"{setting}: {error}") from None


def read(url: str) -> Address:
    """The parts of ``url``. ValueError, which never tells a password, when it has none."""
    scheme = url.split("://", 1)[0]
    if "://" not in url or scheme not in SCHEMES:
        *most, last = (f"{name}://" for name in SCHEMES)
        raise ValueError(f"the URL must begin with {', '.join(most)} or {last}")
    kind, encrypted = SCHEMES[scheme]
    if kind == "server":
        return Address(kind, url, encrypted=encrypted)
    try:
        parts = urlsplit(url)
        nodes = _nodes(parts.netloc.rsplit("@", 1)[-1], _PORTS[kind])
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        service, _, db_text = parts.path.strip("/").partition("/")
        db = _database(db_text)
    except ValueError as error:
        raise _misshapen(kind, str(error)) from None
    if not nodes:
        raise _misshapen(kind, "it names no host")
    if unknown := query.keys() - (_TLS | _SENTINEL if kind == "sentinel" else _TLS):
        raise _misshapen(kind, f"unknown option {', '.join(sorted(unknown))}")
    if kind == "sentinel" and not service:
        raise _misshapen(kind, "it names no service")
    if kind == "cluster" and (service or db):
        if service not in {"", "0"} or db:
            raise _misshapen(kind, "a cluster has database 0 alone, so nothing follows the hosts")
        service = ""
    return Address(
        kind,
        url,
        nodes,
        service=service,
        db=db,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        encrypted=encrypted or query.get("ssl", "").lower() in _TRUE,
        sentinels_encrypted=encrypted,
        tls=tuple((name, _told(name, query[name])) for name in sorted(query.keys() & _TLS)),
        sentinel_login=(query.get("sentinel_username"), query.get("sentinel_password")),
    )


def _nodes(hosts: str, default_port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_node(text, default_port) for text in hosts.split(",") if text)


def _node(text: str, default_port: int) -> tuple[str, int]:
    if text.startswith("["):  # an IPv6 address
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host:
        msg = "a host has no name"
        raise ValueError(msg)
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        msg = f"the port of {host} is no number from 1 to 65535"
        raise ValueError(msg)
    return host, int(port or default_port)


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):  # not shown: it may be half a password
        msg = "what follows the service is no number, or the password holds a / ? or #: write %2F %3F %23"
        raise ValueError(msg)
    return int(text or 0)


def _told(name: str, value: str) -> Any:
    return value.lower() in _TRUE if name == "ssl_check_hostname" else value


def _misshapen(kind: Kind, why: str) -> ValueError:
    name = "Redis Cluster" if kind == "cluster" else "Sentinel"
    return ValueError(f"not the URL of a {name}: {why}. Write it as {FORMS[kind]}")
