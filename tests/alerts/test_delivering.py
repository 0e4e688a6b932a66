"""Notices go out by real channels: in order, at least once, none lost, none held up by another's outage."""

from __future__ import annotations

import json
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.alerts import channels, delivering, service
from regrow.alerts.channels import ChannelAwayError, NoticeRefusedError
from regrow.alerts.model import Notice
from regrow.alerts.store import Alerts
from regrow.audit import Act
from regrow.database.tables import alert_notices, audit
from regrow.dead_letters import signature
from regrow.errors import SettingsError
from regrow.settings.alerts import (
    AppriseChannel,
    EmailChannel,
    PagerDutyChannel,
    SlackChannel,
    WebhookChannel,
)
from tests.incidents.history import NOON

KEY = "a signing key of the test"

BODY = {
    "alert": "a1",
    "rule": "incident",
    "subject": "check:db",
    "severity": "critical",
    "kind": "firing",
    "message": "db is down <!channel>\r\nBcc: all@example.org",
    "since": NOON.isoformat(),
    "at": NOON.isoformat(),
    "incident": "i1",
    "targets": ["on-call engineer"],
    "step": 0,
    "response_time": 0,
    "others": 2,
}


def notice(channel="hook", step="1:0", kind="firing", alert="a1"):
    return Notice(alert, step, channel, kind, NOON, {**BODY, "alert": alert, "kind": kind})


def test_a_webhook_is_signed_and_says_who_it_is(http):
    chosen = WebhookChannel(
        kind="webhook", url=f"{http.url}/in", signing_keys=(KEY,), headers={"X-Team": "night"}
    )
    channels.send(chosen, notice(), NOON)
    ((path, headers, body),) = http.got
    assert (path, headers["x-team"], headers["idempotency-key"]) == ("/in", "night", "a1:1:0:hook")
    assert signature.verify(headers[signature.HEADER.lower()], body, [KEY], NOON.timestamp())
    assert json.loads(body)["subject"] == "check:db"


def test_slack_rings_nobody_for_what_others_wrote(http):
    channels.send(SlackChannel(kind="slack", url=f"{http.url}/s"), notice(), NOON)
    text = json.loads(http.got[0][2])["text"]
    assert "&lt;!channel&gt;" in text
    assert "on-call engineer" in text
    assert "and 2 more" in text


def test_pagerduty_gets_a_trigger_and_its_end_under_one_key(http):
    chosen = PagerDutyChannel(kind="pagerduty", routing_key="R0UT1NG", url=f"{http.url}/v2/enqueue")
    channels.send(chosen, notice(), NOON)
    channels.send(chosen, notice(kind="resolved"), NOON)
    first, last = (json.loads(body) for _, _, body in http.got)
    assert (first["event_action"], first["dedup_key"], first["routing_key"]) == ("trigger", "a1", "R0UT1NG")
    assert (first["payload"]["severity"], first["payload"]["component"]) == ("critical", "check:db")
    assert (last["event_action"], last["dedup_key"]) == ("resolve", "a1")


def test_a_mail_is_one_of_a_conversation_and_no_text_becomes_a_header(mail):
    chosen = EmailChannel(
        kind="email",
        host="127.0.0.1",
        port=mail.port,
        security="none",
        sender="regrow@example.org",
        to=("ann@example.org", "bob@example.org"),
    )
    channels.send(chosen, notice(), NOON)
    ((to, sent),) = mail.mails
    assert to == ["ann@example.org", "bob@example.org"]
    assert sent["Message-ID"] == "<a1.1.0.hook@example.org>"
    assert sent["Bcc"] is None
    assert sent["Subject"].startswith("[critical] incident check:db: db is down")
    assert "acknowledge: regrow alerts acknowledge a1" in sent.get_content()
    mail.refuse = b"550 nobody here"
    with pytest.raises(NoticeRefusedError, match="550"):
        channels.send(chosen, notice(), NOON)
    mail.refuse = b"451 later"
    with pytest.raises(ChannelAwayError, match="451"):
        channels.send(chosen, notice(), NOON)
    mail.close()
    with pytest.raises(ChannelAwayError, match="ConnectionRefusedError"):
        channels.send(chosen, notice(), NOON)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, ChannelAwayError),
        (404, ChannelAwayError),
        (429, ChannelAwayError),
        (503, ChannelAwayError),
        (400, NoticeRefusedError),
    ],
)
def test_answers_mean_what_they_mean_and_no_redirect_is_followed(http, status, error):
    http.status = status
    with pytest.raises(error) as raised:
        channels.send(SlackChannel(kind="slack", url=f"{http.url}/secret"), notice(), NOON)
    assert "secret" not in str(raised.value)
    assert len(http.got) == 1


def test_apprise_tells_all_of_its_addresses_and_shows_none(monkeypatch):
    told = []

    class Apprise:
        def add(self, url):
            return url.startswith("json://")

        def notify(self, **what):
            told.append(what)
            return len(told) == 1

    module = types.ModuleType("apprise")
    module.Apprise = Apprise
    monkeypatch.setitem(sys.modules, "apprise", module)
    chosen = AppriseChannel(kind="apprise", urls=("json://token@host",))
    channels.send(chosen, notice(), NOON)
    assert told[0]["notify_type"] == "failure"
    with pytest.raises(ChannelAwayError, match="could not tell"):
        channels.send(chosen, notice(), NOON)
    with pytest.raises(ChannelAwayError, match=r"address 1$"):
        channels.send(AppriseChannel(kind="apprise", urls="nonsense://token"), notice(), NOON)
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ChannelAwayError, match="not installed"):
        channels.send(chosen, notice(), NOON)


