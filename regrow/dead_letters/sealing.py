"""Sealing: AES-256-GCM, each letter under a key of its own, bound to its place.

    key-encryption key (a secret file) -> wraps data keys (one a service and subject) -> letter keys, derived

Pure: keys in, bytes out. What was sealed for one letter and field opens nowhere else.
"""

from __future__ import annotations

import binascii
import hmac
import secrets
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regrow.errors import RegrowError

KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"


class SealBrokenError(RegrowError):
    """What was sealed cannot be opened: another key, another place, or it was changed."""


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def key_of_text(text: str) -> bytes:
    """The key that a secret file holds, as base64; ValueError when it holds none."""
    try:
        key = b64decode(text.strip().translate(str.maketrans("-_", "+/")), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"{len(key)} bytes instead of {KEY_BYTES}")
    return key


def text_of_key(key: bytes) -> str:
    return b64encode(key).decode("ascii")


def wrap(by: bytes, data_key_id: str, data_key: bytes) -> bytes:
    return _seal(AESGCM(by), data_key, f"data key {data_key_id}")


def unwrap(by: bytes, data_key_id: str, wrapped: bytes) -> bytes:
    """The data key; SealBrokenError when ``by`` is not what it was wrapped by."""
    return _open(AESGCM(by), wrapped, f"data key {data_key_id}")


def digest(key: bytes, kind: str, data: bytes) -> str:
    """An HMAC, so that nobody without the key can find out by guessing what was digested."""
    return f"hmac:{hmac.digest(key, kind.encode() + b':' + data, 'sha256').hex()}"


class Seal:
    """Seals and opens the fields of one letter."""

    def __init__(self, data_key: bytes, letter_id: str) -> None:
        # A key for each letter: random nonces never come near the number at which they repeat.
        self._cipher = AESGCM(hmac.digest(data_key, f"letter {letter_id}".encode(), "sha256"))
        self._letter_id = letter_id

    def seal(self, field: str, plain: bytes) -> bytes:
        return _seal(self._cipher, plain, f"{self._letter_id} {field}")

    def open(self, field: str, sealed: bytes) -> bytes:
        return _open(self._cipher, sealed, f"{self._letter_id} {field}")

    def seal_text(self, field: str, plain: str) -> str:
        return b64encode(self.seal(field, plain.encode("utf-8", "surrogatepass"))).decode("ascii")

    def open_text(self, field: str, sealed: str) -> str:
        try:
            return self.open(field, b64decode(sealed)).decode("utf-8", "surrogatepass")
        except binascii.Error as error:
            raise SealBrokenError from error


def _seal(cipher: AESGCM, plain: bytes, place: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _VERSION + nonce + cipher.encrypt(nonce, plain, place.encode())


def _open(cipher: AESGCM, sealed: bytes, place: str) -> bytes:
    nonce, text = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    if sealed[:1] != _VERSION or len(nonce) != _NONCE_BYTES:
        raise SealBrokenError
    try:
        return cipher.decrypt(nonce, text, place.encode())
    except InvalidTag as error:
        raise SealBrokenError from error
