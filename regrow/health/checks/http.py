"""HTTP: status, what the body says, how long the answer took, and how long the certificate lasts.

Redirects are not followed: a 3xx is judged by ``expect_status`` like any other. No more than 1 MiB of a body
is read, within the check's timeout however slowly it drips.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from regrow.health.checks import conditions
from regrow.health.checks.bodies import remarks_on
from regrow.health.checks.conditions import Remark, concluded
from regrow.health.rules import Finding, finding
from regrow.outgoing import Clients, plain
from regrow.settings import Settings
from regrow.settings.checks import HttpCheck

BODY_LIMIT = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What came back. ``text`` is None when the body was longer than the limit.

    ``certificate_ends``: epoch seconds; None when the answer came without TLS.
    """

    status: int
    text: str | None
    seconds: float
    certificate_ends: float | None = None


async def probe(check: HttpCheck, settings: Settings, clients: Clients) -> Finding:
    del settings
    where = plain(str(check.url))
    bound = 0.9 * check.timeout
    try:
        async with asyncio.timeout(bound):
            answer = await _ask(check, clients.trusting(check.ca_bundle))
    except httpx.PoolTimeout:
        raise  # a resource of ours
    except (httpx.TimeoutException, TimeoutError):
        return finding("unhealthy", f"{where} did not answer within {bound:.1f} s", url=where)
    except httpx.ConnectError as error:
        return finding("unhealthy", f"{where}: {error}", url=where)
    except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError) as error:
        # Their texts may quote what was sent; the kind says enough.
        return finding("unhealthy", f"{where} broke off: {type(error).__name__}", url=where)
    return verdict(check, answer, time.time())


def verdict(check: HttpCheck, answer: Answer, now: float) -> Finding:
    """``now``: epoch seconds, for the certificate."""
    where = plain(str(check.url))
    data = {"url": where, "http_status": answer.status, "certificate_ends": answer.certificate_ends}
    return concluded(f"{where} answered {answer.status}", _remarks(check, answer, now), **data)


def _remarks(check: HttpCheck, answer: Answer, now: float) -> Iterable[Remark]:
    if answer.status not in check.expect_status:
        expected = ", ".join(str(status) for status in check.expect_status)
        yield Remark("unhealthy", f"expected {expected}")
        return  # what the body of another answer says is nobody's promise
    yield from remarks_on(check, answer.text)
    yield from conditions.slowness(check, answer.seconds)
    if answer.certificate_ends is not None:
        yield from conditions.lasting(check, answer.certificate_ends, now)


async def _ask(check: HttpCheck, client: httpx.AsyncClient) -> Answer:
    began = time.monotonic()
    headers = {name: value.get_secret_value() for name, value in check.headers.items()}
    body = check.body.get_secret_value().encode() if check.body is not None else None
    url = str(check.url)
    # The whole is bounded by the caller; a pool that has no room is ours, and shall not look like theirs.
    wait = httpx.Timeout(None, pool=0.9 * check.timeout)
    async with client.stream(check.method, url, headers=headers, content=body, timeout=wait) as response:
        chunks: list[bytes] = []
        length = 0
        async for chunk in response.aiter_raw():
            length += len(chunk)
            if length > BODY_LIMIT:
                break
            if check.reads_body:
                chunks.append(chunk)
        tls = response.extensions["network_stream"].get_extra_info("ssl_object")
        ends = conditions.end_of(tls) if tls is not None else None
        encoding = response.charset_encoding or "utf-8"
    text = None if length > BODY_LIMIT else _decoded(b"".join(chunks), encoding)
    return Answer(response.status_code, text, time.monotonic() - began, ends)


def _decoded(body: bytes, encoding: str) -> str:
    try:
        return body.decode(encoding, "replace")
    except LookupError:  # a charset nobody knows
        return body.decode("utf-8", "replace")
