"""What can keep the local stack from running. Each message names the cause and a remedy."""

from __future__ import annotations

from regrow.errors import RegrowError


class StackError(RegrowError):
    """The local stack cannot run."""


class AlreadyRunningError(StackError):
    """Another supervisor runs on this state folder."""


class StopRequested(BaseException):
    """Someone asked the supervisor to stop while it was waiting for something."""
