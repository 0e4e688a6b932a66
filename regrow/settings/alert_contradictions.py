"""Alerts that are told by channels which are not there, or which tell everybody on the way."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from pydantic import SecretStr

from regrow.settings.alerts import EmailChannel
from regrow.settings.contradictions import is_loopback
from regrow.settings.models import Settings
from regrow.settings.sources import Layers, Place


def contradictions_of_alerts(layers: Layers, settings: Settings) -> Iterable[str]:
    """Steps by channels that are not there, channels of no step, and those that tell everybody on the way."""
    alerts = settings.alerts
    for severity, number, channel in alerts.unknown_channels():
        place = ("alerts", "severities", severity, "steps")
        known = ", ".join(sorted(alerts.channels))
        yield (
            f"{layers.origin(place)}: {'.'.join(place)}: step {number + 1} names {channel!r}, which is no "
            f"channel. Declare [alerts.channels.{channel}], or name one of {known}."
        )
    yield from _unused(layers, settings)
    yield from _written_down(layers, settings)
    for name, chosen in alerts.channels.items():
        at = ("alerts", "channels", name)
        where = f"{layers.origin(at)}: {'.'.join(at)}"
        if isinstance(chosen, EmailChannel):
            open_ = chosen.security == "none" and not is_loopback(chosen.host)
            if open_ and settings.profile != "testing":
                yield f"{where}.security: mail travels sealed, but to loopback names. Say starttls or tls."
            continue
        url = getattr(chosen, "url", None)
        address = url.get_secret_value() if isinstance(url, SecretStr) else str(url or "")
        if address and not _is_sealed(address, settings):
            yield (
                f"{where}.url: notices travel over https, but for loopback addresses and the testing "
                "profile. Use https."
            )


def _is_sealed(address: str, settings: Settings) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    if parts.scheme == "https" or (parts.scheme == "http" and settings.profile == "testing"):
        return True
    return parts.scheme == "http" and is_loopback(parts.hostname or "")


_SECRETS = ("url", "password", "routing_key", "urls", "signing_keys")


def _unused(layers: Layers, settings: Settings) -> Iterable[str]:
    """Who declares a channel counts on it."""
    alerts = settings.alerts
    used = {name for chosen in alerts.severities.values() for step in chosen.steps for name in step.channels}
    for name, channel in alerts.channels.items():
        if name not in used and channel.enabled and channel.kind != "log":
            at = ("alerts", "channels", name)
            yield (
                f"{layers.origin(at)}: {'.'.join(at)}: no step goes by it, so nobody would be told. Name it "
                "in [alerts.severities.NAME] steps, or set enabled = false."
            )


def _written_down(layers: Layers, settings: Settings) -> Iterable[str]:
    """Secrets of channels come by reference: a file of settings is read by many, and kept for long."""
    for name, chosen in settings.alerts.channels.items():
        for key in _SECRETS:
            value = getattr(chosen, key, None)
            first = value[0] if isinstance(value, tuple) and value else value
            place = ("alerts", "channels", name, key)
            said = layers.origin(place).startswith("environment variable")
            referred = said or any(_is_of(place, one) for one in layers.referred)
            if isinstance(first, SecretStr) and not referred:
                yield (
                    f"{layers.origin(place)}: {'.'.join(place)} is a secret. "
                    f'Refer to it: {key} = "${{VARIABLE}}", or {key}_file = "/run/secrets/NAME".'
                )


def _is_of(place: Place, other: Place) -> bool:
    return other[: len(place)] == place
