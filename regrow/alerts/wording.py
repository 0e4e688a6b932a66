"""A notice in words: a title, lines of text, JSON. Pure rules; texts of others stay on one line."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from regrow.alerts.folding import summary
from regrow.alerts.model import Notice

_LONGEST = 1_000


def title(notice: Notice) -> str:
    """``[critical] incident check:db: db is down``, with what kind of word it is, unless the first."""
    body = notice.body
    word = {
        "escalation": "not acknowledged: ",
        "repeat": "still: ",
        "flapping": "flapping: ",
        "resolved": "resolved: ",
        "test": "test: ",
        "digest": "digest: ",
    }.get(notice.kind, "")
    subject = "" if body["subject"] in {"", "*"} else f" {body['subject']}"
    return plain(f"[{body['severity']}] {word}{body['rule']}{subject}: {body['message']}", 200)


def lines(notice: Notice) -> list[str]:
    """What there is to tell, a fact a line."""
    body = notice.body
    told = [plain(body["message"])]
    if notice.kind == "digest":
        return [*told, *map(plain, summary(body)), f"since: {_moment(body['since'])}"]
    if body.get("others"):
        told.append(f"and {body['others']} more of the same")
    told += [f"rule: {body['rule']}", f"of: {plain(body['subject'])}", f"severity: {body['severity']}"]
    told.append(f"since: {_moment(body['since'])}")
    told.append(f"told at: {_moment(body['at'])}")
    if body.get("targets"):
        told.append(f"for: {plain(', '.join(body['targets']))}")
    if notice.kind in {"firing", "escalation"}:
        told.append(f"answer within: {_within(body['response_time'])}")
    if body.get("incident"):
        told.append(f"incident: {body['incident']}")
    told.append(f"alert: {body['alert']}")
    if notice.kind not in {"resolved", "test"}:
        told.append(f"acknowledge: regrow alerts acknowledge {body['alert']}")
    return told


def text(notice: Notice) -> str:
    return "\n".join(lines(notice))


def as_json(notice: Notice) -> Mapping[str, Any]:
    """What a webhook gets."""
    return {"title": title(notice), "channel": notice.channel, "key": key(notice), **notice.body}


def key(notice: Notice) -> str:
    """What names a notice for good: one that comes twice bears the same."""
    return f"{notice.alert}:{notice.step}:{notice.channel}"


def plain(text: object, longest: int = _LONGEST) -> str:
    """On one line, without what could drive a terminal or a header, of bounded length."""
    line = " ".join("".join(_seen(letter) for letter in str(text)).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _seen(letter: str) -> str:
    return " " if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} else letter


def _moment(told: str) -> str:
    return f"{datetime.fromisoformat(told):%Y-%m-%d %H:%M:%S} UTC"


def _within(seconds: float) -> str:
    if seconds <= 0:
        return "at once"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
