"""Mail over TLS to a real server with a certificate of our own, and Apprise's own library to a real receiver."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from regrow.alerts import channels
from regrow.alerts.channels import ChannelAwayError
from regrow.settings.alerts import AppriseChannel, EmailChannel
from tests.alerts.receivers import HttpReceiver, MailReceiver
from tests.alerts.test_delivering import notice
from tests.health.certificates import certificate, serving
from tests.incidents.history import NOON

PASSWORD = "hunter2-and-more"


@contextmanager
def receiving(file: Path, security: str) -> Iterator[MailReceiver]:
    receiver = MailReceiver(**{security: serving(file)})
    try:
        yield receiver
    finally:
        receiver.close()


def channel(receiver: MailReceiver, security: str, ca_bundle: Path | None, host: str = "127.0.0.1"):
    return EmailChannel(
        kind="email", host=host, port=receiver.port, security=security, ca_bundle=ca_bundle,
        user="ann", password=PASSWORD, sender="regrow@example.org", to=("ann@example.org",), timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_mail_goes_sealed_to_a_server_that_somebody_vouches_for(tmp_path, security):
    file = certificate(tmp_path, 30)
    with receiving(file, security) as receiver:
        channels.send(channel(receiver, security, file), notice(), NOON)
    ((to, mail),) = receiver.mails
    assert (to, mail["From"]) == (["ann@example.org"], "regrow@example.org")
    assert receiver.signed_in == [f"\0ann\0{PASSWORD}"]
    assert [line[:4].upper() for line in receiver.heard] == ([] if security == "tls" else [b"EHLO", b"STAR"])


@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize(
    ("trusted", "days", "host", "why"),
    [
        (False, 30, "127.0.0.1", "self.signed certificate"),
        (True, -1, "127.0.0.1", "certificate has expired"),
        (True, 30, "localhost", "Hostname mismatch"),
    ],
)
def test_nothing_is_told_to_a_server_whose_certificate_does_not_hold(
    tmp_path, caplog, capsys, security, trusted, days, host, why
):
    file = certificate(tmp_path, days)
    with receiving(file, security) as receiver:
        chosen = channel(receiver, security, file if trusted else None, host)
        with caplog.at_level(logging.DEBUG), pytest.raises(ChannelAwayError) as raised:
            channels.send(chosen, notice(), NOON)
    assert re.search(why, str(raised.value))
    assert "ca_bundle" in str(raised.value)
    assert (receiver.mails, receiver.signed_in) == ([], [])
    assert PASSWORD not in str(raised.value) + caplog.text + "".join(capsys.readouterr())


def test_a_server_without_starttls_gets_neither_password_nor_mail(tmp_path, mail):
    with pytest.raises(ChannelAwayError, match="offers no STARTTLS"):
        channels.send(channel(mail, "starttls", None), notice(), NOON)
    assert (mail.mails, mail.signed_in) == ([], [])
    assert [line[:4].upper() for line in mail.heard if not line.startswith(b"QUIT")] == [b"EHLO"]


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_named(tmp_path, mail, text):
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ChannelAwayError, match=r"ca\.pem cannot be read"):
        channels.send(channel(mail, "starttls", file), notice(), NOON)


def test_apprise_itself_tells_a_receiver_and_logs_no_address(http: HttpReceiver, caplog, capsys):
    address = http.url.replace("http://", "json://")
    chosen = AppriseChannel(kind="apprise", urls=(f"{address}/t0p-s3cr3t",))
    http.status = 200
    with caplog.at_level(logging.DEBUG):
        channels.send(chosen, notice(), NOON)
        ((path, _headers, body),) = http.got
        told = json.loads(body)
        assert path.rstrip("/") == "/t0p-s3cr3t"
        assert (told["type"], told["title"].split(":")[0]) == ("failure", "[critical] incident check")
        channels.send(chosen, notice(kind="resolved"), NOON)
        assert json.loads(http.got[1][2])["type"] == "success"
        http.status = 503
        with pytest.raises(ChannelAwayError, match="could not tell") as raised:
            channels.send(chosen, notice(), NOON)
        with pytest.raises(ChannelAwayError, match=r"address 1$"):
            channels.send(AppriseChannel(kind="apprise", urls=("nonsense://t0p-s3cr3t",)), notice(), NOON)
    assert "s3cr3t" not in caplog.text + str(raised.value) + "".join(capsys.readouterr())
