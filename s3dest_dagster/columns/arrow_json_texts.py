"""The exact JSON text of each value of an Arrow column, column by column.

- The text of a number gives the same number when it is read.
- Dates, times and timestamps are in ISO 8601. Timestamps with a zone are in UTC with "Z"; those without one have none.
- Intervals are ISO 8601 durations ("P14M3DT1.5S"); durations are the count of their unit.
- Binary values are in base64.
- A map with text keys is an object; any other map is a list of pairs.
- A union is the value that it holds.
- A JSON value (`arrow.json`) is itself.

The caller decides whether values that JSON cannot write (NaN, the year 32103) are written or refused (`Odd`). Must not
know: what the texts are for.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_types import (
    as_list_column,
    as_pairs,
    integers,
    is_any_binary,
    is_any_list,
    is_any_string,
    is_document,
    is_moment,
    union_positions,
    unpacked,
    values_at,
)
from s3dest_dagster.columns.binary_columns import NOTHING, Parts, Rows, content, glued, pieces, replaced, scalar
from s3dest_dagster.columns.iso_texts import beyond_range, iso_texts
from s3dest_dagster.errors import RecordError

_NULL = b"null"
_FIRST_PRINTABLE = 0x20
_QUOTES = {ord(character): msgspec.json.encode(character)[1:-1] for character in '\\"'}
_ESCAPES = _QUOTES | {code: msgspec.json.encode(chr(code))[1:-1] for code in range(_FIRST_PRINTABLE)}
"""The escapes of JSON strings. The backslash is the first, since all other escapes have one."""
_LINE_BREAKS = re.compile(rb"[\r\n]")
_NANOS = 10**9


class Odd(Protocol):
    """The treatment of values that JSON cannot write.

    `odd` is true for these values. There is at least one. `path` is the field's dotted name.
    """

    def numbers(self, column: pa.Array, odd: pa.Array, path: str) -> pa.Array:
        """The texts of floats, some of which are NaN or infinite."""

    def moments(self, column: pa.Array, odd: pa.Array, path: str) -> pa.Array:
        """The texts of dates, times or timestamps, some of which have no ISO 8601 text."""

    def document(self, text: bytes, problem: str, path: str) -> bytes:
        """The JSON text of a document that is no JSON."""


class _Documents:
    """Raises RecordError for a document that is no JSON."""

    def document(self, text: bytes, problem: str, path: str) -> bytes:
        raise RecordError(
            f"Field {path!r} has the type arrow.json, but is no JSON in {problem}. Correct it in the source, or make "
            "the column a text."
        )


class Refused(_Documents):
    """Raises RecordError, which names the field and the record."""

    def numbers(self, column: pa.Array, odd: pa.Array, path: str) -> pa.Array:
        row = pc.index(odd, True).as_py()
        raise RecordError(
            f"Field {path!r} is {column[row].as_py()} in record {row + 1} of a batch; JSON has no such number. "
            "Make it null or a text in the source, or land the stream in Avro or Parquet."
        )

    def moments(self, column: pa.Array, odd: pa.Array, path: str) -> pa.Array:
        row = pc.index(odd, True).as_py()
        bounds = "00:00 to 24:00" if pt.is_time(column.type) else "the years 1 to 9999"
        raise RecordError(
            f"Field {path!r} is {integers(column)[row].as_py()} as {column.type} in record {row + 1} of a batch, which "
            f"lies outside {bounds} and has no ISO 8601 text. "
            "Make it null or an integer in the source, or land the stream in Avro or Parquet."
        )


class Spelled(_Documents):
    """Keeps the values: NaN and infinities as strings; dates, times and timestamps as the stored integer."""

    def numbers(self, column: pa.Array, odd: pa.Array, path: str) -> pa.Array:
        names = {"nan": '"NaN"', "-nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}
        texts = column.cast(pa.string()).to_pylist()
        return pa.array([text and names.get(text, text) for text in texts], pa.string()).cast(pa.binary())

    def moments(self, column: pa.Array, odd: pa.Array, path: str) -> pa.Array:
        others = glued(_moments(pc.if_else(odd, pa.scalar(None, column.type), column)), len(column))
        return pc.if_else(odd, integers(column).cast(pa.string()).cast(pa.binary()), others)


def texts_of_column(column: pa.Array) -> list[Any]:
    """One JSON text per value, NOTHING for nulls. Odd values are `Spelled`."""
    texts: list[Any] = pieces(column_texts(column, Spelled(), ""))
    for row in pc.indices_nonzero(unpacked(column).is_null()).to_pylist():
        texts[row] = NOTHING
    return texts


def object_texts(names: Sequence[str], columns: Sequence[pa.Array], rows: int, odd: Odd, path: str = "") -> pa.Array:
    """The JSON object of each row, as binary."""
    return glued(object_parts(names, columns, odd, path), rows)


def object_parts(names: Sequence[str], columns: Sequence[pa.Array], odd: Odd, path: str = "") -> Parts:
    """The same in parts, so that what precedes or follows the object is joined with them."""
    parts: Parts = [b"{"]
    for number, (name, column) in enumerate(zip(names, columns, strict=True)):
        key = (b"," if number else b"") + msgspec.json.encode(name) + b":"
        parts += [key, *column_parts(column, odd, f"{path}.{name}" if path else name)]
    return [*parts, b"}"]


def column_texts(column: pa.Array, odd: Odd, path: str) -> pa.Array:
    """The JSON text of each value as binary, "null" for nulls. Raises RecordError for a type without JSON texts."""
    return glued(column_parts(column, odd, path), len(column))


def column_parts(column: pa.Array, odd: Odd, path: str) -> Parts:
    """The same in parts."""
    column = unpacked(column)
    if column.null_count == len(column):
        return [_NULL]
    parts = value_parts(column, odd, path)
    if not column.null_count:
        return parts
    return [pc.if_else(column.is_valid(), glued(parts, len(column)), scalar(_NULL))]


def value_parts(column: pa.Array, odd: Odd, path: str) -> Parts:
    """The JSON text of each value of an `unpacked` column in parts. A null has any text."""
    for test, write in _TEXTS:
        if test(column.type):
            return write(column, odd, path)
    raise RecordError(
        f"Field {path!r} has the Arrow type {column.type}, for which there is no JSON text. Cast it in the source.",
    )


def _arrow_texts(column: pa.Array, odd: Odd, path: str) -> Parts:
    """Booleans, integers and decimals, whose texts are the same in Arrow and JSON."""
    return [column.cast(pa.string()).cast(pa.binary())]


def _float(column: pa.Array, odd: Odd, path: str) -> Parts:
    column = column.cast(pa.float32()) if pt.is_float16(column.type) else column
    beyond = pc.fill_null(pc.invert(pc.is_finite(column)), False)
    return [odd.numbers(column, beyond, path)] if pc.any(beyond).as_py() else _arrow_texts(column, odd, path)


def _duration(column: pa.Array, odd: Odd, path: str) -> Parts:
    return _arrow_texts(column.cast(pa.int64()), odd, path)


def _interval(column: pa.Array, odd: Odd, path: str) -> Parts:
    return [pa.array([b'"%b"' % _iso_duration(*(value or (0, 0, 0))) for value in column.to_pylist()], pa.binary())]


def _iso_duration(months: int, days: int, nanos: int) -> bytes:
    """Months, days and seconds keep their own sign, since neither months nor days have a fixed length."""
    seconds, fraction = divmod(abs(nanos), _NANOS)
    sign = "-" if nanos < 0 else ""
    clock = f"T{sign}{seconds}{f'.{fraction:09}'.rstrip('0') if fraction else ''}S" if nanos else ""
    date = f"{f'{months}M' if months else ''}{f'{days}D' if days else ''}"
    return f"P{date}{clock}".encode() if date or clock else b"PT0S"


def _string(column: pa.Array, odd: Odd, path: str) -> Parts:
    values = column.cast(pa.string()).cast(pa.binary())
    characters = np.frombuffer(content(values), np.uint8)
    is_printable = not len(characters) or characters.min() >= _FIRST_PRINTABLE
    return [b'"', replaced(values, _QUOTES if is_printable else _ESCAPES), b'"']


def _binary(column: pa.Array, odd: Odd, path: str) -> Parts:
    return [pa.array([b'"%b"' % b64encode(value or b"") for value in column.to_pylist()], pa.binary())]


def _moment(column: pa.Array, odd: Odd, path: str) -> Parts:
    """Dates, times and timestamps."""
    beyond = beyond_range(column)
    return [odd.moments(column, beyond, path)] if pc.any(beyond).as_py() else _moments(column)


def _moments(column: pa.Array) -> Parts:
    """The texts of dates, times and timestamps within range, which need no escape."""
    return [b'"', iso_texts(column), b'"']


def _json(column: pa.Array, odd: Odd, path: str) -> Parts:
    """JSON values as they are spelled, without line breaks."""
    texts = []
    for row, value in enumerate(column.storage.cast(pa.string()).to_pylist(), 1):
        text = _NULL if value is None else value.strip().encode()
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except msgspec.DecodeError as error:
            problem = f"record {row} of a batch ({error})"
        else:
            problem = ""
        if problem:
            text = odd.document(text, problem, path)
        texts.append(msgspec.json.format(text, indent=-1) if _LINE_BREAKS.search(text) else text)
    return [pa.array(texts, pa.binary())]


def _list(column: pa.Array, odd: Odd, path: str) -> Parts:
    lists = as_list_column(column)
    return _sequence(b"[", lists, column_texts(lists.flatten(), odd, f"{path}[]"), b"]")


def _map(column: pa.Array, odd: Odd, path: str) -> Parts:
    pairs = as_pairs(column)
    flat = pairs.flatten()
    keys, values = column_texts(flat.field(0), odd, path), column_texts(flat.field(1), odd, path)
    if is_any_string(column.type.key_type):
        return _sequence(b"{", pairs, glued([keys, b":", values], len(flat)), b"}")
    return _sequence(b"[", pairs, glued([b"[", keys, b",", values, b"]"], len(flat)), b"]")


def _sequence(start: bytes, column: pa.ListArray, items: pa.Array, end: bytes) -> Parts:
    """The texts of each row's items, joined by commas. `items` has the items of all rows."""
    sizes = pc.list_value_length(column).fill_null(0).to_numpy()
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes, dtype=np.int32)])
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends), items), scalar(b","))
    return [start, joined, end]


