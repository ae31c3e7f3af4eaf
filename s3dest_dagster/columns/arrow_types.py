"""Arrow data from sources: tests for types regardless of how values are stored, and invalid UTF-8.

Must not know: JSON, kinds, fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.binary_columns import Rows
from s3dest_dagster.errors import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGE = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def unpacked(column: pa.Array) -> pa.Array:
    """The column without dictionaries, run-end encoding and extension types except JSON: the values that they stand
    for."""
    if is_document(column.type):
        return column
    if isinstance(column.type, pa.BaseExtensionType):
        return unpacked(column.storage)
    if pt.is_dictionary(column.type):
        return unpacked(column.dictionary_decode())
    return unpacked(pc.run_end_decode(column)) if pt.is_run_end_encoded(column.type) else column


def is_document(type_: pa.DataType) -> bool:
    """Whether values are JSON documents, stored as their texts (`arrow.json`)."""
    return isinstance(type_, pa.BaseExtensionType) and getattr(type_, "extension_name", "") == "arrow.json"


def is_any_list(type_: pa.DataType) -> bool:
    """Whether values are lists, in any storage type."""
    tests = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return any(test(type_) for test in tests)


def is_any_string(type_: pa.DataType) -> bool:
    """Whether values are texts, in any storage type."""
    return bool(pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_))


def is_any_binary(type_: pa.DataType) -> bool:
    """Whether values are bytes, in any storage type."""
    tests = (pt.is_binary, pt.is_large_binary, pt.is_fixed_size_binary, pt.is_binary_view)
    return any(test(type_) for test in tests)


def as_list_column(column: pa.Array) -> pa.ListArray:
    """A column of lists of any storage type, with 32-bit offsets."""
    if pt.is_list_view(column.type) or pt.is_large_list_view(column.type):
        # Arrow's own cast gives null lists of views offsets without meaning.
        sizes = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), column.flatten(), mask=column.is_null())
    return column if pt.is_list(column.type) else column.cast(pa.list_(column.type.value_type))


def as_pairs(column: pa.MapArray) -> pa.ListArray:
    """A column of maps as lists of structs with the members `key` and `value`."""
    pair = pa.struct([pa.field("key", column.type.key_type), pa.field("value", column.type.item_type)])
    return column.cast(pa.list_(pair))


def values_at(column: pa.Array, positions: Rows) -> pa.Array:
    """The values at these positions, of the same type.

    Arrow's own `take` knows no views of texts, which Polars hands over, and no run-end encoding, at no depth.
    """
    large = _LARGE.get(column.type)
    if large is not None:
        return column.cast(large).take(pa.array(positions)).cast(column.type)
    try:
        return column.take(pa.array(positions))
    except pa.ArrowNotImplementedError:
        starts = np.flatnonzero(np.diff(positions, prepend=-2) != 1).tolist()
        spans = zip(starts, [*starts[1:], len(positions)], strict=False)
        return pa.concat_arrays(
            [column.slice(positions[start], end - start) for start, end in spans] or [column.slice(0, 0)]
        )


def union_positions(column: pa.UnionArray) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """The code of the child that holds each row's value, and the value's position in this child."""
    buffers, rows = column.buffers(), slice(column.offset, column.offset + len(column))
    # These come from the buffers, since pyarrow's views of them ignore the offset of a slice.
    codes = np.frombuffer(buffers[1], np.int8)[rows]
    if column.type.mode == "sparse":
        return codes, np.arange(len(column), dtype=np.int32)
    return codes, np.frombuffer(buffers[2], np.int32)[rows]


def is_moment(type_: pa.DataType) -> bool:
    """Whether values are dates, times or timestamps."""
    return bool(pt.is_date(type_) or pt.is_time(type_) or pt.is_timestamp(type_))


def integers(column: pa.Array) -> pa.Array:
    """The stored integers as int64, in the unit of the type."""
    if pt.is_date32(column.type) or pt.is_time32(column.type):
        column = column.cast(pa.int32())
    return column.cast(pa.int64())


def refuse_repeated_names(type_: pa.Schema | pa.StructType) -> None:
    """Raises RecordError if two columns of a schema, or two fields of a struct, have the same name."""
    names = [field.name for field in type_]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError(
            f"Two Arrow columns are called {twice!r}; a record has each field once. Rename one of them in the source."
        )


def refuse_invalid_utf8(data: pa.RecordBatch) -> None:
    """Raises RecordError if a text is not valid UTF-8. It names the field's dotted path and the record's number."""
    for name, column in zip(data.schema.names, data.columns, strict=True):
        _refuse_in(column, name, np.arange(len(column)))


def _refuse_in(column: pa.Array, path: str, records: Rows) -> None:
    """`records` has the batch's row for each value."""
    if pt.is_primitive(column.type):
        return
    column = unpacked(column.storage if is_document(column.type) else column)
    if pt.is_struct(column.type):
        for field, child in zip(column.type, column.flatten(), strict=True):
            _refuse_in(child, f"{path}.{field.name}", records)
    elif pt.is_map(column.type):
        for part in as_pairs(column).flatten().flatten():
            _refuse_in(part, path, _of_items(as_pairs(column), records))
    elif is_any_list(column.type):
        lists = as_list_column(column)
        _refuse_in(lists.flatten(), f"{path}[]", _of_items(lists, records))
    elif pt.is_union(column.type) and column.type.mode == "sparse":
        for number in range(column.type.num_fields):
            _refuse_in(column.field(number), path, records)
    elif is_any_string(column.type):
        _refuse_texts(column, path, records)


def _of_items(column: pa.ListArray, records: Rows) -> Rows:
    return np.repeat(records, column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))


def _refuse_texts(column: pa.Array, path: str, records: Rows) -> None:
    # Offsets of this width need no copy.
    contents = column.cast(pa.binary() if pt.is_string(column.type) else pa.large_binary())
    try:
        contents.cast(pa.string() if pt.is_string(column.type) else pa.large_string())
    except pa.ArrowInvalid:
        row = next(row for row, text in enumerate(contents.to_pylist()) if not _is_utf8(text or b""))
        raise RecordError(
            f"Field {path!r} holds a text that is not valid UTF-8 in record {records[row] + 1} of a batch (half of a "
            "surrogate pair is no UTF-8 either). Decode it in the source with the encoding that it has, or make the "
            "column binary."
        ) from None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
