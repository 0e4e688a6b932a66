"""What several kinds of check judge alike: how long an answer took, how long a certificate lasts.

A probe collects remarks; its verdict is the worst of them and says all that are not well.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from regrow.health.rules import Finding, Status, finding, worst

DAY = 86_400.0


@dataclass(frozen=True)
class Remark:
    """One thing that was looked at, and what it is like."""

    status: Status
    message: str


class Timed(Protocol):
    @property
    def slow(self) -> float | None: ...
    @property
    def too_slow(self) -> float | None: ...


class Certified(Protocol):
    @property
    def certificate_warning(self) -> float: ...
    @property
    def certificate_critical(self) -> float: ...


def concluded(said: str, remarks: Iterable[Remark], **data: Any) -> Finding:
    """The finding over all remarks. ``said``: what it says when all is well, and first when it is not."""
    made = list(remarks)
    bad = [remark.message for remark in made if remark.status != "healthy"]
    status = worst([remark.status for remark in made] or ["healthy"])
    return finding(status, "; ".join([said, *bad]), **data)


def slowness(check: Timed, seconds: float) -> Iterable[Remark]:
    """A remark when the answer took too long, in seconds."""
    for limit, status in ((check.too_slow, "unhealthy"), (check.slow, "degraded")):
        if limit is not None and seconds > limit:
            yield Remark(status, f"it took {seconds:.2f} s, slower than {limit:g} s")  # type: ignore[arg-type]
            return


def lasting(check: Certified, ends_at: float, now: float) -> Iterable[Remark]:
    """A remark when the certificate that ends at ``ends_at`` (epoch seconds) ends soon."""
    days = (ends_at - now) / DAY
    if days < 0:
        yield Remark("unhealthy", f"its certificate ended {-days:.1f} days ago")
    elif days < check.certificate_critical:
        yield Remark("unhealthy", f"its certificate ends in {days:.1f} days")
    elif days < check.certificate_warning:
        yield Remark("degraded", f"its certificate ends in {days:.1f} days")


def end_of(connection: ssl.SSLSocket | ssl.SSLObject) -> float | None:
    """When the peer's certificate ends, in epoch seconds; None when it was not asked for one."""
    ends = (connection.getpeercert() or {}).get("notAfter")
    return ssl.cert_time_to_seconds(str(ends)) if ends else None


def trusting(ca_bundle: Path | None) -> ssl.SSLContext:
    """A context that trusts the system's certificates, and those of the file."""
    context = ssl.create_default_context()
    if ca_bundle is not None:
        context.load_verify_locations(ca_bundle)
    return context
