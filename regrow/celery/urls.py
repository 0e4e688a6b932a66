"""Broker addresses: Regrow writes Sentinel and UNIX URLs in one way for all clients, kombu in its own."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from regrow.errors import SettingsError
from regrow.redis_url import Address, kind_of, parse


@dataclass(frozen=True)
class _Spoken:
    """An address in kombu's form. ``tls``: what belongs to an encrypted one, None in plain."""

    url: str
    options: Mapping[str, Any]
    tls: Mapping[str, Any] | None = None


def broker_of(url: str) -> dict[str, Any]:
    """Celery's ``broker_url``, ``broker_transport_options`` and what else the broker at ``url`` needs."""
    spoken = _spoken(
        url,
        "celery.broker_url",
        "a Redis Cluster cannot be a broker (Celery has no transport for it). "
        "Name a Redis, a Sentinel or a RabbitMQ: CELERY_BROKER_URL",
    )
    found: dict[str, Any] = {"broker_url": spoken.url, "broker_transport_options": dict(spoken.options)}
    return found if spoken.tls is None else {**found, "broker_use_ssl": dict(spoken.tls)}


def results_of(url: str) -> dict[str, Any]:
    """Celery's ``result_backend`` and what belongs to the one at ``url``."""
    spoken = _spoken(
        url,
        "celery.result_backend",
        "a Redis Cluster cannot keep Celery's results. Name a Redis or a Sentinel: CELERY_RESULT_BACKEND",
    )
    found: dict[str, Any] = {"result_backend": spoken.url}
    if spoken.options:
        found["result_backend_transport_options"] = dict(spoken.options)
    return found if spoken.tls is None else {**found, "redis_backend_use_ssl": dict(spoken.tls)}


def _spoken(url: str, setting: str, cluster: str) -> _Spoken:
    """``cluster``: why ``setting`` cannot name a Redis Cluster, and what it may name. SettingsError then."""
    match kind_of(url), scheme_of(url):
        case "server", "rediss":
            return _Spoken(url, {}, {"ssl_cert_reqs": ssl.CERT_REQUIRED})
        case "server", "unix":
            return _Spoken(socket_of(url), {})
        case "sentinel", _:
            address = parse(url, setting=setting)
            nodes, options = sentinel_of(address)
            return _Spoken(nodes, options, _tls_of(address) if address.encrypted else None)
        case "cluster", _:
            raise SettingsError(f"{setting}: {cluster}")
    return _Spoken(url, {})


def sentinel_of(address: Address) -> tuple[str, Mapping[str, Any]]:
    """Kombu's form of a master behind Sentinels: its nodes, and the options of the transport."""
    login = ""
    if address.username or address.password:
        login = ":".join(quote(part or "", safe="") for part in (address.username, address.password)) + "@"
    hosts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in address.nodes]
    nodes = ";".join(f"sentinel://{login}{host}/{address.db}" for host in hosts)
    named = zip(("username", "password"), address.sentinel_login, strict=True)
    sentinels: dict[str, Any] = {name: told for name, told in named if told is not None}
    if address.sentinels_encrypted:
        sentinels |= {"ssl": True, **_tls_of(address)}
    options: dict[str, Any] = {"master_name": address.service}
    if sentinels:
        options["sentinel_kwargs"] = sentinels
    return nodes, options


def _tls_of(address: Address) -> dict[str, Any]:
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, **dict(address.tls)}


def socket_of(url: str) -> str:
    """Kombu's form of ``unix:///path?db=N``."""
    parts = urlsplit(url)
    db = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.path}?virtual_host={db}"


def scheme_of(url: str) -> str:
    return url.split("://", 1)[0]
