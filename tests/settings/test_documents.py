"""What people read about the settings is what the settings are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from regrow.settings import VARIABLES, Settings, load_settings
from regrow.settings.sources import PROFILES
from tests.settings import reference

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "regrow.toml"
SECRETS = {"SHOP_TOKEN": "t", "SHIPPING_KEY": "0123456789abcdef", "ORDERS_PASSWORD": "p"}
STORES = {"REGROW_REDIS_URL": "redis://redis/0", "REGROW_DATABASE_URL": "sqlite:///x"}


def uncommented() -> str:
    """The example with every commented line of TOML switched on; prose stays a comment."""
    line_of_toml = re.compile(r"# (\[.+\]|[a-z_]+ = .+)")
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.removeprefix("# ") if line_of_toml.match(line) else line for line in lines)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_example_as_it_stands_changes_nothing(tmp_path: Path, profile: str) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    assert load_settings(EXAMPLE, profile, STORES) == load_settings(empty, profile, STORES)


@pytest.mark.parametrize("profile", PROFILES)
def test_everything_in_the_example_works_once_it_is_switched_on(tmp_path: Path, profile: str) -> None:
    file = tmp_path / "regrow.toml"
    file.write_text(uncommented(), encoding="utf-8")
    settings = load_settings(file, profile, {**STORES, **SECRETS})
    assert {"shop", "mail"} <= set(settings.health.checks)
    assert settings.temp_files.roots[0].max_age == 86_400
    assert settings.dead_letters.routes["invoice"].queue == "billing"
    assert settings.breaker("payments").failure_threshold == 3
    assert len(tomllib.loads(uncommented())) >= 5


def test_the_page_holds_every_setting_as_it_is_now() -> None:
    text = reference.PAGE.read_text(encoding="utf-8")
    assert reference.page(text) == text, "write it anew: python -m tests.settings.reference"


def test_every_setting_says_what_it_means() -> None:
    text = reference.tables()
    assert not re.findall(r"^.*\|  \|$", text, re.MULTILINE)


def test_the_page_names_every_documented_variable() -> None:
    text = reference.PAGE.read_text(encoding="utf-8")
    assert [name for name in VARIABLES if f"`{name}`" not in text] == []


def test_every_section_has_its_table() -> None:
    text = reference.tables()
    assert [
        name for name in Settings.model_fields if f"`{name}`" not in text and f"`[{name}" not in text
    ] == []
