"""The digits of decimals: those that a JSON schema declares, and those that the values of a batch need.

A schema declares a decimal by `"x-decimal": {"precision": 10, "scale": 2}`, by `"airbyte_type": "big_number"`, whose
digits only its values show, or by a `multipleOf` that is a power of ten. Must not know: columns.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.batch import Batch, JsonBatch
from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.binary_columns import QUOTE, as_list, as_object, as_text
from s3dest_dagster.columns.branches import kind_of
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.decimal import DECIMAL_TEXT, MAX_PRECISION, UNKNOWN_DECIMAL, Decimal
from s3dest_dagster.columns.kinds.number import is_number
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.union import Union

KEYWORD = "x-decimal"
_DECLARABLE = frozenset({"number", "string", "integer"})
_FINEST = 18
"""The most digits after the point that `multipleOf` declares. Sources that know none write a finer one."""


class Digits(NamedTuple):
    """The digits before and after the point that some numbers need."""

    integers: int = 0
    scale: int = 0

    def and_of(self, other: Digits) -> Digits:
        """The digits that hold the numbers of both."""
        return Digits(max(self.integers, other.integers), max(self.scale, other.scale))


# ---------------------------------------------------------------------- declarations


def declared_decimal(name: object, definition: Mapping[str, Any]) -> Kind | None:
    """The kind of a decimal that is declared with this JSON type; None if the definition declares none.

    Texts in a union with numbers are no decimals. Raises ValueError, which says what is wrong with `x-decimal`.
    """
    types = definition.get("type")
    is_beside_numbers = name == "string" and isinstance(types, list | tuple) and "number" in types
    if not isinstance(name, str) or name not in _DECLARABLE or is_beside_numbers:
        return None
    kind = _of_keyword(definition[KEYWORD]) if KEYWORD in definition else _of_other_keywords(name, definition)
    return replace(kind, from_text=name == "string") if isinstance(kind, Decimal) else kind


def _of_keyword(declared: object) -> Kind:
    if not isinstance(declared, Mapping):
        raise ValueError(f'"{KEYWORD}" must be an object such as {{"precision": 10, "scale": 2}}')
    precision, scale = declared.get("precision"), declared.get("scale", 0)
    if any(type(each) is not int for each in (scale, 1 if precision is None else precision)):
        raise ValueError(f'"precision" and "scale" of "{KEYWORD}" must be whole numbers')
    if precision is None:
        return replace(UNKNOWN_DECIMAL, scale=min(max(scale, 0), MAX_PRECISION))
    integers, scale = precision - scale, max(scale, 0)
    if precision < 1 or integers < 0:
        raise ValueError(f'"{KEYWORD}" needs a precision of at least 1, and a scale of at most the precision')
    grows = declared.get("grows") is True
    return Decimal(grows=grows).with_digits(integers, scale)


def _of_other_keywords(name: object, definition: Mapping[str, Any]) -> Kind | None:
    if definition.get("airbyte_type") == "big_number" and name != "integer":
        return UNKNOWN_DECIMAL
    scale = _power_of_ten(definition.get("multipleOf")) if name == "number" else None
    if scale is None:
        return None
    return replace(UNKNOWN_DECIMAL, scale=scale if scale <= _FINEST else 0)


def _power_of_ten(number: object) -> int | None:
    """The n of a number that is 10⁻ⁿ, where n is at least 0; None for any other value."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    sign, digits, exponent = decimal.Decimal(repr(number)).normalize().as_tuple()
    is_power = sign == 0 and digits == (1,) and isinstance(exponent, int) and exponent <= 0
    return -int(exponent) if is_power else None


def keyword_of(digits: Digits) -> dict[str, Any]:
    """The value of `x-decimal` for a decimal that has at least these digits."""
    return {"precision": max(sum(digits), 1), "scale": digits.scale, "grows": True}


# ---------------------------------------------------------------------- values


