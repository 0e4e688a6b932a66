"""What cannot be a letter becomes a file, or its sender keeps it: a full disk loses nothing and leaves no half file."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from regrow.dead_letters import unfiled
from regrow.errors import StoreUnavailableError


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond a kilobyte, as on a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, was)


def test_a_full_disk_is_an_outage_and_leaves_no_half_file(tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(StoreUnavailableError, match="make room"):
        unfiled.write(tmp_path, "event", {"body": "x" * 100_000}, ValueError("too large"))
    assert list((tmp_path / "unfiled").iterdir()) == []


def test_the_file_has_all_that_came_and_why_it_was_refused(tmp_path: Path) -> None:
    path = unfiled.write(tmp_path, "../event", {"body": "x"}, ValueError("too large"))
    assert path.parent == tmp_path / "unfiled"
    assert path.read_text() == '{"event_id": "../event", "refused": "too large", "payload": {"body": "x"}}'
    assert [file.name for file in path.parent.iterdir()] == [path.name]
