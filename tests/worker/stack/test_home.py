from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from regrow.settings.sources import read_stack_env
from worker.stack import home as home_module
from worker.stack.errors import AlreadyRunningError, StackError
from worker.stack.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "var")
    made.prepare()
    return made


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_the_api_key_is_made_once_and_kept(home: Home) -> None:
    key = home.api_key()
    assert len(key) >= 32
    assert Home(home.path).api_key() == key
    assert mode(home.path / "api_key") == 0o600


def test_an_emptied_api_key_is_made_anew(home: Home) -> None:
    (home.path / "api_key").write_text("\n")
    assert len(home.api_key()) >= 32


def test_stack_env_is_private_read_back_by_the_settings_and_withdrawn(home: Home) -> None:
    home.publish({"REGROW_REDIS_URL": "redis://:pw@127.0.0.1:1/0", "API_KEY": "k"})
    assert mode(home.stack_env) == 0o600
    assert read_stack_env(home.path) == {"REGROW_REDIS_URL": "redis://:pw@127.0.0.1:1/0", "API_KEY": "k"}
    home.withdraw()
    home.withdraw()
    assert read_stack_env(home.path) == {}


def test_nobody_else_can_look_into_the_state_folder(home: Home) -> None:
    assert mode(home.path) == 0o700


def test_a_second_supervisor_is_refused_and_told_pid_and_page(home: Home) -> None:
    with home.locked():
        home.note_holder("http://127.0.0.1:8000")
        told = rf"already running on {home.path}: supervisor pid {os.getpid()}, its page is http://127.0.0.1:8000"
        with pytest.raises(AlreadyRunningError, match=told), Home(home.path).locked():
            pass


def test_the_lock_is_free_again_after_its_holder_was_killed(home: Home) -> None:
    code = "import sys, os; from pathlib import Path; from worker.stack.home import Home\n"
    code += "with Home(Path(sys.argv[1])).locked(): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(home.path)], check=False)
    assert json.loads((home.path / "stack.lock").read_text())["pid"] != os.getpid()
    with home.locked():
        pass


def test_a_state_folder_that_cannot_be_made_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StackError, match=r"file/var: cannot make its folders: Not a directory\. .*REGROW_HOME"
    ):
        Home(tmp_path / "file" / "var").prepare()


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "ROOM_NEEDED", 2**62)
    with pytest.raises(StackError, match=r"the disk of .* is full: .* MiB are free.* REGROW_HOME"):
        Home(tmp_path).prepare()


def test_a_disk_that_fills_up_while_writing_asks_for_room(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(home_module, "write_private", full)
    with pytest.raises(StackError, match=r"cannot write stack\.env: No space left on device\. Make room"):
        home.publish({})
