"""The web process takes a changed regrow.toml up by itself, and says where a file is not in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow.engine import Engine
from regrow.settings import load_settings
from regrow.settings.reloading import Reloader
from tests.waiting import eventually
from tests.web.conftest import KEY, MakeClient

CHECK = '[health.checks.shop]\nkind = "tcp"\nhost = "127.0.0.1"\nport = 1\n'


def test_the_detail_shows_new_checks_and_why_a_bad_file_is_not_in_force(
    make_client: MakeClient,
    redis_url: str,
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("regrow.web.app.EVERY", 0.05)
    monkeypatch.setattr("regrow.settings.reloading.EVERY", 0.0)
    monkeypatch.setattr("regrow.settings.reloading.SETTLED", 0.0)
    file = tmp_path / "regrow.toml"
    file.write_text("")
    environ = {
        "REGROW_PROFILE": "development",
        "REGROW_CONFIG": str(file),
        "REGROW_REDIS_URL": redis_url,
        "REGROW_DATABASE_URL": sqlite_url,
        "API_KEY": KEY,
    }
    engine = Engine(
        load_settings(environ=environ), reloader=Reloader(lambda: load_settings(environ=environ), file)
    )
    client = make_client(engine=engine)
    client.headers["X-API-Key"] = KEY

    def write(text: str) -> None:
        # Whole, or this very process could be caught between emptying and writing.
        (tmp_path / "fresh").write_text(text)
        (tmp_path / "fresh").replace(file)

    def detail(name: str) -> dict[str, object]:
        found: dict[str, object] = client.get("/health/detailed").json()[name]
        return found

    assert "shop" not in detail("checks")
    assert detail("settings") == {}
    write(CHECK)
    eventually(lambda: "shop" in detail("checks"))
    refresh, defects = engine.refresh, []

    def defect() -> None:
        defects.append(1)
        if len(defects) < 3:
            raise ZeroDivisionError  # told in the log; it goes on looking
        refresh()

    monkeypatch.setattr(engine, "refresh", defect)
    write(CHECK + "interval = -1\n")
    told = eventually(lambda: detail("settings"))
    (standing,) = told.values()
    assert f"{file}: health.checks.shop.interval = -1" in str(standing)
    assert "shop" in detail("checks")
    engine.close()
