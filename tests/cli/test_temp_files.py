"""`regrow temp-files` on real folders, with a file that another process holds open."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regrow.engine import Engine, set_engine
from tests.cli.conftest import Cli


@pytest.fixture
def root(tmp_path: Path, make_settings: Callable[..., object], redis_url: str) -> Iterator[Path]:
    folder = tmp_path / "root"
    folder.mkdir()
    for name in ("old.tmp", "held.tmp", "young.tmp"):
        file = folder / name
        file.write_bytes(b"x" * 1000)
        if name != "young.tmp":
            os.utime(file, (time.time() - 7200,) * 2)
    roots = json.dumps([{"path": str(folder), "max_age": 3600}])
    engine = Engine(make_settings(redis_url, REGROW_TEMP_FILES__ROOTS=roots))  # type: ignore[arg-type]
    set_engine(engine)
    yield folder
    set_engine(None)
    engine.close()


@pytest.fixture
def held(root: Path) -> Iterator[None]:
    script = "import sys; held = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(root / "held.tmp")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    yield
    holder.communicate()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("held")
def test_scan_and_a_dry_run_say_what_would_go_and_clean_removes_it_after_a_yes(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for arguments in (("scan",), ("clean", "--dry-run")):
        found = cli("temp-files", *arguments, "--json")
        assert (found.code, found.json["removed"], found.json["freed_bytes"]) == (0, 1, 1000)
        kept = found.json["roots"][0]["kept"]
        # Where some process cannot be looked into, the young one "may be open".
        assert (kept["open"], sum(kept.values())) == (1, 2)
    assert "WOULD GO" in cli("temp-files", "scan").out
    refused = cli("temp-files", "clean")
    assert refused.code == 1
    assert "--yes" in refused.err
    assert names(root) == {"old.tmp", "held.tmp", "young.tmp"}, "so far nothing has gone"
    done = cli("temp-files", "clean", "--yes", "--root", str(root))
    assert done.code == 0
    assert names(root) == {"held.tmp", "young.tmp"}


def test_a_folder_that_is_not_declared_is_never_touched(cli: Cli, root: Path) -> None:
    refused = cli("temp-files", "clean", "--yes", "--root", str(root.parent))
    assert refused.code == 1
    assert "not among temp_files.roots" in refused.err
    assert len(names(root)) == 3
