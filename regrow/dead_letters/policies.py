"""What the settings say about failures: which class an error is of, and how long to go on with a letter."""

from __future__ import annotations

from functools import lru_cache

from regrow.dead_letters import classes, rules
from regrow.dead_letters.classes import Cause
from regrow.failures import FailureClass
from regrow.retries import RetryPolicy
from regrow.settings import DeadLetterSettings


def redrive_policy(chosen: DeadLetterSettings, max_retries: int) -> RetryPolicy:
    """When a letter is due again: exponential, half of each delay random, so that a crowd spreads out."""
    return _policy(max_retries, chosen.base_delay, chosen.max_delay)


@lru_cache(maxsize=256)  # a batch asks for the same few, letter by letter
def _policy(max_retries: int, base_delay: float, max_delay: float) -> RetryPolicy:
    return RetryPolicy(
        max_retries=max_retries,
        base_delay=base_delay,
        max_delay=max_delay,
        strategy="exponential",
        jitter="equal",
    )


def patience(chosen: DeadLetterSettings, max_retries: int) -> rules.Patience:
    """How long to go on with a letter that may have ``max_retries`` redrives."""
    return rules.Patience(redrive_policy(chosen, max_retries), chosen.min_age, chosen.patience)


def class_of(chosen: DeadLetterSettings, cause: Cause) -> FailureClass:
    return classes.classify(cause, chosen.classes)


def redrives_of(chosen: DeadLetterSettings, asked: int | None, cause: FailureClass) -> int:
    """How many redrives a new letter may have: what its capture said, else what its class is worth."""
    if asked is not None:
        return asked
    few = cause in {FailureClass.UNKNOWN, FailureClass.POISON}
    return min(chosen.max_retries, chosen.unknown_retries) if few else chosen.max_retries
