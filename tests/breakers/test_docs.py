"""The examples in the guides run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import eventually

DOCS = Path(__file__).parents[2] / "docs"


def test_the_five_minute_guide_keeps_its_word(redis_url, tmp_path):
    text, *_ = re.findall(
        r"^```py\n(.*?)^```", (DOCS / "breakers.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    shop = tmp_path / "shop.py"
    shop.write_text(text, "utf-8")
    terminals = []

    def start(*arguments):
        log = (tmp_path / f"terminal-{len(terminals)}").open("w+")
        terminals.append(
            subprocess.Popen(
                [sys.executable, str(shop), *arguments],
                env={**os.environ, "REGROW_REDIS_URL": redis_url},
                stdout=log,
                stderr=log,
            )
        )
        return Path(log.name)

    try:
        well = start()
        eventually(lambda: "charged" in well.read_text("utf-8"), 20)
        down = start("--down")
        for said in (down, well):
            eventually(
                lambda said=said: re.search(r"not called; try again in \d+ s", said.read_text("utf-8")), 20
            )
        assert "the bank" not in well.read_text("utf-8"), "it has seen no failure"
        assert down.read_text("utf-8").count("the bank does not answer") < 10
    finally:
        for terminal in terminals:
            terminal.kill()
            terminal.wait()


@pytest.mark.parametrize("page", ["breakers.md", "retries.md", "middleware.md"])
def test_the_examples_of_a_page_run_in_order(page, redis_url):
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        env={**os.environ, "REGROW_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search("charged 10|2.0|0\nTrue", done.stdout)
