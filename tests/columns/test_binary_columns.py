"""Rows are assembled from columns of bytes, matrices and constants in any order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.binary_columns import glued, pieces

VALUES = st.binary(max_size=3)


def _part(rows: int) -> st.SearchStrategy[tuple[object, list[bytes]]]:
    """A part, and its value in each row."""
    column = st.lists(VALUES, min_size=rows, max_size=rows)
    matrix = st.integers(0, 3).flatmap(
        lambda width: st.lists(st.binary(min_size=width, max_size=width), min_size=rows, max_size=rows)
    )
    return st.one_of(
        VALUES.map(lambda value: (value, [value] * rows)),
        column.map(lambda values: (pa.array(values, pa.binary()), values)),
        matrix.map(lambda values: (np.frombuffer(b"".join(values), np.uint8).reshape(rows, -1), values)),
    )


@given(st.integers(1, 4).flatmap(lambda rows: st.lists(_part(rows), min_size=1, max_size=6)))
def test_each_row_contains_its_value_of_every_part(parts):
    rows = len(parts[0][1])
    whole = glued([part for part, _ in parts], rows)
    expected = [b"".join(values) for values in zip(*(held for _, held in parts), strict=True)]
    assert whole.to_pylist() == expected
    assert pieces(whole) == expected


@given(st.lists(VALUES) | st.lists(st.binary(min_size=2, max_size=2)), st.integers(0, 2))
def test_the_pieces_of_a_slice_are_the_values_of_the_slice(values, start):
    column = pa.array(values, pa.binary()).slice(start)
    assert pieces(column) == values[start:]
