"""A running deployment tried from outside, as a user of it would; nothing is changed.

One function a test; each returns what it found in a sentence, or raises :class:`SmokeError` with the reason.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from regrow.errors import RegrowError

BREAKER_STATES = {"closed", "open", "half_open"}
CLIENTS = 4
"""Connections over which the uptime test asks."""
_NEWEST = "regrow_build_info"


class SmokeError(RegrowError):
    """The deployment did not do what it should."""


@dataclass(frozen=True)
class Target:
    """What is tried. ``key`` is sent, and never told; times in seconds, ``rate`` in requests a second.

    ``share`` of the ``requests`` to ``path`` must be answered below 500.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 10.0
    requests: int = 1000
    rate: float = 100.0
    share: float = 0.999
    path: str = "/health/live"
    ca_file: str | None = None


@dataclass(frozen=True)
class Verdict:
    """How one test went; ``told`` is what was found, or why it failed."""

    test: str
    ok: bool
    told: str
    seconds: float


class Visitor:
    """Asks one deployment. Certificates are verified, redirects are not followed."""

    def __init__(self, target: Target) -> None:
        import ssl

        self.target = target
        self._client = httpx.Client(
            base_url=target.url,
            timeout=target.timeout,
            verify=ssl.create_default_context(cafile=target.ca_file),
            limits=httpx.Limits(max_connections=CLIENTS),
            headers={"User-Agent": "regrow-smoke"},
        )

    def close(self) -> None:
        self._client.close()

    def ask(self, path: str, *, key: bool = False, method: str = "GET", **more: Any) -> httpx.Response:
        """The answer; SmokeError when there is none."""
        headers = {}
        if key:
            if self.target.key is None:
                raise SmokeError(f"{path} needs a key: give --api-key-file, or API_KEY in the environment")
            headers["X-API-Key"] = self.target.key
        try:
            return self._client.request(method, path, headers=headers, **more)
        except httpx.TimeoutException:
            raise SmokeError(f"{path}: no answer within {self.target.timeout:g} s") from None
        except httpx.HTTPError as error:
            raise SmokeError(f"{path}: {type(error).__name__}: {error}") from None

    def read(self, path: str, *, key: bool = False, statuses: tuple[int, ...] = (200,)) -> Any:
        """The JSON behind a path; SmokeError for another status or no JSON."""
        answer = self.ask(path, key=key)
        self.expect(answer, path, *statuses)
        try:
            return answer.json()
        except ValueError:
            raise SmokeError(f"{path}: {answer.status_code}, and its body is no JSON") from None

    @staticmethod
    def expect(answer: httpx.Response, path: str, *statuses: int) -> None:
        if answer.status_code not in statuses:
            said = {401: " (is the key right?)", 403: " (the deployment has no key)"}
            raise SmokeError(f"{path}: answered {answer.status_code}{said.get(answer.status_code, '')}")


def health(visitor: Visitor) -> str:
    """It lives, is ready, and calls itself healthy or degraded."""
    visitor.expect(visitor.ask("/health/live"), "/health/live", 200)
    ready = visitor.read("/health/ready", statuses=(200, 503))
    if ready.get("status") != "ready":
        raise SmokeError(
            f"/health/ready: {ready.get('status', 'unknown')}: {_flat(ready.get('dependencies'))}"
        )
    told = visitor.read("/health", statuses=(200, 503))
    status = told.get("status")
    if status not in {"healthy", "degraded"}:
        raise SmokeError(f"/health: the system is {status}")
    return f"alive, ready and {status}"


def detail(visitor: Visitor) -> str:
    """Detail is shown to who holds the key, to nobody else, and is no older than it should be."""
    _is_shut(visitor, "/health/detailed")
    told = visitor.read("/health/detailed", key=True, statuses=(200, 503))
    checks = {name: entries[0] for name, entries in told["checks"].items()}
    if not checks:
        raise SmokeError("/health/detailed: no checks are known; does a worker run, and beat?")
    unknown = sorted(name for name, check in checks.items() if check["status"] == "unknown")
    if len(unknown) == len(checks):
        raise SmokeError("/health/detailed: every check is unknown; does a worker run, and beat?")
    counts = Counter(check["status"] for check in checks.values())
    return f"{len(checks)} checks: {_counts(counts)}" + (f" ({', '.join(unknown)})" if unknown else "")


