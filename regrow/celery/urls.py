"""Broker addresses: Regrow writes Sentinel and UNIX URLs in one way for all clients, kombu in its own."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from regrow.errors import SettingsError
from regrow.redis_url import Address, kind_of, parse


def broker_of(url: str) -> dict[str, Any]:
    """Celery's ``broker_url``, ``broker_transport_options`` and what else the broker at ``url`` needs."""
    found: dict[str, Any] = {"broker_url": url, "broker_transport_options": {}}
    match kind_of(url), scheme_of(url):
        case "server", "rediss":
            found["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        case "server", "unix":
            found["broker_url"] = socket_of(url)
        case "sentinel", _:
            address = parse(url, setting="celery.broker_url")
            nodes, options = sentinel_of(address)
            found.update(broker_url=nodes, broker_transport_options=dict(options))
            if address.encrypted:
                found["broker_use_ssl"] = _tls_of(address)
        case "cluster", _:
            raise SettingsError(
                "celery.broker_url: a Redis Cluster cannot be a broker (Celery has no transport for it). "
                "Name a Redis, a Sentinel or a RabbitMQ: CELERY_BROKER_URL"
            )
    return found


def results_of(url: str) -> dict[str, Any]:
    """Celery's ``result_backend`` and what belongs to the one at ``url``."""
    found: dict[str, Any] = {"result_backend": url}
    match kind_of(url), scheme_of(url):
        case "server", "rediss":
            found["redis_backend_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        case "server", "unix":
            found["result_backend"] = socket_of(url)
        case "sentinel", _:
            address = parse(url, setting="celery.result_backend")
            nodes, options = sentinel_of(address)
            found.update(result_backend=nodes, result_backend_transport_options=dict(options))
            if address.encrypted:
                found["redis_backend_use_ssl"] = _tls_of(address)
        case "cluster", _:
            raise SettingsError(
                "celery.result_backend: a Redis Cluster cannot keep Celery's results. "
                "Name a Redis or a Sentinel: CELERY_RESULT_BACKEND"
            )
    return found


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
