"""What checks declare about each other, and what is refused about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow.arrows import circle_among
from regrow.settings import load_settings
from regrow.settings.checks import CHECK_KINDS
from tests.settings.test_errors import STORES, complaint

TWO = """
[health.checks.shop]
kind = "tcp"
host = "shop"
port = 80
depends_on = [{shop}]
[health.checks.mail]
kind = "tcp"
host = "mail"
port = 25
depends_on = [{mail}]
"""


def test_what_every_check_may_say_has_a_default_that_works(tmp_path: Path) -> None:
    check = load_settings(None, "production", {**STORES, "REGROW_HOME": str(tmp_path)}).health.checks["redis"]
    assert (check.failures, check.successes, check.severity) == (3, 2, "medium")
    assert (check.depends_on, check.maintenance, check.slo, check.labels) == ((), (), None, {})


def test_a_check_that_depends_on_nothing_that_is_there_is_refused(tmp_path: Path) -> None:
    told = complaint(tmp_path, TWO.format(shop='"database"', mail='"databse"'))
    assert told == (
        f"{tmp_path}/regrow.toml: health.checks.mail.depends_on names 'databse', which is no check. "
        "Did you mean database?"
    )


def test_a_circle_is_named_in_full(tmp_path: Path) -> None:
    told = complaint(tmp_path, TWO.format(shop='"database", "mail"', mail='"shop"'))
    assert told.startswith(f"{tmp_path}/regrow.toml: health.checks.shop.depends_on goes in a circle: ")
    assert "shop -> mail -> shop" in told
    assert "mail -> mail" in complaint(tmp_path, TWO.format(shop="", mail='"mail"'))


@pytest.mark.parametrize(
    ("arrows", "circle"),
    [
        ({}, []),
        ({"a": ["b"], "b": ["c"], "c": []}, []),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, []),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"]),
        ({"a": ["nobody"]}, []),
        ({str(n): [str(n + 1)] for n in range(2000)}, []),
    ],
)
def test_circles_are_found_and_only_circles(arrows: dict[str, list[str]], circle: list[str]) -> None:
    assert circle_among(arrows) == circle


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("failures = 0", "failures = 0: Input should be greater than or equal to 1"),
        ("severity = 'bad'", "severity = 'bad': Input should be 'critical', 'high', 'medium' or 'low'"),
        ("slo = 99.9", "slo = 99.9: Input should be less than 1"),
        ("depend_on = []", "depend_on is not a setting. Did you mean depends_on?"),
    ],
)
def test_a_wrong_common_key_is_told_with_file_key_and_reason(tmp_path: Path, line: str, said: str) -> None:
    told = complaint(tmp_path, f"[health.checks.redis]\nkind = 'redis'\n{line}\n")
    assert told.startswith(f"{tmp_path}/regrow.toml: health.checks.redis.{said}")


def test_every_kind_is_named_once() -> None:
    assert len(set(CHECK_KINDS)) == len(CHECK_KINDS) >= 11
