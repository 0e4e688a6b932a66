"""A notice as a line of the log."""

from __future__ import annotations

import structlog

from regrow.alerts.model import Notice
from regrow.alerts.wording import title

logger = structlog.get_logger("regrow.alerts")


def send(notice: Notice) -> None:
    body = notice.body
    tell = logger.info if notice.kind in {"resolved", "test"} else logger.warning
    tell(
        "alert.notice",
        kind=notice.kind,
        title=title(notice),
        alert=notice.alert,
        rule=body["rule"],
        subject=body["subject"],
        severity=body["severity"],
        targets=", ".join(body["targets"]),
    )
