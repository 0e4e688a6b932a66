"""The container files as data: these tests need no engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def interpolated(text: str) -> str:
    """The text as compose reads it when no variable is set: ``${NAME:-default}`` is its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="session")
def compose() -> Any:
    return yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def dockerfile() -> list[tuple[str, str]]:
    """The instructions in order, each with its continued lines joined: ``("RUN", "pip install ...")``."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(word.upper(), rest) for line in lines if line.strip() for word, _, rest in [line.partition(" ")]]


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
