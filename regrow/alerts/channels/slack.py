"""A notice to an incoming webhook of Slack. The address is the secret, so no error shows it."""

from __future__ import annotations

import json

from regrow.alerts.channels.posting import post
from regrow.alerts.model import Notice
from regrow.alerts.wording import lines, title
from regrow.settings.alerts import SlackChannel

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def send(chosen: SlackChannel, notice: Notice) -> None:
    """``<`` and its like are escaped: no text of others may ring everybody (``<!channel>``)."""
    said = "\n".join([title(notice), *lines(notice)[1:]]).translate(_ESCAPES)
    content = json.dumps({"text": said, "mrkdwn": False}).encode()
    url = chosen.url.get_secret_value()
    post("Slack", url, content, {"Content-Type": "application/json"}, chosen.timeout)
