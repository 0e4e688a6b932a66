"""Broker addresses: Regrow writes Sentinel and UNIX URLs as redis-py does, kombu has its own forms."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from regrow.errors import SettingsError


def broker_of(url: str) -> dict[str, Any]:
    """Celery's ``broker_url``, ``broker_transport_options`` and what else the broker at ``url`` needs."""
    scheme = scheme_of(url)
    found: dict[str, Any] = {"broker_url": url, "broker_transport_options": {}}
    if scheme == "rediss":
        found["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    elif scheme == "unix":
        found["broker_url"] = socket_of(url)
    elif scheme == "sentinel":
        nodes, options = sentinel_of(url)
        found.update(broker_url=nodes, broker_transport_options=dict(options))
    return found


def results_of(url: str) -> dict[str, Any]:
    """Celery's ``result_backend`` and what belongs to the one at ``url``."""
    scheme = scheme_of(url)
    found: dict[str, Any] = {"result_backend": url}
    if scheme == "rediss":
        found["redis_backend_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    elif scheme == "unix":
        found["result_backend"] = socket_of(url)
    elif scheme == "sentinel":
        nodes, options = sentinel_of(url)
        found.update(result_backend=nodes, result_backend_transport_options=dict(options))
    return found


def sentinel_of(url: str) -> tuple[str, Mapping[str, Any]]:
    """Kombu's form of ``sentinel://[:password@]host:port[,host:port]/SERVICE[/DB]``: nodes and options."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, db = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise SettingsError(
            "celery.broker_url: a Sentinel URL names hosts and service: "
            "sentinel://[:password@]host:26379,host2:26379/mymaster/0"
        )
    password = f":{quote(unquote(credentials.split(':', 1)[-1]), safe='')}@" if credentials else ""
    nodes = ";".join(f"sentinel://{password}{host}/{db or 0}" for host in hosts.split(","))
    options: dict[str, Any] = {"master_name": service}
    query = parse_qs(parts.query)
    if "sentinel_password" in query:
        options["sentinel_kwargs"] = {"password": query["sentinel_password"][0]}
    return nodes, options


def socket_of(url: str) -> str:
    """Kombu's form of ``unix:///path?db=N``."""
    parts = urlsplit(url)
    db = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.path}?virtual_host={db}"


def scheme_of(url: str) -> str:
    return url.split("://", 1)[0]
