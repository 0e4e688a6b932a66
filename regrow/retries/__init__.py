"""Retries: a policy that decides as a value, and decorators that act on it."""

from __future__ import annotations

from regrow.retries.http import retry_http_requests
from regrow.retries.policy import RetryPolicy
from regrow.retries.service import retry

__all__ = ["RetryPolicy", "retry", "retry_http_requests"]
