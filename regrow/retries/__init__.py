"""Retries: a policy that decides as a value, a budget that pays for them, and the forms that act on both."""

from __future__ import annotations

from regrow.retries.attempts import Attempt, Attempts, attempts
from regrow.retries.budget import RetryBudget
from regrow.retries.http import retry_http_requests
from regrow.retries.policy import RetryPolicy
from regrow.retries.service import retry

__all__ = ["Attempt", "Attempts", "RetryBudget", "RetryPolicy", "attempts", "retry", "retry_http_requests"]
