"""A channel that was dead for long: what is still so is told, what is past in a digest, and nothing is lost."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import timedelta

import pytest

from regrow.alerts import delivering, outbox, service
from regrow.alerts.folding import Waiting, fold
from regrow.alerts.model import Notice
from regrow.alerts.store import Alerts
from regrow.audit import Act
from tests.alerts.receivers import HttpReceiver
from tests.alerts.test_delivering import BODY, TWO
from tests.incidents.history import NOON

MINUTE = timedelta(minutes=1)


def waiting(number, alert, kind="firing"):
    return Waiting(number, alert, kind, NOON, {})


def folded(*rows, told=()):
    last = {row.alert: (row.id, row.kind) for row in rows}
    found = fold(rows, last, frozenset(told))
    return [row.id for row in found.over], [row.id for row in found.superseded]


def test_the_newest_of_what_is_still_so_stays_and_what_came_and_went_goes():
    rows = [
        waiting(1, "stands"),
        waiting(2, "went"),
        waiting(3, "stands", "escalation"),
        waiting(4, "went", "resolved"),
        waiting(5, "t", "test"),
    ]
    assert folded(*rows) == ([4], [1, 2, 5])


def test_an_end_stays_when_its_beginning_was_told_and_a_digest_is_never_folded():
    rows = [waiting(1, "a", "repeat"), waiting(2, "a", "resolved"), waiting(3, "d", "digest")]
    assert folded(*rows, told=["a"]) == ([], [1])


@pytest.fixture
def history(make_history, http, other_http, database_url):
    return make_history(TWO.format(one=http.url, two=other_http.url), database_url)


def say(alert, step, kind, at, channel="hook", severity="low"):
    body = {
        **BODY,
        "alert": alert,
        "kind": kind,
        "severity": severity,
        "at": at.isoformat(),
        "subject": f"check:{alert}",
    }
    return Notice(alert, step, channel, kind, at, body)


def a_day(alerts):
    """Alerts that come, are repeated and go, one a minute; the last one stands, and the first was told of."""
    for number in range(alerts):
        at, name = NOON + number * MINUTE, f"a{number:04}"
        severity = "critical" if number == 700 else "low"
        yield say(name, "1:0", "firing", at, severity=severity)
        yield say(name, "1:again:1", "repeat", at + MINUTE, severity=severity)
        if number < alerts - 1:
            yield say(name, "1:resolved", "resolved", at + 2 * MINUTE, severity=severity)


def enqueue(history, notices):
    Alerts(history.engine.database).enqueue(list(notices), Act("ann", "alert.tested", "x", "x", history.now))


def bodies(receiver: HttpReceiver):
    return [json.loads(body) for _path, _headers, body in receiver.got]


def test_after_a_dead_day_three_notices_tell_what_three_thousand_said(history, http, other_http):
    (first, *rest) = a_day(1000)
    enqueue(history, [first])
    delivering.deliver(history.engine)
    http.got.clear()
    http.status = 503
    history.clock.now += timedelta(days=1)
    enqueue(history, [*rest, say("b", "1:0", "firing", history.now, "other")])
    assert delivering.deliver(history.engine) == {"sent": 1, "put_off": 1, "refused": 0}
    assert len(other_http.got) == 1
    assert (
        service.waiting(history.engine)["hook"][0] == 3
    )  # the day is folded while the channel is still dead
    http.got.clear()
    http.status = 200
    history.clock.now += timedelta(hours=1)
    assert delivering.deliver(history.engine, seconds=100)["sent"] == 3
    end, stands, digest = bodies(http)
    assert (end["alert"], end["kind"]) == ("a0000", "resolved")
    assert (stands["alert"], stands["kind"]) == ("a0999", "repeat")
    assert digest["kinds"] == {"firing": 999, "repeat": 999, "resolved": 998}
    assert digest["went"] == 998
    assert digest["message"].startswith("2996 notices that waited: 998 alerts came and went")
    assert [one["alert"] for one in digest["named"]] == ["a0700", *(f"a{n:04}" for n in range(1, 20))]
    assert digest["severity"] == "critical"
    kept = Counter(one.status for one in service.notices(history.engine, limit=10_000))
    assert kept == {"folded": 2996, "sent": 5}
    (told,) = {one.error for one in service.notices(history.engine, "a0500")}
    assert told == f"told in digest {digest['alert']}"


def test_a_queue_that_is_not_long_is_told_one_by_one(history, http):
    enqueue(history, [say(f"a{n}", "1:0", "firing", NOON) for n in range(25)])
    enqueue(history, [say(f"a{n}", "1:resolved", "resolved", NOON) for n in range(25)])
    assert delivering.deliver(history.engine, seconds=100)["sent"] == 50


def test_later_notices_join_the_digest_that_waits_and_pauses_stay_long(history, http, monkeypatch):
    monkeypatch.setattr(outbox, "AT_ONCE", 7)
    http.status = 503
    for part in range(3):
        enqueue(history, [n for one in range(30) for n in (
            say(f"p{part}n{one}", "1:0", "firing", history.now),
            say(f"p{part}n{one}", "1:resolved", "resolved", history.now),
        )])  # fmt: skip
        delivering.deliver(history.engine)
        history.clock.now += timedelta(hours=1)
    (one,) = (sent for sent in service.notices(history.engine, limit=1000) if sent.status == "waiting")
    assert (one.notice.kind, one.notice.body["went"], one.attempts) == ("digest", 90, 3)
    assert sum(one.notice.body["kinds"].values()) == 180


def test_ten_slow_channels_hold_up_no_other(make_history, http, other_http, monkeypatch):
    slow = "".join(f'[alerts.channels.a{n}]\nkind = "webhook"\nurl = "{other_http.url}"\n' for n in range(10))
    names = ", ".join(f'"a{n}"' for n in range(10))
    toml = f'[alerts.severities.low]\nsteps = [{{ after = 0, channels = ["z", {names}] }}]\n{slow}'
    history = make_history(toml + f'[alerts.channels.z]\nkind = "webhook"\nurl = "{http.url}"\n')
    enqueue(
        history,
        [say("x", "1:0", "firing", NOON, channel) for channel in [*(f"a{n}" for n in range(10)), "z"]],
    )
    real = delivering.channels.send
    told = []

    def send(chosen, notice, now):
        if notice.channel != "z":  # each waits until the last of all was told
            until = time.monotonic() + 60
            while "z" not in told and time.monotonic() < until:
                time.sleep(0.005)
        real(chosen, notice, now)
        told.append(notice.channel)

    monkeypatch.setattr(delivering.channels, "send", send)
    assert delivering.deliver(history.engine, seconds=100)["sent"] == 11
    assert told[0] == "z"
