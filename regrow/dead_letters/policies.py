"""When a letter is due again, from the settings."""

from __future__ import annotations

from regrow.retries import RetryPolicy
from regrow.settings import DeadLetterSettings


def redrive_policy(chosen: DeadLetterSettings, max_retries: int) -> RetryPolicy:
    """When a letter is due again: exponential, half of each delay random, so that a crowd spreads out."""
    return RetryPolicy(
        max_retries=max_retries,
        base_delay=chosen.base_delay,
        max_delay=chosen.max_delay,
        strategy="exponential",
        jitter="equal",
    )
