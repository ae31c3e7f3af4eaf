"""The forms of values whose type JSON lacks: whether a JSON text can be a date, a moment, bytes and so on.

Must not know: kinds, schemas.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping

import numpy as np

from s3dest_dagster.batch import ValueType

_DATE = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = rb"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
_BASE64 = re.compile(rb'"[A-Za-z0-9+/]*={0,2}"')
_NUMBER = re.compile(rb"-?[0-9]")


def has_form(raw: bytes, type_: ValueType) -> bool:
    """Whether a JSON text has the form of a value of this type. Every value of the type has it."""
    return _FORMS[type_](raw)


def _matches(pattern: bytes) -> Callable[[bytes], bool]:
    matches = re.compile(b'"%b"' % pattern).fullmatch
    return lambda raw: matches(raw) is not None


def _is_base64(raw: bytes) -> bool:
    if not _BASE64.fullmatch(raw):
        return False
    try:
        decoded = binascii.a2b_base64(raw[1:-1], strict_mode=True)
    except binascii.Error:
        return False
    return binascii.b2a_base64(decoded, newline=False) == raw[1:-1]


def _is_float(raw: bytes) -> bool:
    """Whether the number is the shortest text of a 32-bit float, or as close to one."""
    if not _NUMBER.match(raw):
        return False
    with np.errstate(over="ignore"):
        return float(str(np.float32(raw))) == float(raw)


_FORMS: Mapping[ValueType, Callable[[bytes], bool]] = {
    ValueType.DECIMAL: lambda raw: _NUMBER.match(raw) is not None,
    ValueType.FLOAT: _is_float,
    ValueType.DATE: _matches(_DATE),
    ValueType.TIME: _matches(_TIME),
    ValueType.LOCAL_TIMESTAMP: _matches(_DATE + b"T" + _TIME),
    ValueType.TIMESTAMP: _matches(_DATE + b"T" + _TIME + rb"(?:Z|[+-][0-9:.]{5,15})"),
    ValueType.BYTES: _is_base64,
    ValueType.OTHER: lambda raw: False,
}
