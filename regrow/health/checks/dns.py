"""DNS: whether a name has the records it should have, asked of the system's servers or of those given."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from dns import exception, resolver, reversename
from dns.name import Name

from regrow.health.checks import conditions
from regrow.health.checks.conditions import Remark, concluded
from regrow.health.rules import Finding, finding
from regrow.settings import Settings
from regrow.settings.checks import DnsCheck

_SHOWN = 10


def probe(check: DnsCheck, settings: Settings) -> Finding:
    del settings
    asked = resolver.Resolver(configure=not check.nameservers)
    if check.nameservers:
        asked.nameservers = list(check.nameservers)
    asked.port = check.port
    what = f"{check.name} {check.record}"
    bound = 0.9 * check.timeout
    # One silent server of several must not use up the whole time.
    asked.timeout = bound / max(2, len(asked.nameservers))
    began = time.monotonic()
    try:
        answers = asked.resolve(_name(check), check.record, lifetime=bound, search=False)
    except resolver.NXDOMAIN:
        return finding("unhealthy", f"{what}: there is no such name", record=check.record)
    except resolver.NoAnswer:
        return finding("unhealthy", f"{what}: the name has no such record", record=check.record)
    except exception.Timeout:
        return finding("unhealthy", f"{what}: no answer within {bound:.1f} s", record=check.record)
    except resolver.NoNameservers:
        return finding("unhealthy", f"{what}: every server refused or failed", record=check.record)
    found = sorted(answer.to_text() for answer in answers)
    return verdict(check, found, time.monotonic() - began)


def verdict(check: DnsCheck, found: Collection[str], seconds: float) -> Finding:
    """``found``: the answers as ``dig +short`` prints them."""
    shown = list(found)[:_SHOWN]
    remarks = [*_missing(check, found), *conditions.slowness(check, seconds)]
    said = f"{check.name} {check.record}: {', '.join(shown)}"
    return concluded(said, remarks, record=check.record, answers=shown)


def _missing(check: DnsCheck, found: Collection[str]) -> Iterable[Remark]:
    there = {_plain(answer) for answer in found}
    wanted = {_plain(answer): answer for answer in check.expect}
    if missing := [answer for plain, answer in wanted.items() if plain not in there]:
        yield Remark("unhealthy", f"expected {', '.join(missing)} too")
    others = [answer for answer in found if _plain(answer) not in wanted]
    if check.exactly and others:
        yield Remark("unhealthy", f"not expected: {', '.join(others[:_SHOWN])}")


def _plain(answer: str) -> str:
    """Names are equal in any case, with or without the dot at their end; texts with or without quotes."""
    return answer.lower().rstrip(".") if not answer.startswith('"') else answer.strip('"')


def _name(check: DnsCheck) -> Name | str:
    if check.record == "PTR" and not check.name.rstrip(".").endswith(".arpa"):
        return reversename.from_address(check.name)
    return check.name