def digits_of(numbers: Iterable[str]) -> Digits | None:
    """The digits that JSON numbers need; None if they are more than a decimal has.

    They are those of the texts, so 1.10 needs two digits after the point, unless these are too many.
    """
    written, needed = Digits(), Digits()
    for number in numbers:
        try:
            value = decimal.Decimal(number)
        except decimal.InvalidOperation:
            return None
        written, needed = written.and_of(_digits(value)), needed.and_of(_digits(_without_zeros(value)))
    return next((each for each in (written, needed) if sum(each) <= MAX_PRECISION), None)


def _digits(value: decimal.Decimal) -> Digits:
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(0, -exponent)
    return Digits(max(0, len(digits) + exponent) if value else int(not scale), scale)


def _without_zeros(value: decimal.Decimal) -> decimal.Decimal:
    """The same value without zeros after the last digit of its fraction."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    kept = list(digits)
    while exponent < 0 and kept and kept[-1] == 0:
        kept.pop()
        exponent += 1
    return decimal.Decimal((sign, kept or [0], exponent if kept else 0))


def grown(record: Record, batch: Batch) -> Record:
    """The record type, whose decimals that may grow hold every number of the batch, or are text.

    If the decimals hold all of them already, the result is equal to `record`.
    """
    if not may_grow(record):
        return record
    if isinstance(batch, JsonBatch):
        raws = batch.raws
    else:
        # Texts of the other columns would cost more than all else that is done to their batch.
        unsure = _columns_with_unsure_decimals(record, batch.data.schema)
        raws = texts_of_column(batch.data.select(unsure).to_struct_array()) if unsure else ()
    kind = _grown(record, [bytes(raw) for raw in raws])
    assert isinstance(kind, Record)
    return kind


def _columns_with_unsure_decimals(record: Record, schema: pa.Schema) -> list[int]:
    """The positions of columns with decimals that may grow, except for those whose own type has no more digits."""
    growing = {field.source: field.kind for field in record.fields if may_grow(field.kind)}
    unsure = (each.name in growing and not _holds(growing[each.name], each.type) for each in schema)
    return [position for position, is_unsure in enumerate(unsure) if is_unsure]


def _holds(kind: Kind, type_: pa.DataType) -> bool:
    """Whether the kind is a decimal that holds every value of an Arrow decimal."""
    if not (isinstance(kind, Decimal) and kind.integer_digits is not None and pt.is_decimal(type_)):
        return False
    return bool(0 <= type_.scale <= kind.scale and type_.precision - type_.scale <= kind.integer_digits)


def may_grow(kind: Kind) -> bool:
    """Whether further values may add digits to a decimal in this kind."""
    if isinstance(kind, Array):
        return may_grow(kind.item)
    if isinstance(kind, Record):
        return any(may_grow(field.kind) for field in kind.fields)
    if isinstance(kind, Union):
        return any(map(may_grow, kind.branches))
    return isinstance(kind, Decimal) and kind.grows


def _grown(kind: Kind, raws: Sequence[bytes]) -> Kind:
    if not may_grow(kind):
        return kind
    if isinstance(kind, Record):
        objects = [as_object(raw) for raw in raws if raw[:1] == b"{"]
        return kind.with_kinds(
            _grown(field.kind, [bytes(members[field.source]) for members in objects if field.source in members])
            for field in kind.fields
        )
    if isinstance(kind, Array):
        items = [bytes(item) for raw in raws if raw[:1] == b"[" for item in as_list(raw)]
        return kind.with_item(_grown(kind.item, items))
    if isinstance(kind, Union):
        return kind_of(_grown(branch, raws) for branch in kind.branches)
    assert isinstance(kind, Decimal)
    numbers = [text for raw in raws if raw and (text := _number(raw)) is not None]
    unfit = [text for text in numbers if not kind.is_known or kind.fitting(text) is None]
    digits = digits_of(unfit)
    return DECIMAL_TEXT if digits is None else kind.with_digits(*digits) if unfit else kind


def _number(raw: bytes) -> str | None:
    """The number that a JSON text is, or that it has between its quotes; None if it is neither."""
    text = as_text(raw) if raw[0] == QUOTE else raw.decode()
    return text if is_number(text) else None