TWO = """
[alerts.severities.low]
steps = [{{ after = 0, channels = ["hook", "other"] }}]

[alerts.channels.hook]
kind = "webhook"
url = "{one}"

[alerts.channels.other]
kind = "webhook"
url = "{two}"
"""


@pytest.fixture
def history(make_history, http, other_http):
    return make_history(TWO.format(one=http.url, two=other_http.url))


def enqueue(history, *notices):
    Alerts(history.engine.database).enqueue(notices, Act("ann", "alert.tested", "x", "x", history.now))


def statuses(history, channel):
    found = service.notices(history.engine)
    return [(one.notice.step, one.status) for one in reversed(found) if one.notice.channel == channel]


def steps(receiver):
    return [headers["idempotency-key"] for _, headers, _ in receiver.got]


def test_a_dead_channel_delays_loses_nothing_keeps_its_order_and_holds_up_no_other(history, http, other_http):
    http.status = 503
    enqueue(
        history, *(notice(channel, f"1:{number}") for number in range(3) for channel in ("hook", "other"))
    )
    assert delivering.deliver(history.engine) == {"sent": 3, "put_off": 1, "refused": 0}
    assert delivering.deliver(history.engine)["put_off"] == 0
    assert len(http.got) == 1
    for seconds in (15, 30, 60):
        history.clock.now += timedelta(seconds=seconds)
        assert delivering.deliver(history.engine)["put_off"] == 1
    history.clock.now += timedelta(days=3)
    assert delivering.deliver(history.engine)["put_off"] == 1
    http.status = 200
    http.got.clear()
    history.clock.now += timedelta(seconds=900)
    assert delivering.deliver(history.engine) == {"sent": 3, "put_off": 0, "refused": 0}
    assert steps(http) == [f"a1:1:{number}:hook" for number in range(3)]
    assert len(other_http.got) == 3


def test_a_notice_that_is_refused_for_good_holds_up_none_behind_it(history, http):
    http.status = 400
    enqueue(history, notice(step="1:0"))
    assert delivering.deliver(history.engine)["refused"] == 1
    http.status = 200
    enqueue(history, notice(step="1:1"))
    delivering.deliver(history.engine)
    assert statuses(history, "hook") == [("1:0", "refused"), ("1:1", "sent")]


def test_two_workers_at_once_tell_each_thing_once(make_history, http, other_http, database_url):
    history = make_history(TWO.format(one=http.url, two=other_http.url), database_url)
    enqueue(history, *(notice(step=f"1:{number}") for number in range(12)))
    start = threading.Barrier(3)

    def work():
        start.wait()
        delivering.deliver(history.engine, seconds=100)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for _ in range(3)]:
            done.result(60)
    delivering.deliver(history.engine, seconds=100)
    assert steps(http) == [f"a1:1:{number}:hook" for number in range(12)]


def test_what_a_dead_worker_had_taken_is_told_by_another_when_its_lease_is_over(history, http):
    enqueue(history, notice())
    store = Alerts(history.engine.database)
    taken = store.take("hook", history.now, history.now + timedelta(seconds=60), "dead")
    assert taken is not None
    delivering.deliver(history.engine)
    assert http.got == []
    history.clock.now += timedelta(seconds=61)
    delivering.deliver(history.engine)
    assert len(http.got) == 1
    assert not store.settle(taken, "sent", history.now)


def test_a_channel_that_is_off_or_gone_keeps_what_waits(make_history, http, other_http):
    history = make_history(TWO.format(one=http.url, two=other_http.url) + "enabled = false\n")
    enqueue(history, notice("other"), notice("forgotten"))
    assert delivering.deliver(history.engine) == {"sent": 0, "put_off": 1, "refused": 0}
    assert other_http.got == []
    assert service.waiting(history.engine).keys() == {"other", "forgotten"}


def test_a_test_goes_by_every_channel_and_is_audited(history, http, other_http):
    told = service.send_test(history.engine, actor="ann")
    assert {(one.notice.channel, one.status) for one in told} == {
        ("hook", "sent"),
        ("log", "sent"),
        ("other", "sent"),
    }
    assert len(http.got) == len(other_http.got) == 1
    with history.engine.database.snapshot() as connection:
        assert connection.execute(sa.select(audit.c.act)).scalars().all() == ["alert.tested"]
        assert len(connection.execute(sa.select(alert_notices)).all()) == 3


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[alerts.channels.x]\nkind = "slack"\nurl = "http://hooks.example.org/x"\n', "Use https"),
        (
            '[alerts.channels.x]\nkind = "email"\nhost = "m.example.org"\nsecurity = "none"\nsender = "a@b.c"\nto = ["b@b.c"]',
            "starttls or tls",
        ),
        ('[alerts.severities.low]\nsteps = [{ after = 0, channels = ["pager"] }]\n', "is no channel"),
        (
            "[alerts.severities.low]\nsteps = [{ after = 9, channels = [] }, { after = 1, channels = [] }]\n",
            "in order",
        ),
        ("[alerts]\nlease = 5\n", "four times"),
        ('[alerts.channels.x]\nkind = "webhook"\nurl = "https://example.org/x"\n', "nobody would be told"),
        ('[alerts.channels.x]\nkind = "slack"\nurl = "https://hooks.example.org/x"\n', "is a secret"),
        ('[alerts.channels.x]\nkind = "apprise"\nurls = ["json://a"]\n', "is a secret"),
    ],
)
def test_channels_that_are_not_safe_or_not_there_are_refused(make_history, toml, said):
    with pytest.raises(SettingsError, match=said):
        make_history(toml)
