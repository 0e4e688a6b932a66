"""The key-encryption keys of this process, out of the secret files that ``[dead_letters.keys]`` names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from regrow.dead_letters import sealing, spool_sealing
from regrow.dead_letters.sealing import SealBrokenError
from regrow.engine import Engine
from regrow.errors import KeyUnavailableError, SettingsError
from regrow.settings import Settings

_spool_keys: WeakKeyDictionary[Engine, Mapping[bytes, bytes]] = WeakKeyDictionary()
_rings: WeakKeyDictionary[Engine, KeyRing | None] = WeakKeyDictionary()


@dataclass(frozen=True)
class KeyRing:
    """Keys by id; the first one, ``current``, wraps what is new."""

    keys: Mapping[str, bytes] = field(repr=False)
    current: str

    def wrap(self, data_key_id: str, data_key: bytes) -> bytes:
        return sealing.wrap(self.keys[self.current], data_key_id, data_key)

    def unwrap(self, data_key_id: str, key_id: str, wrapped: bytes) -> bytes:
        """The data key; KeyUnavailableError names the key that is missing or wrong."""
        if key_id not in self.keys:
            raise missing(key_id)
        try:
            return sealing.unwrap(self.keys[key_id], data_key_id, wrapped)
        except SealBrokenError as error:
            raise KeyUnavailableError(
                f"the file of key {key_id!r} in [dead_letters.keys] does not hold the key that letters were "
                "sealed with: put the right file back. Nothing is lost meanwhile."
            ) from error


def ring(engine: Engine) -> KeyRing | None:
    """This process's keys, read once; None: no key is set. KeyUnavailableError: a file is not usable."""
    if engine not in _rings:
        try:
            _rings[engine] = load(engine.settings)
        except SettingsError as error:
            raise KeyUnavailableError(str(error)) from error
    return _rings[engine]


def load(settings: Settings) -> KeyRing | None:
    """Read the key files; SettingsError names the one that is not usable."""
    keys = _read("keys", settings.dead_letters.keys, "new-key")
    return KeyRing(keys, next(iter(keys))) if keys else None


def spool_keys(engine: Engine) -> Mapping[bytes, bytes]:
    """The private keys that open sealed spools, by their marks; KeyUnavailableError: a file is not usable."""
    if engine not in _spool_keys:
        try:
            _spool_keys[engine] = load_spool_keys(engine.settings)
        except SettingsError as error:
            raise KeyUnavailableError(str(error)) from error
    return _spool_keys[engine]


def load_spool_keys(settings: Settings) -> Mapping[bytes, bytes]:
    """Read the private keys; SettingsError names the file that is not usable."""
    keys = _read("spool_keys", settings.dead_letters.spool_keys, "new-key --spool")
    return {spool_sealing.mark_of_private(key): key for key in keys.values()}


def _read(setting: str, files: Mapping[str, Path], how: str) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for key_id, file in files.items():
        try:
            keys[key_id] = sealing.key_of_text(file.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds no key"
            raise SettingsError(
                f"dead_letters.{setting}.{key_id}: {file}: {reason}. The file must hold 32 bytes as base64, "
                f"as `regrow dead-letters {how}` prints them."
            ) from None
    return keys


def missing(key_id: str) -> KeyUnavailableError:
    return KeyUnavailableError(
        f"key {key_id!r} is not in [dead_letters.keys], and letters are sealed with it: add its file again "
        "(behind the current key), at least until `regrow dead-letters rotate-keys` has finished"
    )
