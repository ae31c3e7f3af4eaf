"""Integers of 64 bits, doubles and 32-bit floats.

A number is exact if the shortest text of its double (or 32-bit float) is the same decimal.
"""

from __future__ import annotations

import re
import struct
from abc import abstractmethod
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.binary_columns import (
    ABSENT,
    OTHER,
    QUOTE,
    TEXT,
    JsonTexts,
    Mask,
    as_text,
    json_texts,
    mask_of,
    strings_where,
)
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.kinds import UNFIT, BranchClaim, Column, Kind, ReaderTypes, Widening
from s3dest_dagster.columns.kinds.scalar import Scalar, ScalarDecoder, ScalarRule

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")
_MAX_DIGITS = 20
"""The most characters of an int64: sign and digits."""
_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1
_SAFE_DIGITS = 19
"""A number with fewer digits fits an int64."""
_MINUS = ord("-")

_SHORT_INTEGER = r"^(?:0|-?[1-9]\d{0,17})$"
_SHORT_DOUBLE = r"^-?(?:[1-9]\d{0,7}|0)(?:\.\d{1,7})?$"
"""A number with at most 15 digits, which a double holds exactly."""
_SHORT_FLOAT = r"^-?(?:[1-9]\d{0,2}|0)(?:\.\d{1,3})?$"
"""A number with at most 6 digits, which a 32-bit float holds exactly."""
_ANY_NUMBER = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$"


def is_number(text: str) -> bool:
    """Whether a text is spelled exactly like a JSON number."""
    return _NUMBER.match(text) is not None


def integer(text: str) -> int | None:
    """The int64 of a text that is spelled like a JSON integer; None if it is not, or does not fit."""
    if len(text) > _MAX_DIGITS or not _INTEGER.match(text):
        return None
    value = int(text)
    return value if _LONG_MIN <= value <= _LONG_MAX else None


def whole(number: str) -> int | None:
    """The int64 of a JSON number without a fraction, in any spelling ("30.0", "3e1"); None if there is none."""
    exact = _decimal(number)
    if exact is None:
        return None
    if not exact:
        return 0
    if exact.adjusted() > _MAX_DIGITS or exact != (value := int(exact)):
        return None
    return value if _LONG_MIN <= value <= _LONG_MAX else None


def nearest_double(number: str) -> float | None:
    """The double nearest to a JSON number; None if that is infinite."""
    value = float(number)
    return None if value in (float("inf"), float("-inf")) else value


def nearest_float(number: str) -> float | None:
    """The 32-bit float nearest to the double of a JSON number; None if that is infinite."""
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
    """The exact value; None for exponents of more than 18 digits, which Decimal refuses."""
    try:
        return Decimal(number)
    except InvalidOperation:
        return None


class _NumberDecoder(ScalarDecoder):
    """Decodes numbers, and texts that are exactly a number. Arrow casts the ordinary spellings."""

    _looks_like: ClassVar[str]
    """Matches every number that the rule may accept as exact."""

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        ordinary = self._is_ordinary(texts.strings)
        column = Column(texts.where(ordinary).cast(self.type))
        column.counts.update(self._coerced(int((ordinary & (texts.kinds == TEXT)).sum())))
        return self._convert_rows(column, raws, np.flatnonzero(~ordinary & (texts.kinds != ABSENT)))

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        others = left & (texts.kinds == OTHER)
        ordinary = others & self._is_ordinary(texts.strings)
        unsure = others & mask_of(pc.match_substring_regex(texts.strings, self._looks_like)) & ~ordinary
        return BranchClaim(texts.where(ordinary).cast(self.type), ordinary, unsure)

    @abstractmethod
    def _is_ordinary(self, strings: pa.Array) -> Mask:
        """The rows whose text Arrow's cast converts exactly."""


