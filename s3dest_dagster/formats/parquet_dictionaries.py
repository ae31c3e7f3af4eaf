"""Which columns of a Parquet file are written with dictionaries: those whose values repeat.

pyarrow abandons a dictionary only when it has outgrown its page. Until then, pyarrow looks up every value. For ids,
amounts and moments this costs more than everything else that it does with them, and the file becomes larger.
Must not know: records, settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isqrt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.retyping import children

_EXPECTED_REPEATS = 32
"""So many repeated values are expected in a sample from a column that has twice as many values as its dictionary may
have. A column with half of them would have twice as many, which chance does not hide."""
_NARROWEST = 4
"""The bytes of the narrowest values whose dictionary can outgrow a page of usual size."""
_ROWS_PER_SAMPLE = 4
"""Smaller row groups are not sampled, since that would cost as much as it saves."""


def dictionary_columns(rows: pa.Table, page_bytes: int, *, unique: Iterable[str] = ()) -> list[str]:
    """The paths in the file of the columns to write with dictionaries. Equal rows have equal results.

    A column goes without if a sample of its values shows that its dictionary will not fit into its page, or would have
    about as many values as the column. Nested columns always have dictionaries.

    Args:
        rows: The rows of the first row group.
        page_bytes: The size at which a dictionary ends.
        unique: The names of columns whose values never repeat.
    """
    without = {*unique, *_varied(rows, page_bytes)}
    return [
        path for field in rows.schema if field.name not in without for path in _column_paths(field.type, field.name)
    ]


def _varied(rows: pa.Table, page_bytes: int) -> Iterator[str]:
    """Yields the names of the columns whose values hardly repeat."""
    size = isqrt(2 * 2 * page_bytes // _NARROWEST * _EXPECTED_REPEATS)
    if rows.num_rows < _ROWS_PER_SAMPLE * size:
        return
    flat = [field.name for field in rows.schema if not pt.is_nested(field.type) and not pt.is_boolean(field.type)]
    sample = _sample(rows.select(flat), size)
    for name in flat:
        values = sample.column(name).drop_null()
        if len(values) > size // 2 and _is_varied(values, rows.num_rows, page_bytes):
            yield name


def _sample(rows: pa.Table, size: int) -> pa.Table:
    """Rows from all parts of the table, by chance, but the same every time."""
    random, share = np.random.default_rng(0), size / rows.num_rows
    return pa.Table.from_batches(
        [batch.take(pa.array(np.flatnonzero(random.random(batch.num_rows) < share))) for batch in rows.to_batches()],
        rows.schema,
    )


def _is_varied(sample: pa.ChunkedArray, rows: int, page_bytes: int) -> bool:
    """Whether the sample comes from a column, of so many rows, for which a dictionary is of no use.

    Of `n` values drawn from `d` equally frequent ones, about `n² / 2d` repeat an earlier one. If some are more frequent
    than others, more are repeated, and the column seems to have fewer values than it has.
    """
    drawn = len(sample)
    repeated = drawn - pc.count_distinct(sample).as_py()
    seen = drawn * drawn / (2 * repeated) if repeated else np.inf
    width = sample.nbytes / drawn
    return bool(min(seen, rows) * width > 2 * page_bytes or seen > 10 * rows)


def _column_paths(type_: pa.DataType, path: str) -> list[str]:
    """The paths in the file of the columns of values in a column."""
    if pt.is_map(type_):
        keys = _column_paths(type_.key_type, f"{path}.key_value.key")
        return keys + _column_paths(type_.item_type, f"{path}.key_value.value")
    if pt.is_list(type_):
        return _column_paths(type_.value_type, f"{path}.list.element")
    if pt.is_struct(type_):
        return [each for field in children(type_) for each in _column_paths(field.type, f"{path}.{field.name}")]
    return [path]
