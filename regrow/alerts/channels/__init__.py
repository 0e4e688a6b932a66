"""The ways by which notices go out: one module a kind, each with ``send``.

A notice that could not be told raises :class:`ChannelAwayError` and is tried again; one that the receiver
will never take raises :class:`NoticeRefusedError`. Neither message holds an address or a key.
"""

from __future__ import annotations

from datetime import datetime

from regrow.alerts.channels import apprise, email, log, pagerduty, slack, webhook
from regrow.alerts.channels.errors import ChannelAwayError, NoticeRefusedError
from regrow.alerts.model import Notice
from regrow.settings.alerts import (
    AppriseChannel,
    ChannelSettings,
    EmailChannel,
    LogChannel,
    PagerDutyChannel,
    SlackChannel,
)

__all__ = ["ChannelAwayError", "NoticeRefusedError", "send"]


def send(chosen: ChannelSettings, notice: Notice, now: datetime) -> None:
    """Tell it; returns when the receiver has it."""
    if isinstance(chosen, LogChannel):
        log.send(notice)
    elif isinstance(chosen, SlackChannel):
        slack.send(chosen, notice)
    elif isinstance(chosen, EmailChannel):
        email.send(chosen, notice, now)
    elif isinstance(chosen, PagerDutyChannel):
        pagerduty.send(chosen, notice)
    elif isinstance(chosen, AppriseChannel):
        apprise.send(chosen, notice)
    else:
        webhook.send(chosen, notice, now)
