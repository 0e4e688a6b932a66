"""DNS against a server of our own that knows some names, refuses some and is silent on others."""

from __future__ import annotations

import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from regrow.health.checks import probe_of
from regrow.settings.checks import DnsCheck
from tests.settings.test_errors import complaint

ZONE = {
    ("shop.example.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("shop.example.", "TXT"): ['"v=spf1 -all"'],
    ("shop.example.", "MX"): ["10 Mail.Example."],
    ("1.2.0.192.in-addr.arpa.", "PTR"): ["shop.example."],
}


@pytest.fixture(scope="module")
def port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1]


def _serve(server):
    while True:
        try:
            wire, peer = server.recvfrom(4096)
        except OSError:
            return
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        if name.startswith("silent"):
            continue
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if name.startswith("refused"):
            answer.set_rcode(dns.rcode.REFUSED)
        elif (name, kind) in ZONE:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *ZONE[name, kind]))
        elif not any(known == name for known, _ in ZONE):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        server.sendto(answer.to_wire(), peer)


@pytest.fixture
def ask(port, make_settings):
    def ask(name, record="A", **declared):
        given = {"nameservers": ["127.0.0.1"], "port": port, "timeout": 1.0, **declared}
        return probe_of(
            DnsCheck.model_validate({"kind": "dns", "name": name, "record": record, **given}), make_settings()
        )()

    return ask


def test_a_name_with_its_records_is_healthy(ask):
    found = ask("shop.example")
    assert (found.status, found.data["answers"]) == ("healthy", ["192.0.2.1", "192.0.2.2"])


@pytest.mark.parametrize(
    ("record", "expect", "exactly", "status"),
    [
        ("A", ["192.0.2.1"], False, "healthy"),
        ("A", ["192.0.2.1"], True, "unhealthy"),
        ("A", ["192.0.2.2", "192.0.2.1"], True, "healthy"),
        ("A", ["192.0.2.9"], False, "unhealthy"),
        ("TXT", ["v=spf1 -all"], True, "healthy"),
        ("MX", ["10 mail.example"], True, "healthy"),
    ],
)
def test_the_expected_answers_must_be_among_them(ask, record, expect, exactly, status):
    assert ask("shop.example", record, expect=expect, exactly=exactly).status == status


def test_an_address_is_asked_for_its_name(ask):
    assert ask("192.0.2.1", "PTR", expect=["shop.example"]).status == "healthy"


@pytest.mark.parametrize(
    ("name", "record", "said"),
    [
        ("gone.example", "A", "there is no such name"),
        ("shop.example", "AAAA", "the name has no such record"),
        ("refused.example", "A", "every server refused or failed"),
        ("silent.example", "A", "no answer within 0.9 s"),
    ],
)
def test_what_is_wrong_is_told(ask, name, record, said):
    found = ask(name, record)
    assert (found.status, found.message) == ("unhealthy", f"{name} {record}: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nameservers = ['dns.example']", "does not appear to be an IPv4 or IPv6 address"),
        ("record = 'ANY'", "record = 'ANY': Input should be 'A', 'AAAA'"),
        ("name = 'a..b'", "this is no name of the DNS"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path, line, said):
    name = "" if line.startswith("name =") else "name = 'shop.example'\n"
    told = complaint(tmp_path, f"[health.checks.x]\nkind = 'dns'\n{name}{line}\n")
    assert told.startswith(f"{tmp_path}/regrow.toml: health.checks.x.")
    assert said in told