def metrics(visitor: Visitor) -> str:
    """Prometheus gets its series, out of every source."""
    _is_shut(visitor, "/metrics")
    answer = visitor.ask("/metrics", key=True)
    visitor.expect(answer, "/metrics", 200)
    lines = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    if not any(line.startswith(_NEWEST) for line in lines):
        raise SmokeError(f"/metrics: no {_NEWEST}: these are not Regrow's")
    lost = [line for line in lines if line.startswith("regrow_scrape_errors") and not line.endswith(" 0.0")]
    if lost:
        sources = ", ".join(line.partition('source="')[2].partition('"')[0] for line in lost)
        raise SmokeError(f"/metrics: these could not be read: {sources}")
    return f"{len(lines)} series"


def breaker(visitor: Visitor) -> str:
    """Breakers are told, and their switch is reached by who holds the key alone.

    A reset is asked for by a name that nobody uses: it goes the whole way to the store, and changes nothing.
    """
    told = visitor.read("/health/circuit-breakers", key=True)
    strange = sorted(name for name, one in told.items() if one["state"] not in BREAKER_STATES)
    if strange:
        raise SmokeError(f"/health/circuit-breakers: no state of a breaker: {', '.join(strange)}")
    switch = f"/reliability/circuit-breaker/regrow-smoke-{secrets.token_hex(8)}/reset"
    without = visitor.ask(switch, method="POST")
    visitor.expect(without, "a reset without a key", 401, 403)
    visitor.expect(visitor.ask(switch, key=True, method="POST"), "a reset of no breaker", 404)
    opened = sorted(name for name, one in told.items() if one["state"] == "open")
    which = f" ({', '.join(opened)})" if opened else ""
    return f"{len(told)} breakers, {len(opened)} open{which}; the switch answers"


def uptime(visitor: Visitor) -> str:
    """So many requests, one after the other at a steady pace, and nearly all of them answered."""
    target = visitor.target
    pause = 1 / target.rate if target.rate else 0.0
    began = time.monotonic()
    lock = threading.Lock()
    failures: Counter[str] = Counter()
    took: list[float] = []

    def one(number: int) -> None:
        time.sleep(max(0.0, began + number * pause - time.monotonic()))
        asked = time.monotonic()
        try:
            status = visitor.ask(target.path).status_code
            why = None if status < 500 else f"answered {status}"
        except SmokeError as error:
            why = str(error).removeprefix(f"{target.path}: ")
        with lock:
            took.append(time.monotonic() - asked)
            if why is not None:
                failures[why] += 1

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(one, range(target.requests)))
    failed = failures.total()
    # The share of whole requests: 1 of 1,000 may fail, 2 may not.
    told = (
        f"{target.requests - failed} of {target.requests} answered "
        f"({math.floor((1 - failed / target.requests) * 1e5) / 1e3:g} %), "
        f"half within {_at(took, 0.5):.0f} ms, 99 % within {_at(took, 0.99):.0f} ms"
    )
    if failed > (1 - target.share) * target.requests + 1e-9:
        why = ", ".join(f"{number} x {reason}" for reason, number in failures.most_common(3))
        raise SmokeError(f"{told}; wanted {target.share:.3%}: {why}")
    return told


TESTS: Mapping[str, Callable[[Visitor], str]] = {
    "health": health,
    "detail": detail,
    "metrics": metrics,
    "breaker": breaker,
    "uptime": uptime,
}


def run(visitor: Visitor, test: str) -> Verdict:
    """One test by name."""
    began = time.monotonic()
    try:
        ok, told = True, TESTS[test](visitor)
    except SmokeError as error:
        ok, told = False, str(error)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        ok, told = False, f"an answer has another form than Regrow's ({type(error).__name__}: {error})"
    return Verdict(test, ok, told, time.monotonic() - began)


def _is_shut(visitor: Visitor, path: str) -> None:
    """Nobody without a key sees detail."""
    visitor.expect(visitor.ask(path), f"{path} without a key", 401, 403)


def _at(took: list[float], share: float) -> float:
    ordered = sorted(took)
    return 1000 * ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))


def _flat(told: Any) -> str:
    return (
        ", ".join(f"{name} {state}" for name, state in told.items())
        if isinstance(told, dict)
        else "no detail"
    )
