"""Takes the pictures of the pages that README and docs show: ``python -m tests.web.picture``.

Options: ``--only slos``, ``--scheme dark``, ``--width 390``, ``--whole`` (to the page's end), ``--to FOLDER``. The
fonts are those of the machine they are taken on; ``pngquant``, where installed, makes the files small.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from regrow.engine import Engine
from regrow.settings import load_settings
from regrow.web.app import create_app
from tests.servers import RedisServer
from tests.web import scene
from tests.web.browsing import chromium
from tests.web.serving import serving


@contextmanager
def on_stage() -> Iterator[Engine]:
    """An engine on stores of its own that hold the scene."""
    server = RedisServer()
    with tempfile.TemporaryDirectory() as folder:
        try:
            environ = {
                "REGROW_PROFILE": "development",
                "REGROW_HOME": folder,
                "REGROW_REDIS_URL": server.start().url,
                "API_KEY": scene.KEY,
            }
            engine = Engine(load_settings(scene.settings_file(Path(folder)), environ=environ))
            engine.database.upgrade()
            scene.paint(engine)
            yield engine
            engine.close()
        finally:
            server.close()


PICTURES = {
    "overview": ("/", ".incidents"),
    "slos": ("/slos", ".slos > tbody > tr:nth-child(8)"),
    "incidents": ("/incidents", ".incidents"),
    "incident": ("/incidents/incident-1", ".sheet >> nth=1"),
    "alerts": ("/alerts", ".sheet >> nth=1"),
}
"""Each with its page, and what it ends below."""


def take(folder: Path, names: Iterable[str], scheme: str, width: int, *, whole: bool) -> None:
    """Write the pictures, ``NAME.png``; ``whole``: to the ends of their pages."""
    with on_stage() as engine, serving(create_app(engine)) as address, chromium() as browser:
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, device_scale_factor=1.5
        )
        for name in names:
            path, last = PICTURES[name]
            page.goto(address + path)
            box = page.locator(last).first.bounding_box()
            assert box is not None, f"{path} shows no {last}"
            clip = (
                None if whole else {"x": 0, "y": 0, "width": width, "height": 28 + box["y"] + box["height"]}
            )
            file = folder / f"{name}.png"
            page.screenshot(path=file, full_page=True, clip=clip)
            if smaller := shutil.which("pngquant"):
                subprocess.run([smaller, "--force", "--output", str(file), "128", str(file)], check=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--to", type=Path, default=Path("docs/images"))
    options.add_argument("--only", choices=PICTURES, action="append")
    options.add_argument("--scheme", choices=("light", "dark"), default="light")
    options.add_argument("--width", type=int, default=1180)
    options.add_argument("--whole", action="store_true")
    chosen = options.parse_args()
    take(chosen.to, chosen.only or PICTURES, chosen.scheme, chosen.width, whole=chosen.whole)
