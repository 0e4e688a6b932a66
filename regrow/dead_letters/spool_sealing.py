"""Spool entries sealed to Regrow's public key: an app can write them, only Regrow's workers can read them.

X25519 with a fresh key for each entry, HKDF-SHA256, AES-256-GCM. The app holds no secret: who takes its disk
finds nothing to open its spool with. Pure; needs ``cryptography`` only where something is sealed or opened.
"""

from __future__ import annotations

import binascii
import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping

from regrow.errors import KeyUnavailableError, LetterRefusedError, SettingsError

_MAGIC = b"\x00regrow sealed 1\x00"  # no plain entry begins so: those are JSON
_MARK, _KEY, _NONCE = 8, 32, 12
_PREFIX = "x25519:"


def new_pair() -> tuple[bytes, str]:
    """A private key, and the public key as apps are told it."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.generate()
    return private.private_bytes_raw(), text_of_public(private.public_key().public_bytes_raw())


def text_of_public(public: bytes) -> str:
    return f"{_PREFIX}{b64encode(public).decode('ascii')}"


def public_of_text(text: str) -> bytes:
    """The public key that an app was told; SettingsError when it is none, or cannot be used here."""
    try:
        import cryptography  # noqa: F401 - said now, not when the first failure is to be kept
    except ImportError as error:
        raise SettingsError(
            "a spool key is set (REGROW_SPOOL_KEY), and sealing needs the package cryptography, which is not "
            "installed here: pip install 'regrow[sealing]'"
        ) from error
    try:
        public = b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        public = b""
    if not text.strip().startswith(_PREFIX) or len(public) != _KEY:
        raise SettingsError(
            "the spool key (REGROW_SPOOL_KEY) is no public key: it should read x25519:..., as "
            "`regrow dead-letters new-key --spool` prints it"
        )
    return public


def seal(public: bytes, entry: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    fresh = X25519PrivateKey.generate()
    ours = fresh.public_key().public_bytes_raw()
    key = _key(fresh.exchange(X25519PublicKey.from_public_bytes(public)), ours, public)
    head, nonce = _MAGIC + mark_of(public) + ours, secrets.token_bytes(_NONCE)
    return head + nonce + AESGCM(key).encrypt(nonce, entry, head)


def is_sealed(entry: bytes) -> bool:
    return entry.startswith(_MAGIC)


def opened(privates: Mapping[bytes, bytes], entry: bytes) -> bytes:
    """The entry before it was sealed; a plain one as it is. ``privates``: by the mark of the public key.

    KeyUnavailableError: its key is not here; later, then. LetterRefusedError: it is not as it was sealed.
    """
    if not is_sealed(entry):
        return entry
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    start = len(_MAGIC)
    mark, start = entry[start : start + _MARK], start + _MARK
    theirs, start = entry[start : start + _KEY], start + _KEY
    nonce, text = entry[start : start + _NONCE], entry[start + _NONCE :]
    if mark not in privates:
        raise KeyUnavailableError(
            f"a spool entry is sealed to the public key with the mark {mark.hex()}, and no file of "
            "[dead_letters.spool_keys] holds its private key: add it. The entries wait meanwhile."
        )
    private = X25519PrivateKey.from_private_bytes(privates[mark])
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(theirs))
        key = _key(shared, theirs, private.public_key().public_bytes_raw())
        return AESGCM(key).decrypt(nonce, text, entry[:start])
    except (InvalidTag, ValueError) as error:
        raise LetterRefusedError("a sealed spool entry is not as it was sealed") from error


def mark_of(public: bytes) -> bytes:
    """By what an entry names the key it is sealed to."""
    return hashlib.sha256(public).digest()[:_MARK]


def mark_of_private(private: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return mark_of(X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def _key(shared: bytes, fresh: bytes, public: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, salt=None, info=b"regrow spool 1" + fresh + public).derive(shared)
