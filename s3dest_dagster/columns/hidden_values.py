"""What lands in place of a hashed or masked value, and the canonical JSON text that a hash is made of.

The canonical text is that of RFC 8785, except that no number is rounded: members are sorted by the UTF-16 code units of
their names, there are no blanks, strings have only the escapes that JSON requires, and a number is written like a
double (1.5, 1e+21, 1e-7), but with every digit that the source wrote. So equal values have one text, however they are
spelled: 1, 1.0 and 10e-1 are 1. Of a repeated name the last value counts. Must not know: paths, records.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from s3dest_dagster.errors import RecordError

MASK_TEXT = "***"
"""What lands in place of a masked value."""
MASK_JSON = b'"***"'
"""The same as JSON text."""
_KEY_ID_DIGITS = 16
_KEY_ID_OF = b"s3dest hash_key"
_DIGEST = "sha256"
_MIN_EXPONENT, _MAX_EXPONENT = -7, 21
"""A number with its point outside these positions is written with an exponent, as in ECMAScript."""
_CANONICAL = re.compile(rb'"[^"\\]*"|0|-?[1-9][0-9]{0,20}|true|false|null')
"""JSON texts that are canonical as they are."""


class Hasher:
    """Hashes values with one key.

    Args:
        key: The secret key.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode("utf-8", "surrogatepass")

    @property
    def key_id(self) -> str:
        """A text that identifies the key without revealing it."""
        return self._digest(_KEY_ID_OF)[:_KEY_ID_DIGITS]

    def json_hash(self, text: bytes) -> bytes:
        """The JSON text of a value's hash. Raises RecordError if the value nests too deeply."""
        return b'"%b"' % self.hash(text).encode()

    def hash(self, text: bytes) -> str:
        """The HMAC-SHA-256, in hexadecimal, of a value's canonical JSON text. Raises RecordError as `json_hash`."""
        return self._digest(canonical_json(text))

    def _digest(self, content: bytes) -> str:
        return hmac.digest(self._key, content, _DIGEST).hex()


class _Number(str):
    """The text of a number."""

    __slots__ = ()


class _Object(list[tuple[str, Any]]):
    """The members of an object."""


_decoder = json.JSONDecoder(
    parse_int=_Number, parse_float=_Number, object_pairs_hook=lambda pairs: _Object(dict(pairs).items())
)


def canonical_json(text: bytes) -> bytes:
    """The canonical text of one JSON value (see the module). Raises RecordError if it nests too deeply."""
    if _CANONICAL.fullmatch(text):
        return text
    try:
        return "".join(_written(_decoder.decode(text.decode()))).encode("utf-8", "surrogatepass")
    except RecursionError:
        raise RecordError("A value is nested too deeply to be hashed. Exclude its field instead.") from None


def _written(value: Any) -> Iterable[str]:
    if isinstance(value, _Number):
        return (canonical_number(value),)
    if isinstance(value, _Object):
        members = sorted(value, key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
        parts = [f"{json.dumps(name, ensure_ascii=False)}:{''.join(_written(inner))}" for name, inner in members]
        return ("{", ",".join(parts), "}")
    if isinstance(value, list):
        return ("[", ",".join("".join(_written(item)) for item in value), "]")
    return (json.dumps(value, ensure_ascii=False),)


def canonical_number(text: str) -> str:
    """The one spelling of a number: with every digit, but without zeros that mean nothing."""
    try:
        sign, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation:
        # Decimal refuses exponents of more than 18 digits.
        return text.lower()
    assert isinstance(exponent, int)
    written = "".join(map(str, digits)).lstrip("0")
    kept = written.rstrip("0")
    if not kept:
        return "0"
    # The value is 0.kept * 10**point.
    point = exponent + len(written)
    return ("-" if sign else "") + _with_point(kept, point)


def _with_point(digits: str, point: int) -> str:
    """The digits with a decimal point at a position, as ECMAScript writes them."""
    if len(digits) <= point <= _MAX_EXPONENT:
        return digits + "0" * (point - len(digits))
    if 0 < point <= _MAX_EXPONENT:
        return f"{digits[:point]}.{digits[point:]}"
    if _MIN_EXPONENT + 1 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
