"""Arrow data of any library as batches.

It knows pyarrow and the Arrow C interfaces; it must not know streams or schemas of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.errors import RecordError

ARROW_BATCH_BYTES = 4 << 20
"""Arrow columns are sliced to about this size: larger than JSON, since nothing of them is parsed."""


def is_arrow(data: object) -> bool:
    """Whether the object offers Arrow data: pyarrow, polars, pandas from 2.2, a DuckDB relation, ADBC, …"""
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


def arrow_batches(data: Any, *, emitted_at: Callable[[], int]) -> Iterator[ArrowBatch]:
    """Yield the rows as slices of about 4 MB, without copying and without reading ahead; empty data yields nothing.

    Text and binary columns in Arrow's view layouts become their plain kin, which every reader knows; all other types
    stay, and so does a dictionary of such texts within a list or struct. Raises RecordError for a single column.
    """
    for record_batch in _record_batches(data):
        plain = _without_views(record_batch)
        rows = max(1, plain.num_rows * ARROW_BATCH_BYTES // max(1, plain.nbytes))
        for start in range(0, plain.num_rows, rows):
            piece = plain.slice(start, rows)
            yield ArrowBatch(piece, np.full(piece.num_rows, emitted_at(), np.int64))


def _record_batches(data: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        return iter([data])
    try:
        if hasattr(data, "__arrow_c_stream__"):
            return iter(pa.RecordBatchReader.from_stream(data))
        return iter([pa.record_batch(data)])
    except (pa.ArrowInvalid, TypeError) as error:
        raise RecordError(
            f"{type(data).__name__} is Arrow data, but no table: {error}. Give a table or record batches."
        ) from None


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [_without_view(column) for column in batch.columns]
    fields = [each.with_type(column.type) for each, column in zip(batch.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, batch.schema.metadata))


def _without_view(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type) and _plain(column.type.value_type) != column.type.value_type:
        # Arrow cannot cast these as a whole.
        return pa.DictionaryArray.from_arrays(column.indices, _without_view(column.dictionary))
    plain = _plain(column.type)
    return column if plain.equals(column.type) else column.cast(plain)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with large_string for string_view and large_binary for binary_view, at any depth."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_plain(each.type)) for each in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), kind.item_field.with_type(_plain(kind.item_type)), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_values(kind), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_values(kind))
    return pa.list_(_plain_values(kind)) if pa.types.is_list(kind) else kind


def _plain_values(kind: pa.DataType) -> pa.Field:
    return kind.value_field.with_type(_plain(kind.value_type))
