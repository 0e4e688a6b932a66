"""Secrets of the container stack: made once, given to who needs them, never weak, never printed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from worker.container_secrets import NAMES, SecretRefusedError, choose, main, make, read

GIVEN = "of-the-operator-s-own"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_a_first_start_makes_every_secret_long_and_different(given: Path, into: Path) -> None:
    make(given, into)
    values = [read(into / "web")[name] for name in ("redis_password", "mysql_password", "api_key")]
    values.append(read(into / "mysql")["mysql_root_password"])
    assert len(set(values)) == len(NAMES)
    assert all(len(value) >= 43 for value in values), "256 bits each"


def test_a_second_start_changes_nothing(given: Path, into: Path) -> None:
    make(given, into)
    before = contents(into)
    assert make(given, into) == []
    assert contents(into) == before


def test_what_the_operator_gives_comes_first_even_later(given: Path, into: Path) -> None:
    make(given, into)
    before = contents(into)
    (given / "api_key").write_text(GIVEN + "\n")
    assert make(given, into) == ["web/api_key"]
    assert contents(into) == before | {"web/api_key": GIVEN}


def test_a_lost_volume_gets_the_passwords_back_that_another_one_has(given: Path, into: Path) -> None:
    make(given, into)
    before = contents(into)
    for file in (into / "mysql").iterdir():
        if file.name != "mysql_root_password":
            file.unlink()
    for file in (into / "worker").iterdir():
        file.unlink()
    make(given, into)
    assert contents(into) == before


def test_worker_and_web_get_the_same_passwords_and_only_web_the_key(given: Path, into: Path) -> None:
    make(given, into)
    worker, web = read(into / "worker"), read(into / "web")
    assert set(worker) == {"redis_password", "mysql_password"}
    assert web == worker | {"api_key": web["api_key"]}


def test_the_address_of_another_broker_is_passed_on_and_never_made_up(given: Path, into: Path) -> None:
    make(given, into)
    assert "celery_broker_url" not in read(into / "worker")
    (given / "celery_broker_url").write_text("amqps://regrow:password@rabbit.example/regrow\n")
    assert make(given, into) == ["worker/celery_broker_url", "web/celery_broker_url"]


def test_redis_gets_a_digest_and_never_the_password(given: Path, into: Path) -> None:
    make(given, into)
    password = read(into / "worker")["redis_password"]
    acl = (into / "redis" / "users.acl").read_text()
    assert password not in acl
    assert hashlib.sha256(password.encode()).hexdigest() in acl


def test_without_a_password_redis_answers_a_ping_and_nothing_else(given: Path, into: Path) -> None:
    make(given, into)
    users = dict(
        line.removeprefix("user ").split(" ", 1)
        for line in (into / "redis" / "users.acl").read_text().splitlines()
    )
    assert users["default"] == "off resetpass ~* &* +@all", "the append-only file is replayed with its rights"
    assert users["health"] == "on nopass -@all +ping"
    assert "nopass" not in users["regrow"]


@pytest.mark.parametrize(
    "weak",
    [
        "short",
        "two lines of text\nare not one",
        "pässword-pässword",
        "tab\tin the middle of it",
        "a space inside it",
        "quoted'inside-of-it",
        "back\\slash-in-it",
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_by_name_and_not_shown(weak: str) -> None:
    with pytest.raises(SecretRefusedError, match="secrets/api_key") as refused:
        choose({"api_key": weak}, {}, lambda: "x" * 43)
    assert weak not in str(refused.value)


def test_nobody_but_its_owner_can_read_a_secret(given: Path, into: Path) -> None:
    make(given, into)
    modes = {name: (into / name).stat().st_mode & 0o777 for name in contents(into)}
    assert modes.pop("redis/users.acl") == 0o444
    assert set(modes.values()) == {0o400}


def test_no_secret_is_printed(given: Path, into: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(given), str(into)]) == 0
    said = "".join(capsys.readouterr())
    values = {value for folder in ("web", "mysql") for value in read(into / folder).values()}
    assert not [value for value in values if value in said]
    assert "written" in said


def test_a_refused_secret_stops_the_start(
    given: Path, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (given / "redis_password").write_text("weak")
    assert main([str(given), str(into)]) == 1
    assert "secrets/redis_password" in capsys.readouterr().err
    assert contents(into) == {}
