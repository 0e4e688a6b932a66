"""The wheel ships the library alone, with everything it needs at run time beside its code."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_regrow_and_its_data_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"regrow"}
    for needed in (
        "regrow/py.typed",
        "regrow/defaults.toml",
        "regrow/breakers/breaker.lua",
        "regrow/database/migrations/script.py.mako",
        "regrow/web/templates/overview.html",
    ):
        assert needed in names, needed
    assert any(name.startswith("regrow/web/static/") for name in names)
    assert any(name.startswith("regrow/database/migrations/versions/0001") for name in names)
