from __future__ import annotations

from tests.breakers.conftest import make_reporter

__all__ = ["make_reporter"]
