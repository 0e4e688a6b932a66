"""``python -m tests.web.picture [FILE]``: takes the picture of the overview that the README shows.

With a second argument, any word: the dark one. The fonts are those of the machine it is taken on.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from regrow.engine import Engine
from regrow.settings import load_settings
from regrow.web.app import create_app
from tests.servers import RedisServer
from tests.web import scene
from tests.web.browsing import chromium
from tests.web.serving import serving


def take(file: Path, scheme: str = "light", width: int = 1180) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer()
        try:
            engine = Engine(
                load_settings(
                    scene.settings_file(Path(folder)),
                    environ={
                        "REGROW_PROFILE": "development",
                        "REGROW_HOME": folder,
                        "REGROW_REDIS_URL": server.start().url,
                        "API_KEY": scene.KEY,
                    },
                )
            )
            engine.database.upgrade()
            scene.paint(engine)
            with serving(create_app(engine)) as address, chromium() as browser:
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.goto(address)
                page.screenshot(path=file, full_page=True)
            engine.close()
        finally:
            server.close()


if __name__ == "__main__":
    take(
        Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/overview.png"),
        sys.argv[2] if len(sys.argv) > 2 else "light",
        int(sys.argv[3]) if len(sys.argv) > 3 else 1180,
    )
