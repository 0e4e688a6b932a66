"""Home by HTTP: a signed POST of the body as it is. A 2xx answer settles the letter.

The address comes from the settings alone, never from a letter, and redirects are not followed. What an
answer means stands in one table, :func:`meaning`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

import httpx

from regrow.dead_letters import signature
from regrow.dead_letters.route import Outbound
from regrow.engine import Engine
from regrow.errors import DeliveryFailedError, DeliveryRefusedError
from regrow.outgoing import client, plain
from regrow.retries.hints import retry_after
from regrow.settings.routes import WebhookRoute

_SNIPPET = 200
"""Characters of an answer that are kept with the error."""
_READ = 2048
"""Bytes of an answer that are read at all."""
_PACKED = {"gzip", "deflate", "br", "zstd"}

Meaning = Literal["settled", "failed", "refused"]

# Of the 4xx, those that say "not now" or "not you": another try may do better, and where the key or the
# address is wrong for all, the breaker opens and the rest waits at no cost.
_PASSING = frozenset({401, 403, 407, 408, 409, 421, 423, 425, 429})


def meaning(status: int) -> Meaning:
    """2xx settles; 5xx and the passing 4xx fail; every other answer, redirects too, is for good."""
    if 200 <= status < 300:
        return "settled"
    return "failed" if status >= 500 or status in _PASSING else "refused"


@dataclass(frozen=True)
class Webhook:
    """``breaker`` is the letter's service."""

    engine: Engine = field(repr=False)
    declared: WebhookRoute = field(repr=False)
    breaker: str

    settled: Literal["return"] = "return"
    runs_here: Literal[True] = True
    place: None = None

    @property
    def target(self) -> str:
        return f"webhook {plain(str(self.declared.url))}"

    @property
    def longest(self) -> float:
        return 4 * self.declared.timeout + 15.0  # to connect, to write, to wait, to read; and a margin

    def send(self, outbound: Outbound) -> None:
        where = plain(str(self.declared.url))
        try:
            status, hint, told = self._post(outbound)
        except httpx.HTTPError as error:
            # Its text may quote what was sent; the kind says enough.
            name = f"httpx.{type(error).__name__}"
            raise DeliveryFailedError(f"{where} did not answer: {name}", error_class=name) from None
        said = f"{where} answered {status}{told and f': {told}'}"
        match meaning(status):
            case "failed":
                raise DeliveryFailedError(said, error_class=f"http.{status}", retry_after=hint)
            case "refused":
                remedy = " (redirects are not followed: declare the new address)" if status < 400 else ""
                raise DeliveryRefusedError(f"{said}{remedy}")

    def validate(self, outbound: Outbound) -> None:
        """Nothing can be known without asking."""

    def _post(self, outbound: Outbound) -> tuple[int, float | None, str]:
        """Status, seconds of ``Retry-After``, and the beginning of what the answer says."""
        until = time.monotonic() + self.declared.timeout
        body = outbound.body.body
        with client().stream(
            "POST",
            str(self.declared.url),
            content=body,
            headers=self._headers(outbound),
            timeout=self.declared.timeout,
        ) as response:
            hint = retry_after(response, self.engine.clock())
            read = b""
            if meaning(response.status_code) != "settled":
                for chunk in response.iter_raw():
                    read += chunk
                    if len(read) >= _READ or time.monotonic() > until:
                        break
        return response.status_code, hint, _snippet(read)

    def _headers(self, outbound: Outbound) -> dict[str, str]:
        letter, body = outbound.letter, outbound.body
        at = self.engine.clock().timestamp()
        keys = (key.get_secret_value() for key in self.declared.signing_keys)
        own = {name: value.get_secret_value() for name, value in self.declared.headers.items()}
        packed = {"Content-Encoding": body.content_encoding} if body.content_encoding in _PACKED else {}
        return {
            **own,
            **packed,
            "Content-Type": body.content_type,
            "Idempotency-Key": _as_header(outbound.effect_key),
            "Regrow-Letter": letter.id,
            "Regrow-Message-Type": _as_header(letter.message_type),
            "Regrow-Attempt": str(letter.attempts + 1),
            signature.HEADER: signature.sign(body.body, keys, at),
        }


def _as_header(text: str) -> str:
    """Visible ASCII stays as it is, everything else is percent-encoded."""
    return quote(text, safe="!\"#$&'()*+,/:;<=>?@[]^`{|}~\\")


def _snippet(read: bytes) -> str:
    text = read[:_READ].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_SNIPPET]
