"""What `import regrow` gives an application, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import regrow

HEAVY = ("celery", "kombu", "sqlalchemy", "alembic", "pydantic", "structlog", "httpx", "fastapi", "rich")


def loaded_after(code: str) -> set[str]:
    """The heavy modules that a fresh process has imported after ``code``."""
    tell = f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import regrow",
        "import regrow; regrow.CircuitBreaker('a').call(int)",
        "import regrow; regrow.configure(redis_url='redis://127.0.0.1:1'); regrow.get_circuit_breaker('a')",
        "import regrow; regrow.retry()(int)(); regrow.retry_http_requests()(int)(); regrow.RetryPolicy()",
        "import regrow; regrow.asgi.ReliabilityMiddleware(None, {'/a': 'a'}); regrow.wsgi, regrow.intake",
        "import regrow; regrow.CircuitOpenError, regrow.RegrowError, regrow.breakers, regrow.retries",
    ],
)
def test_breakers_and_retries_need_nothing_but_redis(code):
    assert loaded_after(code) == set()


def test_import_regrow_does_not_even_import_redis():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, regrow; print('redis' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_every_public_name_is_there():
    for name in regrow.__all__:
        assert getattr(regrow, name) is not None, name
    assert set(dir(regrow)) == set(regrow.__all__)
    assert "." in regrow.__version__


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"regrow.*no attribute 'breaker'"):
        _ = regrow.breaker


def test_a_redis_url_that_cannot_be_one_is_refused_where_it_is_given():
    with pytest.raises(regrow.SettingsError):
        regrow.configure(redis_url="http://example.org")


def test_breakers_made_before_configure_go_over_to_redis(redis_url):
    code = f"""
import time, regrow
breaker = regrow.CircuitBreaker("early", failure_threshold=1)
breaker.call(int)
regrow.configure(redis_url={redis_url!r})
try:
    breaker.call(int, "x")
except ValueError:
    pass
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    import redis

    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert regrow.breakers.show(client, "early").state == "open"
