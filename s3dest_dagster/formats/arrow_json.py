"""Arrow columns → JSON texts, exactly and column by column. It must not know what the texts are for.

Numbers are written so that reading gives the same number; dates, times and timestamps in ISO 8601 (a zoned timestamp
in UTC with "Z", one without a zone without); binary as base64; durations as a count of their unit; a map with text keys
as an object, any other as a list of pairs. Nulls are written. NaN and the infinities have no JSON text and are refused,
and so are dates and timestamps outside the years 1 to 9999, times outside of a day, and texts that are not UTF-8.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.batch import Batch, JsonBatch
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats.binary_columns import Parts, content, glued, scalar
from s3dest_dagster.formats.text import pieces
from s3dest_dagster.schema.arrow_moments import beyond_range, integers, is_moment, iso_texts
from s3dest_dagster.schema.arrow_texts import as_list_column, is_any_binary, is_any_list, is_any_string, unpacked
from s3dest_dagster.schema.arrow_utf8 import refuse_invalid_utf8

_NULL = b"null"
_NEEDS_ESCAPE = np.array([code < 0x20 or chr(code) in '"\\' for code in range(256)])


def json_texts(batch: Batch) -> Sequence[bytes]:
    """A batch's records as JSON texts: a JSON batch's own, or those of its Arrow rows.

    Raises RecordError for a value without a JSON text, naming its field.
    """
    if isinstance(batch, JsonBatch):
        return batch.raws
    if len(set(batch.data.schema.names)) < batch.data.num_columns:
        raise RecordError(
            f"Two Arrow columns have the same name, among {sorted(batch.data.schema.names)}; a record has each once. "
            "Rename one of them in the source."
        )
    refuse_invalid_utf8(batch.data)
    return pieces(_objects(batch.data.schema.names, batch.data.columns, batch.num_rows, ""))


def _objects(names: Sequence[str], columns: Sequence[pa.Array], rows: int, path: str) -> pa.Array:
    parts: Parts = [b"{"]
    for number, (name, column) in enumerate(zip(names, columns, strict=True)):
        parts += [(b"," if number else b"") + msgspec.json.encode(name) + b":", _text(column, _inside(path, name))]
    return glued([*parts, b"}"], rows)


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _text(column: pa.Array, path: str) -> pa.Array:
    """The JSON text of each value, "null" for nulls."""
    column = unpacked(column)
    if column.null_count == len(column):
        return pa.repeat(scalar(_NULL), len(column))
    for belongs, text in _TEXTS:
        if belongs(column.type):
            written = text(column, path)
            return pc.if_else(column.is_valid(), written, scalar(_NULL)) if column.null_count else written
    raise RecordError(
        f"Field {path!r} has the Arrow type {column.type}, for which there is no JSON text. Cast it in the source.",
    )


def _plain(column: pa.Array, path: str) -> pa.Array:
    """Booleans, integers and decimals: Arrow's text is JSON's."""
    return column.cast(pa.string()).cast(pa.binary()).fill_null(_NULL)


def _float(column: pa.Array, path: str) -> pa.Array:
    column = column.cast(pa.float32()) if pt.is_float16(column.type) else column
    if pc.any(pc.invert(pc.is_finite(column))).as_py():
        row = pc.index(pc.fill_null(pc.is_finite(column), True), False).as_py()
        raise RecordError(
            f"Field {path!r} is {column[row].as_py()} in record {row + 1} of a batch; JSON has no such number. "
            "Make it null or a text in the source, or land the stream in Avro or Parquet."
        )
    return _plain(column, path)


def _duration(column: pa.Array, path: str) -> pa.Array:
    return _plain(column.cast(pa.int64()), path)


def _string(column: pa.Array, path: str) -> pa.Array:
    values = column.cast(pa.string()).cast(pa.binary()).fill_null(b"")
    if not _NEEDS_ESCAPE[np.frombuffer(content(values), np.uint8)].any():
        return glued([b'"', values, b'"'], len(column))
    return pa.array([msgspec.json.encode(value) for value in column.to_pylist()], pa.binary())


def _binary(column: pa.Array, path: str) -> pa.Array:
    return pa.array([b'"%b"' % b64encode(value or b"") for value in column.to_pylist()], pa.binary())


def _moment(column: pa.Array, path: str) -> pa.Array:
    """Dates, times and timestamps; their texts need no escape."""
    row = pc.index(beyond_range(column), True).as_py()
    if row >= 0:
        bounds = "00:00 to 24:00" if pt.is_time(column.type) else "the years 1 to 9999"
        raise RecordError(
            f"Field {path!r} is {integers(column)[row].as_py()} as {column.type} in record {row + 1} of a batch, which "
            f"lies outside {bounds} and has no ISO 8601 text. "
            "Make it null or an integer in the source, or land the stream in Avro or Parquet."
        )
    return glued([b'"', iso_texts(column).cast(pa.binary()).fill_null(b""), b'"'], len(column))


def _list(column: pa.Array, path: str) -> pa.Array:
    plain = as_list_column(column)
    return _sequence(b"[", plain, _text(plain.flatten(), f"{path}[]"), b"]")


def _map(column: pa.Array, path: str) -> pa.Array:
    pair = pa.struct([pa.field("key", column.type.key_type), pa.field("value", column.type.item_type)])
    pairs = column.cast(pa.list_(pair))
    flat = pairs.flatten()
    keys, values = _text(flat.field(0), path), _text(flat.field(1), path)
    if is_any_string(column.type.key_type):
        return _sequence(b"{", pairs, glued([keys, b":", values], len(flat)), b"}")
    return _sequence(b"[", pairs, glued([b"[", keys, b",", values, b"]"], len(flat)), b"]")


def _sequence(start: bytes, column: pa.ListArray, items: pa.Array, end: bytes) -> pa.Array:
    """The items' texts, joined by commas; `items` are those of all rows together."""
    sizes = pc.list_value_length(column).fill_null(0).to_numpy()
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes, dtype=np.int32)])
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends), items), scalar(b","))
    return glued([start, joined, end], len(column))


def _struct(column: pa.StructArray, path: str) -> pa.Array:
    return _objects([field.name for field in column.type], column.flatten(), len(column), path)


_Test = Callable[[pa.DataType], bool]
_Text = Callable[[pa.Array, str], pa.Array]


def _any_of(*tests: _Test) -> _Test:
    return lambda kind: any(test(kind) for test in tests)


_TEXTS: tuple[tuple[_Test, _Text], ...] = (
    (is_any_string, _string),
    (_any_of(pt.is_boolean, pt.is_integer, pt.is_decimal), _plain),
    (pt.is_floating, _float),
    (is_moment, _moment),
    (pt.is_struct, _struct),
    (pt.is_map, _map),
    (is_any_list, _list),
    (is_any_binary, _binary),
    (pt.is_duration, _duration),
)
