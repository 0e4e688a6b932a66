"""Recovery: what is down is mended by the handler that its service declares, within an envelope.

A recovery function of an application takes one :class:`Recovery`.
"""

from __future__ import annotations

from regrow.recovery.model import Recovery

__all__ = ["Recovery"]
