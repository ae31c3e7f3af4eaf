"""Numbers by their text: which integer or floating-point value a JSON number is, and whether it is exactly that.

A number is exact when the shortest text of its double (or 32-bit float) is the same decimal. It must not know Arrow.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal, InvalidOperation

import numpy as np

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")
_MAX_DIGITS = 20
"""Sign and digits that an int64 has at most."""
_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1


def is_number(text: str) -> bool:
    """Whether a text is spelled exactly like a JSON number."""
    return _NUMBER.match(text) is not None


def integer(text: str) -> int | None:
    """The int64 of a text that is spelled like a JSON integer; None where it is not or does not fit."""
    if len(text) > _MAX_DIGITS or not _INTEGER.match(text):
        return None
    value = int(text)
    return value if _LONG_MIN <= value <= _LONG_MAX else None


def whole(number: str) -> int | None:
    """The int64 of a JSON number without a fraction, however it is spelled ("30.0", "3e1"); None where it has one."""
    exact = _decimal(number)
    if exact is None:
        return None
    if not exact:
        return 0
    if exact.adjusted() > _MAX_DIGITS or exact != (value := int(exact)):
        return None
    return value if _LONG_MIN <= value <= _LONG_MAX else None


def nearest_double(number: str) -> float | None:
    """The double next to a JSON number; None where that would be infinite."""
    value = float(number)
    return None if value in (float("inf"), float("-inf")) else value


def nearest_float(number: str) -> float | None:
    """The 32-bit float next to the double of a JSON number; None where that would be infinite."""
    try:
        value: float = struct.unpack("f", struct.pack("f", float(number)))[0]
    except OverflowError:
        return None
    return None if value in (float("inf"), float("-inf")) else value


def is_exact_double(number: str, value: float) -> bool:
    """Whether the shortest text of this double is the same decimal as the JSON number."""
    return Decimal(repr(value)) == _decimal(number)


def is_exact_float(number: str, value: float) -> bool:
    """Whether the shortest text of this 32-bit float is the same decimal as the JSON number."""
    return Decimal(str(np.float32(value))) == _decimal(number)


def _decimal(number: str) -> Decimal | None:
    """The exact value; None for exponents beyond what Decimal knows (18 digits)."""
    try:
        return Decimal(number)
    except InvalidOperation:
        return None
