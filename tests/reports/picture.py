"""Takes the pictures of a report that docs/reports.md shows: ``python -m tests.reports.picture``.

The fonts are those of the machine it is taken on; ``pngquant``, where installed, makes the files small.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from regrow.reports.model import text_of
from regrow.reports.render_html import html
from regrow.reports.store import digest_of
from tests.reports.scene import shown
from tests.web.browsing import chromium

HEIGHT = 925
"""Pixels from the top: uptime and objectives."""


def take(folder: Path) -> None:
    """Write ``report-light.png`` and ``report-dark.png``."""
    report = shown()
    text = html(report, digest_of(text_of(report)))
    with chromium() as browser:
        for scheme in ("light", "dark"):
            file = folder / f"report-{scheme}.png"
            page = browser.new_page(viewport={"width": 1080, "height": HEIGHT}, color_scheme=scheme)
            page.set_content(text)
            page.screenshot(path=file)
            if smaller := shutil.which("pngquant"):
                subprocess.run([smaller, "--force", "--output", str(file), "64", str(file)], check=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--to", type=Path, default=Path("docs/images"))
    take(options.parse_args().to)
