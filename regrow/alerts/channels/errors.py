"""What may become of a notice that was not told."""

from __future__ import annotations

from regrow.errors import RegrowError


class ChannelAwayError(RegrowError):
    """The channel did not take the notice now; it is tried again."""


class NoticeRefusedError(RegrowError):
    """The receiver is well and will never take this notice."""
