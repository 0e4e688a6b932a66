"""What people are shown of a message: secrets hidden, and what cannot be read surely, withheld. Pure.

It fails closed: bytes that are no text, JSON that does not parse, and what nests too deep are not shown.
A secret that has no telling name and no telling form (a positional argument, say) cannot be known as one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

HIDDEN = "***"
WORDS = (
    "password", "passwd", "passphrase", "secret", "token", "api_key", "access_key", "private_key",
    "credential", "authorization", "cookie", "session", "signature", "card_number", "cvv", "cvc", "iban",
    "social_security",
)  # fmt: skip
"""Parts of names whose values are hidden, where nothing else is configured."""

_URL = re.compile(r"://[^/\s@]*@")
_SCHEME = re.compile(r"(?i)\b(bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{6,}")
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?")
_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_HEADER = re.compile(r"(?im)((?:authorization|cookie)[\"']?\s{0,3}[:=]\s{0,3}[\"']?)[^\"'\r\n]+")
_DIGITS = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
# A value after a telling name: quoted (perhaps escaped), quoted and cut off, or up to the next separator.
_VALUE = r"(?:(?P<quote>\\{0,4}[\"']).*?(?P=quote)|\\{0,4}[\"'][^\r\n]*|[^\s,;&)}\]]+)"
_JSON_TYPES = re.compile(r"application/(?:[\w.+-]+\+)?json\b", re.IGNORECASE)
_TEXT_TYPES = re.compile(r"(?:text/|application/x-www-form-urlencoded\b)", re.IGNORECASE)


class Redactor:
    """Hides by names (``words``: parts of them, in any case, however separated) and by form.

    By form: credentials in URLs, bearer tokens, JWTs, private keys, card numbers; with ``emails``, addresses.
    """

    def __init__(self, words: Iterable[str] = WORDS, *, emails: bool = True) -> None:
        self._words = tuple(words)
        self._emails = emails

    def text(self, text: str) -> str:
        """A text with what looks secret hidden; withheld whole when that cannot be done."""
        try:
            return self._text(text)
        except RecursionError:
            return withheld(len(text), "text")

    def value(self, value: Any) -> Any:
        """A JSON value with what looks secret hidden. RecursionError: nested too deep."""
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple):
            match value:
                case [str(name), _] if self.is_secret(name):  # a pair, as lists of headers have them
                    return [name, HIDDEN]
            return [self.value(item) for item in value]
        if isinstance(value, str):
            return self._string(value)
        is_card = isinstance(value, int) and _is_card(str(value))
        return HIDDEN if is_card else value

    def headers(self, headers: Mapping[str, Any]) -> dict[str, Any]:
        """The headers of a message; withheld whole when they are nested too deep."""
        try:
            return dict(self._mapping(headers))
        except RecursionError:
            return {"withheld": withheld(len(headers), "headers")}

    def body(self, body: bytes, content_type: str) -> str:
        """A body as text with what looks secret hidden; withheld when it is not surely JSON or text."""
        try:
            if _JSON_TYPES.match(content_type):
                return json.dumps(self.value(json.loads(body)), ensure_ascii=False)
            if _TEXT_TYPES.match(content_type):
                return self._text(body.decode("utf-8"))
        except (ValueError, RecursionError):
            pass
        return withheld(len(body), content_type)

    def is_secret(self, name: str) -> bool:
        """Whether the value of this name is hidden."""
        plain = _bare(name)
        return any(word in plain for word in self._bare_words)

    @cached_property
    def _bare_words(self) -> tuple[str, ...]:
        return tuple(word for word in map(_bare, self._words) if word)

    @cached_property
    def _named(self) -> re.Pattern[str] | None:
        """``NAME = VALUE`` in a text, for every word."""
        words = "|".join(
            r"[_\-. ]?".join(map(re.escape, re.findall(r"[^\W_]+", word))) for word in self._words
        )
        if not words:
            return None
        name = rf"(?:{words})[\w.-]{{0,40}}(?:\\{{0,4}}[\"'])?\]?"
        return re.compile(rf"(?is)(?P<name>{name}\s{{0,3}}(?:=>|[:=])\s{{0,3}}){_VALUE}")

    def _text(self, text: str) -> str:
        text = _PEM.sub(HIDDEN, text)
        text = _URL.sub(f"://{HIDDEN}@", text)
        text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
        text = _JWT.sub(HIDDEN, text)
        text = _HEADER.sub(rf"\1{HIDDEN}", text)
        if self._named is not None:
            text = self._named.sub(lambda found: f"{found['name']}{HIDDEN}", text)
        text = _DIGITS.sub(lambda found: HIDDEN if _is_card(found[0]) else found[0], text)
        return _EMAIL.sub(f"{HIDDEN}@{HIDDEN}", text) if self._emails else text

    def _mapping(self, value: Mapping[str, Any]) -> dict[str, Any]:
        name = value.get("name", value.get("key"))
        told_apart = isinstance(name, str) and self.is_secret(name)
        return {
            self._text(str(key)): HIDDEN
            if self.is_secret(str(key)) or (told_apart and key == "value")
            else self.value(item)
            for key, item in value.items()
        }

    def _string(self, text: str) -> str:
        """A text that may be JSON itself."""
        if text.lstrip()[:1] in {"{", "["}:
            try:
                return json.dumps(self.value(json.loads(text)), ensure_ascii=False)
            except ValueError:
                pass
        return self._text(text)


def withheld(size: int, what: str) -> str:
    return f"(withheld: {size} bytes of {what} cannot be redacted)"


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _is_card(digits: str) -> bool:
    """Whether it may be a card's number: 13 to 19 digits whose check digit is right (Luhn)."""
    found = [int(digit) for digit in digits if digit.isdigit()]
    if not 13 <= len(found) <= 19 or len(set(found)) == 1:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in found[-2::-2]]
    return (sum(found[-1::-2]) + sum(doubled)) % 10 == 0