class _LongRule(ScalarRule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw.isdigit() and len(raw) < _SAFE_DIGITS:
            return int(raw)
        value = integer(raw.decode())
        return UNFIT if value is None else value

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[0] == QUOTE:
            text = as_text(raw)
            return self._log_coerced(None if text == "-0" else integer(text), log)
        return self._log_coerced(whole(raw.decode()), log) if _begins_number(raw) else UNFIT


class _LongDecoder(_NumberDecoder):
    _looks_like = r"^-?\d+$"

    def _is_ordinary(self, strings: pa.Array) -> Mask:
        return mask_of(pc.match_substring_regex(strings, _SHORT_INTEGER))


class Long(Scalar):
    """An integer of 64 bits. A text that is exactly a JSON integer and a number without a fraction are coerced.

    An Arrow duration becomes the count of its unit.
    """

    word = "integer"
    arrow = pa.int64()
    avro = avro_name = "long"
    reader = ReaderTypes(
        pa.int64(),
        Annotated[int, msgspec.Meta(ge=_LONG_MIN, le=_LONG_MAX)],
        re.compile(rb"-?[0-9]{1,18}\Z"),
        is_listable=True,
    )
    python_type = int
    castable = (pt.is_integer, pt.is_duration)
    rule_type = _LongRule
    decoder_type = _LongDecoder

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        if isinstance(other, Double) and widening.doubles_hold_integers:
            return DOUBLE
        return super().widened_by(other, widening)


class _FloatingRule(ScalarRule):
    def __init__(self, path: str, kind: Any) -> None:
        super().__init__(path, kind)
        self._nearest = kind.nearest
        self._is_exact = kind.is_exact

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._exact_value(raw.decode()) if _begins_number(raw) else None
        return UNFIT if value is None else value

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[0] != QUOTE or not is_number(text := as_text(raw)):
            return UNFIT
        return self._log_coerced(self._exact_value(text), log)

    def nearest(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._nearest(raw.decode()) if _begins_number(raw) else None
        if value is None:
            return UNFIT
        log.is_inexact = True
        return value

    def _exact_value(self, number: str) -> float | None:
        value = self._nearest(number)
        return value if value is not None and self._is_exact(number, value) else None


class _FloatingDecoder(_NumberDecoder):
    _looks_like = r"^[-\d]"

    def _is_ordinary(self, strings: pa.Array) -> Mask:
        ordinary = mask_of(pc.match_substring_regex(strings, self._kind.short_number))
        return ordinary if ordinary.all() else ordinary | self._is_spelled_alike(strings)

    def _is_spelled_alike(self, strings: pa.Array) -> Mask:
        """The rows of numbers that Arrow spells like the source."""
        numbers = strings_where(strings, mask_of(pc.match_substring_regex(strings, _ANY_NUMBER)))
        return mask_of(pc.equal(numbers.cast(self.type).cast(pa.string()), numbers))


def _begins_number(raw: bytes) -> bool:
    return raw[0] == _MINUS or 48 <= raw[0] <= 57


class Double(Scalar):
    """A number as a double. A text that is exactly a JSON number is coerced.

    If a double cannot hold a number exactly, the nearest value is stored, and the overflow keeps the text.
    """

    word = "number"
    arrow = pa.float64()
    avro = avro_name = "double"
    reader: ClassVar[ReaderTypes | None] = ReaderTypes(
        pa.float64(), float, re.compile(rb"[-0-9]"), is_listable=True, may_round=True
    )
    python_type = float
    short_number: ClassVar[str] = _SHORT_DOUBLE
    """Matches numbers with so few digits that they are held exactly."""
    nearest = staticmethod(nearest_double)
    is_exact = staticmethod(is_exact_double)
    castable = (pt.is_floating, pt.is_integer)
    rule_type = _FloatingRule
    decoder_type = _FloatingDecoder

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        return self if isinstance(other, Double | Long) else super().widened_by(other, widening)


class Float(Double):
    """A number as a 32-bit float, under the same rules as a double. The typed tiers do not read it."""

    word = "float"
    arrow = pa.float32()
    avro = avro_name = "float"
    reader = None
    avro_tag = "float"
    short_number = _SHORT_FLOAT
    nearest = staticmethod(nearest_float)
    is_exact = staticmethod(is_exact_float)
    castable = (pt.is_float32, pt.is_float16)

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        return self if other == self else None


LONG = Long()
DOUBLE = Double()
FLOAT = Float()
