"""Settings that may be shown: every secret masked, and whatever is not surely harmless with it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydantic import SecretStr
from pydantic_core import Url

from regrow.settings.models import Settings
from regrow.settings.sources import Place

HIDDEN = "***"

# Scheme, host and path of a URL, where nothing can be taken for anything else: no stray @, : or %.
_PLAIN_URL = re.compile(
    r"""(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://
        (?P<user>[^/?\#]*@)?
        (?P<host>[a-zA-Z0-9_.,:-]*|\[[0-9a-fA-F:.]+\](?::[0-9]+)?)
        (?P<path>/[\w\ ./+~=-]*)?
        (?P<rest>[?\#][^@]*)?""",
    re.VERBOSE,
)


def redacted(settings: Settings) -> dict[str, Any]:
    """All settings as plain JSON values, with secrets masked and passwords cut out of URLs.

    What came by ``${VARIABLE}`` or from a file of its own is masked whole: people keep secrets there.
    """
    plain: dict[str, Any] = _redact(settings.model_dump(), (), settings.referred)
    return plain


def _redact(value: Any, place: Place, referred: Collection[Place], *, hidden: bool = False) -> Any:
    hidden = hidden or place in referred
    if isinstance(value, dict):
        return {key: _redact(item, (*place, key), referred, hidden=hidden) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact(item, place, referred, hidden=hidden) for item in value]
    if isinstance(value, SecretStr):
        name = place[-1]
        # Of a channel the path is the secret; of a store it is a number or a name.
        is_url = place[:2] != ("alerts", "channels") and name in {"url", "broker_url", "result_backend"}
        return without_credentials(value.get_secret_value()) if is_url else HIDDEN
    if value is None or (isinstance(value, bool | int | float) and not hidden):
        return value
    if hidden:
        return HIDDEN
    # A URL of a check is no secret as such, but people write passwords and tokens into URLs.
    return without_credentials(str(value)) if isinstance(value, Url) or "://" in str(value) else str(value)


def without_credentials(url: str) -> str:
    """A URL with user, password and query cut out; hidden whole when it is not plainly of that shape.

    A password with an unquoted ``/``, ``?`` or ``#`` moves the borders between the parts, so a URL with
    an ``@`` or a colon where none belongs is not trusted in any part.
    """
    found = _PLAIN_URL.fullmatch(url)
    if found is None or not _ports_are_numbers(found["host"]):
        return HIDDEN
    user = f"{HIDDEN}@" if found["user"] else ""
    return f"{found['scheme']}://{user}{found['host']}{found['path'] or ''}"


def _ports_are_numbers(hosts: str) -> bool:
    """``redis://:secret`` and ``redis://user:secret?x`` look like a host with a port; a port is a number."""
    if hosts.startswith("["):
        return True
    for host in hosts.split(","):
        name, colon, port = host.partition(":")
        if colon and not (name and port.isascii() and port.isdigit() and len(port) <= 5):
            return False
    return True
