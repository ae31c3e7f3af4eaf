"""Decimals: numbers with a fixed count of digits before and after the point, and their texts if they need too many.

A number fits a decimal if it has no other digits than the decimal has. No value is rounded. The precision is the sum of
both counts, and at most 38, which every reader of Parquet and Avro knows.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
    binary_array,
    json_texts,
    mask_of,
)
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.kinds import UNFIT, BranchClaim, Column, ColumnDecoder, Kind, Layout, Rule, Widening
from s3dest_dagster.columns.kinds.number import Double, Long, is_number
from s3dest_dagster.columns.kinds.scalar import Scalar, ScalarDecoder, ScalarRule, TextDecoder, TextScalar

MAX_PRECISION = 38
"""The most digits of a decimal. A number with more is text."""
_EXACT = decimal.Context(prec=2 * MAX_PRECISION, traps=[decimal.Inexact, decimal.InvalidOperation])
_ANY_NUMBER = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$"
_CODE = re.compile(r"decimal\(([0-9]+|\?),([0-9]+)\)( grows)?( text)?")
_LONG_DIGITS = 19
"""The digits of the largest 64-bit integer."""
_BYTES = 16
"""The bytes of Arrow's decimal128."""


def _number_text(raw: bytes, *, in_text: bool) -> str | None:
    """The number that a JSON number is, or a JSON string with nothing but a number; None for any other value."""
    if (raw[0] == QUOTE) is not in_text:
        return None
    text = as_text(raw) if in_text else raw.decode()
    return text if is_number(text) else None


class _DecimalRule(ScalarRule):
    def __init__(self, path: str, kind: Any) -> None:
        super().__init__(path, kind)
        self._kind: Decimal = kind

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._value(raw, in_text=self._kind.from_text)
        return UNFIT if value is None else value

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        return self._log_coerced(self._value(raw, in_text=not self._kind.from_text), log)

    def _value(self, raw: bytes, *, in_text: bool) -> decimal.Decimal | None:
        text = _number_text(raw, in_text=in_text)
        return None if text is None else self._kind.fitting(text)


class _DecimalDecoder(ScalarDecoder):
    """Decodes decimals. Arrow casts the texts that have no more digits than the decimal."""

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        ordinary = self._is_ordinary(texts.strings)
        column = Column(texts.where(ordinary).cast(self.type))
        column.counts.update(self._coerced(int((ordinary & (texts.kinds != self._own_form())).sum())))
        return self._convert_rows(column, raws, np.flatnonzero(~ordinary & (texts.kinds != ABSENT)))

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        own = left & (texts.kinds == self._own_form())
        ordinary = own & self._is_ordinary(texts.strings)
        unsure = own & mask_of(pc.match_substring_regex(texts.strings, _ANY_NUMBER)) & ~ordinary
        return BranchClaim(texts.where(ordinary).cast(self.type), ordinary, unsure)

    def _own_form(self) -> int:
        return TEXT if self._kind.from_text else OTHER

    def _is_ordinary(self, strings: pa.Array) -> Mask:
        return mask_of(pc.match_substring_regex(strings, self._kind.ordinary))


