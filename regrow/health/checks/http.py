"""HTTP: status, text in the body, and how long the answer took.

Redirects are not followed: a 3xx is judged by ``expect_status`` like any other. No more than 1 MiB of a body
is read, within the check's timeout however slowly it drips.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx

from regrow.health.rules import Finding, finding
from regrow.outgoing import client, plain
from regrow.settings import Settings
from regrow.settings.checks import HttpCheck

BODY_LIMIT = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What came back. ``text`` is None when the body was longer than the limit."""

    status: int
    text: str | None
    seconds: float


class _TooSlowError(Exception):
    """The body was still coming when the time was up."""


def probe(check: HttpCheck, settings: Settings) -> Finding:
    del settings
    where = plain(str(check.url))
    bound = 0.9 * check.timeout
    try:
        answer = _ask(check, bound)
    except httpx.PoolTimeout:
        raise  # a resource of ours
    except (httpx.TimeoutException, _TooSlowError):
        return finding("unhealthy", f"{where} did not answer within {bound:.1f} s", url=where)
    except httpx.ConnectError as error:
        return finding("unhealthy", f"{where}: {error}", url=where)
    except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError) as error:
        # Their texts may quote what was sent; the kind says enough.
        return finding("unhealthy", f"{where} broke off: {type(error).__name__}", url=where)
    return verdict(check, answer)


def verdict(check: HttpCheck, answer: Answer) -> Finding:
    where = plain(str(check.url))
    data = {"url": where, "http_status": answer.status}
    if answer.status not in check.expect_status:
        expected = ", ".join(str(status) for status in check.expect_status)
        return finding("unhealthy", f"{where} answered {answer.status}, expected {expected}", **data)
    if check.expect_body is not None and check.expect_body not in (answer.text or ""):
        lacking = "the body is too long to search" if answer.text is None else "the expected text is missing"
        return finding("unhealthy", f"{where} answered {answer.status}, but {lacking}", **data)
    if check.slow is not None and answer.seconds > check.slow:
        said = f"{where} answered {answer.status} in {answer.seconds:.2f} s, slower than {check.slow:g} s"
        return finding("degraded", said, **data)
    return finding("healthy", f"{where} answered {answer.status}", **data)


def _ask(check: HttpCheck, bound: float) -> Answer:
    began = time.monotonic()
    headers = {name: value.get_secret_value() for name, value in check.headers.items()}
    with client().stream(check.method, str(check.url), headers=headers, timeout=bound) as response:
        chunks: list[bytes] = []
        length = 0
        wanted = check.expect_body is not None
        for chunk in response.iter_raw():
            if time.monotonic() - began > bound:
                raise _TooSlowError
            length += len(chunk)
            if length > BODY_LIMIT:
                break
            if wanted:
                chunks.append(chunk)
        encoding = response.charset_encoding or "utf-8"
        body = b"".join(chunks)
    text = None if length > BODY_LIMIT else _decoded(body, encoding)
    return Answer(response.status_code, text, time.monotonic() - began)


def _decoded(body: bytes, encoding: str) -> str:
    try:
        return body.decode(encoding, "replace")
    except LookupError:  # a charset nobody knows
        return body.decode("utf-8", "replace")