def _struct(column: pa.StructArray, odd: Odd, path: str) -> Parts:
    return object_parts([field.name for field in column.type], column.flatten(), odd, path)


def _union(column: pa.UnionArray, odd: Odd, path: str) -> Parts:
    codes, positions = union_positions(column)
    texts = np.full(len(column), _NULL, object)
    for number, code in enumerate(column.type.type_codes):
        # What no row holds, as the rest of a filtered batch, may be odd.
        rows = codes == code
        texts[rows] = pieces(column_texts(_at(column.field(number), positions[rows]), odd, path))
    return [pa.array(texts, pa.binary())]


def _at(column: pa.Array, positions: Rows) -> pa.Array:
    """The values at these positions."""
    return values_at(unpacked(column), positions)


_Test = Callable[[pa.DataType], bool]
_Text = Callable[[pa.Array, Odd, str], Parts]


def _any_of(*tests: _Test) -> _Test:
    return lambda kind: any(test(kind) for test in tests)


_TEXTS: tuple[tuple[_Test, _Text], ...] = (
    (is_document, _json),
    (is_any_string, _string),
    (_any_of(pt.is_boolean, pt.is_integer, pt.is_decimal), _arrow_texts),
    (pt.is_floating, _float),
    (is_moment, _moment),
    (pt.is_struct, _struct),
    (pt.is_map, _map),
    (is_any_list, _list),
    (is_any_binary, _binary),
    (pt.is_duration, _duration),
    (pt.is_interval, _interval),
    (pt.is_union, _union),
)
