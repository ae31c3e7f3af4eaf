"""Bytes handled all at once: rows of binary columns put together without a loop over them, and lookups by byte.

Must not know: what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
"""The bytes of a text as numbers."""
Positions = NDArray[np.int64]
"""Positions in a text, or the numbers of its pieces."""
Parts = list[pa.Array | Bytes | bytes]
"""Binary columns without nulls, byte matrices with one value per row, or a constant for all rows."""


def table_of(members: bytes) -> NDArray[np.bool_]:
    """For each byte whether it is one of the members. Indexed by an array of bytes, it answers for all at once."""
    table = np.zeros(256, np.bool_)
    table[list(members)] = True
    return table


def glued(parts: Parts, rows: int) -> pa.Array:
    """For each row, all its parts as one binary value."""
    runs = [(varies, list(run)) for varies, run in groupby(parts, lambda part: isinstance(part, pa.Array))]
    merged: Any = [part for varies, run in runs for part in (run if varies else [_side_by_side(run, rows)])]
    if all(isinstance(part, bytes) for part in merged):
        return pa.repeat(scalar(b"".join(merged)), rows)
    if len(merged) == 1:
        return merged[0]
    pieces = [scalar(part) if isinstance(part, bytes) else part for part in merged]
    return pc.binary_join_element_wise(*pieces, scalar(b""))


def _side_by_side(parts: Sequence[Any], rows: int) -> pa.Array | bytes:
    """Parts of the same width in every row, as one column; constants alone stay a constant."""
    if all(isinstance(part, bytes) for part in parts):
        return b"".join(parts)
    columns = [np.frombuffer(part, np.uint8)[None, :] if isinstance(part, bytes) else part for part in parts]
    whole = np.empty((rows, sum(column.shape[1] for column in columns)), np.uint8)
    start = 0
    for column in columns:
        end = start + column.shape[1]
        whole[:, start:end] = column
        start = end
    return fixed_width(whole)


def scalar(value: bytes) -> pa.Scalar:
    """A binary scalar."""
    return pa.scalar(value, pa.binary())


def ragged(matrix: NDArray[np.uint8], lengths: NDArray[np.int32]) -> pa.Array:
    """The first `lengths[i]` bytes of each row as a binary array."""
    rows, width = matrix.shape
    ends = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    full = int(ends[-1]) == rows * width
    flat = matrix.reshape(-1) if full else matrix[np.arange(width, dtype=np.int32) < lengths[:, None]]
    return binary_array(ends, pa.py_buffer(np.ascontiguousarray(flat)))


def fixed_width(matrix: NDArray[np.uint8]) -> pa.Array:
    """Each row of a byte matrix as a binary value."""
    rows, width = matrix.shape
    return binary_array(np.arange(rows + 1) * width, pa.py_buffer(np.ascontiguousarray(matrix)))


def bounds(binary: pa.Array) -> NDArray[np.int32]:
    """The offsets of a binary array's values in its value buffer: one more than there are values."""
    buffer = binary.buffers()[1]
    if buffer is None or not len(binary):
        return np.zeros(1, np.int32)
    return np.frombuffer(buffer, np.int32)[binary.offset : binary.offset + len(binary) + 1]


def content(binary: pa.Array) -> memoryview:
    """All values of a binary array, one after the other."""
    ends = bounds(binary)
    return memoryview(binary.buffers()[2] or b"")[ends[0] : ends[-1]]


def binary_array(ends: NDArray[np.integer], values: pa.Buffer | None) -> pa.Array:
    """The values that lie between `ends` in a buffer."""
    offsets = np.ascontiguousarray(ends, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), values or pa.py_buffer(b"")]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def pieces(column: pa.Array) -> list[bytes]:
    """A binary column's values, one by one."""
    ends, texts = bounds(column), content(column)
    widths = np.diff(ends)
    if len(widths) and widths[0] and (widths == widths[0]).all():
        alike: list[bytes] = np.frombuffer(texts, f"V{widths[0]}").tolist()
        return alike
    values = bytes(texts)
    return [values[start:end] for start, end in pairwise((ends - ends[0]).tolist())]