@dataclass(frozen=True)
class Decimal(Scalar):
    """A number with this many digits. A text that is exactly a JSON number is coerced, or the number if it is declared
    as a text. A number that needs other digits does not fit."""

    integer_digits: int | None = None
    """The most digits before the point. None: not known yet, so that its columns are texts, or left out."""
    scale: int = 0
    """The most digits after the point; the least number of them if the others are not known."""
    grows: bool = field(default=False, compare=False)
    """Whether the digits are those of the values so far, not declared ones, so that further values may add some."""
    from_text: bool = field(default=False, compare=False)
    """Whether the source is to write its values as texts."""

    word = "decimal"
    avro_name = "bytes"
    python_type = decimal.Decimal
    castable = (pt.is_decimal, pt.is_integer)
    rule_type = _DecimalRule
    decoder_type = _DecimalDecoder

    @property
    def is_known(self) -> bool:
        """Whether the digits are known."""
        return self.integer_digits is not None

    @property
    def lacks_digits(self) -> bool:
        return not self.is_known

    @property
    def precision(self) -> int:
        """The sum of both counts of digits, and at least 1."""
        return max(1, (self.integer_digits or 0) + self.scale)

    @property
    def arrow(self) -> pa.DataType:
        return pa.decimal128(self.precision, self.scale) if self.is_known else pa.string()

    @property
    def avro(self) -> Any:
        if not self.is_known:
            return "string"
        return {"type": "bytes", "logicalType": "decimal", "precision": self.precision, "scale": self.scale}

    @property
    def code(self) -> str:
        """The kind as text in a manifest."""
        flags = (" grows" if self.grows else "") + (" text" if self.from_text else "")
        return f"decimal({'?' if self.integer_digits is None else self.integer_digits},{self.scale}){flags}"

    @classmethod
    def of_code(cls, code: str) -> Decimal:
        """The kind with this `code`. Raises ValueError for any other text."""
        if (match := _CODE.fullmatch(code)) is None:
            raise ValueError(f"{code!r} is no kind")
        integers = None if match[1] == "?" else int(match[1])
        return cls(integers, int(match[2]), grows=bool(match[3]), from_text=bool(match[4]))

    @property
    def ordinary(self) -> str:
        """A pattern of numbers that fit, without exponent."""
        integers = self.precision - self.scale
        whole = f"(?:0|[1-9]\\d{{0,{integers - 1}}})" if integers else "0"
        return f"^-?{whole}" + (f"(?:\\.\\d{{1,{self.scale}}})?$" if self.scale else "$")

    def fitting(self, number: str) -> decimal.Decimal | None:
        """The value of a JSON number; None if it needs other digits."""
        try:
            value = decimal.Decimal(number).quantize(decimal.Decimal(1).scaleb(-self.scale), context=_EXACT)
        except decimal.DecimalException:
            return None
        return value if not value or value.adjusted() + self.scale < self.precision else None

    def with_digits(self, integer_digits: int, scale: int) -> Kind:
        """The decimal that also holds numbers with these digits; `DECIMAL_TEXT` if they are too many."""
        digits = max(self.integer_digits or 0, integer_digits), max(self.scale, scale)
        return DECIMAL_TEXT if sum(digits) > MAX_PRECISION else replace(self, integer_digits=digits[0], scale=digits[1])

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        """The decimal with the digits of both. Integers fit, too; other inferred numbers are left to `grown`."""
        if isinstance(other, Decimal):
            kind = self if other.integer_digits is None else self.with_digits(other.integer_digits, other.scale)
            return replace(kind, grows=other.grows, from_text=other.from_text) if isinstance(kind, Decimal) else None
        if widening.is_inferred:
            return self if isinstance(other, Long | Double) else None
        kind = self.with_digits(_LONG_DIGITS, 0)
        return kind if isinstance(other, Long) and isinstance(kind, Decimal) else None

    def beside(self, other: Kind) -> Kind:
        return DECIMAL_TEXT if isinstance(other, Decimal) else other

    def rule(self, layout: Layout, path: str) -> Rule:
        return super().rule(layout, path) if self.is_known else _DecimalTextRule(path, self)

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        return super().decoder(layout, path) if self.is_known else _DecimalTextDecoder(self.rule(layout, path), self)

    def casts_from(self, column: pa.Array) -> bool:
        return self.is_known and super().casts_from(column)

    def is_read_as(self, value: Any) -> bool:
        return super().is_read_as(value) if self.is_known else isinstance(value, str)

    def words(self) -> str:
        return f"decimal({self.precision}, {self.scale})" if self.is_known else self.word

    def avro_storage(self, column: pa.Array) -> pa.Array:
        return _twos_complements(column) if self.is_known else column

    def json_value(self, value: Any) -> Any:
        text = value if isinstance(value, str) else f"{value:f}"
        return text if self.from_text else msgspec.Raw(text.encode())


def _twos_complements(column: pa.Array) -> pa.Array:
    """The unscaled integers as the shortest big-endian two's complements, null where the column is null."""
    stored = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * _BYTES :][: len(column) * _BYTES]
    matrix = stored.reshape(-1, _BYTES)[:, ::-1]
    negative = matrix[:, 0] >> 7
    padding = matrix == (negative * 0xFF)[:, None]
    starts = np.where(padding.all(axis=1), _BYTES - 1, np.argmin(padding, axis=1))
    # One byte of padding stays if the next byte would show the other sign.
    starts -= (matrix[np.arange(len(matrix)), starts] >> 7) != negative
    ends = np.zeros(len(matrix) + 1, np.int64)
    np.cumsum(_BYTES - starts, out=ends[1:])
    flat = np.ascontiguousarray(matrix[np.arange(_BYTES) >= starts[:, None]])
    values = binary_array(ends, pa.py_buffer(flat))
    return values if not column.null_count else pc.if_else(column.is_valid(), values, pa.scalar(None, pa.binary()))


class _DecimalTextRule(ScalarRule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        for in_text in (False, True):
            if (text := _number_text(raw, in_text=in_text)) is not None:
                return text
        return UNFIT

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        if self.exact(raw, log) is not UNFIT:
            return UNFIT
        return self._log_coerced(as_text(raw) if raw[0] == QUOTE else raw.decode(), log)


class _DecimalTextDecoder(TextDecoder):
    def own_rows(self, texts: JsonTexts) -> Mask:
        return mask_of(pc.match_substring_regex(texts.strings, _ANY_NUMBER))


class DecimalText(TextScalar):
    """Numbers of any number of digits, as the source spells them. Any other value is coerced to text."""

    word = "text"
    rule_type = _DecimalTextRule
    decoder_type = _DecimalTextDecoder

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        """The same kind, if the other has numbers, or comes from data."""
        return self if widening.is_inferred or isinstance(other, Decimal | Long | DecimalText) else None


DECIMAL_TEXT = DecimalText()
UNKNOWN_DECIMAL = Decimal(grows=True)
"""A decimal whose digits only its values show. Until then, it is its text."""
