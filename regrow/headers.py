"""Headers of messages that more than one noun knows."""

from __future__ import annotations

SENT_AT = "regrow-sent"
"""When a message was sent, in epoch seconds: by it a check of its queue tells how long it has waited."""
