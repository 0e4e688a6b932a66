"""``python -m regrow.monitoring FOLDER``: what the tree ships, made out of the defaults alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from regrow.monitoring import grafana, prometheus
from regrow.settings import Settings, load_settings


def shipped() -> dict[str, str]:
    """Every file by its path below ``config/``."""
    told = {f"grafana/dashboards/{name}": text for name, text in grafana.files().items()}
    return {"prometheus/rules.yml": prometheus.rules_file(_defaults()), **told}


def _defaults() -> Settings:
    """The shipped settings. The servers are named because they must be; nobody asks them."""
    named = {"REGROW_REDIS_URL": "redis://redis/0", "REGROW_DATABASE_URL": "sqlite:///regrow.sqlite3"}
    return load_settings(Path(os.devnull), "production", named)


def main(folder: Path) -> None:
    for name, text in shipped().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
