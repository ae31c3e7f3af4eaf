"""The JSON text of each value of an Arrow column, for what no column type of ours holds.

Dates, times and timestamps in ISO 8601 (zoned ones in UTC with "Z"), binary as base64, a map with text keys as an
object, any other as a list of pairs, durations as a count of their unit; numbers that JSON does not know (NaN,
infinities) and types that it does not know (intervals) as strings; moments beyond what ISO 8601 writes (the year
32103) as the integer that is stored. It must not know kinds or rules.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from msgspec import Raw

from s3dest_dagster.schema.arrow_moments import beyond_range, integers, is_moment, iso_texts
from s3dest_dagster.schema.json_texts import NOTHING

_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
_NULL = b"null"


def texts_of_column(column: pa.Array) -> list[Any]:
    """One JSON text per value, NOTHING for nulls."""
    column = unpacked(column)
    return [NOTHING if text is None else text for text in _texts(column)]


def unpacked(column: pa.Array) -> pa.Array:
    """Dictionaries, run ends and extensions as the values that they stand for."""
    if isinstance(column.type, pa.BaseExtensionType):
        return unpacked(column.storage)
    if pt.is_dictionary(column.type):
        return unpacked(column.dictionary_decode())
    return unpacked(pc.run_end_decode(column)) if pt.is_run_end_encoded(column.type) else column


def is_any_list(type_: pa.DataType) -> bool:
    """Whether values are lists, however they are stored."""
    tests = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return any(test(type_) for test in tests)


def is_any_string(type_: pa.DataType) -> bool:
    """Whether values are texts, however they are stored."""
    return bool(pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_))


def is_any_binary(type_: pa.DataType) -> bool:
    """Whether values are bytes, however they are stored."""
    tests = (pt.is_binary, pt.is_large_binary, pt.is_fixed_size_binary, pt.is_binary_view)
    return any(test(type_) for test in tests)


def as_list_column(column: pa.Array) -> pa.ListArray:
    """A column of any kind of lists with 32-bit offsets."""
    return column if pt.is_list(column.type) else column.cast(pa.list_(column.type.value_type))


def _texts(column: pa.Array) -> list[bytes | None]:
    type_ = column.type
    if pt.is_null(type_):
        return [None] * len(column)
    if pt.is_struct(type_):
        return _objects(column)
    if pt.is_map(type_):
        return _maps(column)
    if is_any_list(type_):
        return _lists(as_list_column(column))
    if pt.is_boolean(type_) or pt.is_integer(type_) or pt.is_decimal(type_):
        return _each(column.cast(pa.string()), str.encode)
    if pt.is_floating(type_):
        finite = pc.is_finite(column)
        return _each(column.cast(pa.string()), str.encode) if pc.all(finite).as_py() is not False else _floats(column)
    if pt.is_duration(type_):
        return _texts(column.cast(pa.int64()))
    if is_any_binary(type_):
        return _each(column, lambda value: _encode(b64encode(value).decode()))
    if is_moment(type_):
        return _moments(column)
    return _each(_as_strings(column), _encode)


def _each(column: pa.Array, write: Callable[[Any], bytes]) -> list[bytes | None]:
    return [None if value is None else write(value) for value in column.to_pylist()]


def _floats(column: pa.Array) -> list[bytes | None]:
    names = {"nan": b'"NaN"', "inf": b'"Infinity"', "-inf": b'"-Infinity"', "-nan": b'"NaN"'}
    return _each(column.cast(pa.string()), lambda text: names.get(text) or text.encode())


def _moments(column: pa.Array) -> list[bytes | None]:
    beyond = beyond_range(column)
    texts = _each(iso_texts(pc.if_else(beyond, pa.scalar(None, column.type), column)), _encode)
    for row in pc.indices_nonzero(beyond).to_pylist():
        texts[row] = str(integers(column)[row].as_py()).encode()
    return texts


def _as_strings(column: pa.Array) -> pa.Array:
    if is_any_string(column.type):
        return column.cast(pa.string())
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def _objects(column: pa.StructArray) -> list[bytes | None]:
    names = [_encode(field.name) + b":" for field in column.type]
    children = [texts_of_column(child) for child in column.flatten()]
    rows = zip(*children, strict=True) if children else [()] * len(column)
    return [
        b"{" + _joined(name + _or_null(text) for name, text in zip(names, row, strict=True)) + b"}" if valid else None
        for row, valid in zip(rows, column.is_valid().to_pylist(), strict=True)
    ]


def _lists(column: pa.ListArray) -> list[bytes | None]:
    items = iter(texts_of_column(column.flatten()))
    lengths = column.value_lengths().to_pylist()
    return [
        None if length is None else b"[" + _joined(_or_null(next(items)) for _ in range(length)) + b"]"
        for length in lengths
    ]


def _maps(column: pa.MapArray) -> list[bytes | None]:
    pair = pa.struct([pa.field("key", column.type.key_type), pa.field("value", column.type.item_type)])
    pairs = column.cast(pa.list_(pair))
    keys, values = (iter(texts_of_column(part)) for part in pairs.flatten().flatten())
    opening, between, closing = (b"{", b":", b"}") if is_any_string(column.type.key_type) else (b"[", b",", b"]")
    start, end = (b"", b"") if opening == b"{" else (b"[", b"]")
    return [
        None
        if length is None
        else opening
        + _joined(start + bytes(next(keys)) + between + _or_null(next(values)) + end for _ in range(length))
        + closing
        for length in pairs.value_lengths().to_pylist()
    ]


def _joined(texts: Iterable[bytes]) -> bytes:
    return b",".join(texts)


def _or_null(text: bytes | Raw) -> bytes:
    return bytes(text) or _NULL
