"""The secrets of the container stack: made once, before anything that needs them starts.

    python -m worker.container_secrets GIVEN INTO

A fresh clone has no passwords, and a password that stands in a repository is none. So the compose file's
first service runs this: what lies in GIVEN (the host's ``./secrets``, one file a secret) is taken, what an
earlier start has left in INTO is kept, and only what is then still missing is made up.

INTO has one folder for each group of containers, each a volume of its own, so that each container sees what
it uses and nothing else:

* ``worker`` (worker and beat): ``redis_password``, ``mysql_password``
* ``web``: the same and ``api_key``
* both: ``celery_broker_url``, if one was given (RabbitMQ); it is never made up
* ``worker``: ``dead_letters_key`` and ``dead_letters_key_before``, if given; they are never made up
* ``mysql``: ``mysql_root_password``, ``mysql_password``, ``client.cnf`` for health checks and backups
* ``redis``: ``users.acl``, which holds a digest only

Running it again changes nothing, unless a file in GIVEN has changed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES = ("redis_password", "mysql_password", "mysql_root_password", "api_key")
OPTIONAL = ("celery_broker_url",)
LETTER_KEYS = ("dead_letters_key", "dead_letters_key_before")
"""What dead letters are sealed with, if given; never made up, because losing one loses what it sealed."""
SHORTEST = 12
"""Characters a given secret must have; those made here have 43, which is 256 bits."""
UNUSABLE = frozenset(" '\"`\\")
"""Characters that the start-up scripts of database images do not quote."""

ROOT = 0
REGROW = 10001
"""The numeric user of the image; the Dockerfile says so too."""


class SecretRefusedError(Exception):
    """A given secret cannot be used."""


@dataclass(frozen=True)
class SecretFile:
    """One file to write: where, what, who owns it, who may read it."""

    folder: str
    name: str
    text: str
    owner: int
    mode: int = 0o400


def choose(given: Mapping[str, str], kept: Mapping[str, str], invent: Callable[[], str]) -> Mapping[str, str]:
    """The value of every secret: given by the operator, else kept from before, else made up or left out."""
    for name, value in given.items():
        if not _is_usable(value):
            raise SecretRefusedError(
                f"secrets/{name}: a secret is one line of at least {SHORTEST} printable ASCII characters, "
                "without spaces, quotes and backslashes. Correct the file, or remove it to have one made."
            )
    known = {**kept, **given}
    return {**{name: invent() for name in NAMES if name not in known}, **known}


def _is_usable(value: str) -> bool:
    plain = value.isascii() and value.isprintable() and UNUSABLE.isdisjoint(value)
    return plain and len(value) >= SHORTEST


def files(values: Mapping[str, str]) -> Iterator[SecretFile]:
    """Every file to write, for these values."""
    for folder in ("worker", "web"):
        for name in ("redis_password", "mysql_password", *OPTIONAL):
            if name in values:
                yield SecretFile(folder, name, values[name], REGROW)
    for name in LETTER_KEYS:
        if name in values:
            yield SecretFile("worker", name, values[name], REGROW)
    yield SecretFile("web", "api_key", values["api_key"], REGROW)
    for name in ("mysql_root_password", "mysql_password"):
        yield SecretFile("mysql", name, values[name], ROOT)
    client = _client_cnf(values["mysql_password"], values["mysql_root_password"])
    yield SecretFile("mysql", "client.cnf", client, ROOT)
    # Readable by all in its container: the server's numeric user differs from image to image.
    yield SecretFile("redis", "users.acl", _users_acl(values["redis_password"]), ROOT, 0o444)


def _client_cnf(password: str, root_password: str) -> str:
    """For the health check; and with ``--defaults-group-suffix=root`` for backups and repairs."""
    return (
        f'[client]\nhost=127.0.0.1\nuser=regrow\npassword="{password}"\n'
        f'[clientroot]\nhost=localhost\nuser=root\npassword="{root_password}"\n'
    )


def _users_acl(password: str) -> str:
    """Nobody without a password, but for a health check that can PING and nothing else.

    Nobody can log in as ``default``, which is off; but Redis replays its append-only file with that user's
    rights, and without them drops every transaction in it.
    """
    digest = hashlib.sha256(password.encode()).hexdigest()
    return (
        "user default off resetpass ~* &* +@all\n"
        "user health on nopass -@all +ping\n"
        f"user regrow on #{digest} ~* &* +@all -@admin -@dangerous +info\n"
    )


def read(folder: Path) -> dict[str, str]:
    """The secrets that lie in ``folder``, by name, without the line end an editor leaves."""
    paths = ((name, folder / name) for name in (*NAMES, *OPTIONAL, *LETTER_KEYS))
    found = {name: path.read_text(encoding="utf-8").rstrip("\r\n") for name, path in paths if path.is_file()}
    return {name: value for name, value in found.items() if value}


def write(into: Path, file: SecretFile) -> bool:
    """Put the file in its place, whole or not at all; False when it was there already."""
    folder = into / file.folder
    folder.mkdir(mode=0o755, exist_ok=True)
    path = folder / file.name
    if path.is_file() and path.read_text(encoding="utf-8") == file.text:
        return False
    fresh = folder / f".{file.name}.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(file.text)
        stream.flush()
        os.fchmod(descriptor, file.mode)  # before it is given away: afterwards it is not ours to change
        if os.geteuid() == ROOT:
            os.fchown(descriptor, file.owner, file.owner)
        os.fsync(descriptor)
    fresh.replace(path)
    return True


def make(given: Path, into: Path) -> list[str]:
    """Write what is missing or has changed; the names of the files written, never their contents."""
    kept: dict[str, str] = {}
    for folder in ("worker", "web", "mysql"):
        kept |= read(into / folder)
    values = choose(read(given), kept, lambda: secrets.token_urlsafe(32))
    return [f"{file.folder}/{file.name}" for file in files(values) if write(into, file)]


def main(arguments: list[str]) -> int:
    given, into = (Path(argument) for argument in arguments)
    try:
        written = make(given, into)
    except (SecretRefusedError, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"secrets: {', '.join(written) + ' written' if written else 'all there, none changed'}\n"
    )
    sys.stdout.write("The key of the page: docker compose exec web cat /run/secrets/api_key\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
