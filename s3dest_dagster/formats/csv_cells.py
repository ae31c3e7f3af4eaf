"""JSON texts of many fields rewritten as CSV cells, all at once; what is a cell already is never touched alone.

It must not know records, types or names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3dest_dagster.columns.binary_columns import Bytes, Places, binary_array
from s3dest_dagster.formats.json_rows import compact_lines

_BACKSLASH = ord("\\")
_NULL = b"null"
_NUL = "\0"
_as_texts = msgspec.json.Decoder(list[str]).decode


def quoted(text: bytes) -> bytes:
    """A text as a cell, whatever stands in it."""
    return b'"' + text.replace(b'"', b'""') + b'"'


def cell_rows(texts: Bytes, breaks: Places, columns: int) -> pa.Array:
    """The cells of each record as one binary value, a comma before every cell.

    `texts` are JSON texts, record by record, of as many `columns` each: every one behind a line break, with one more
    line break at the end; `breaks` is where these stand. A number, a boolean and a string without escapes are their own
    cell; null and what is absent become an empty one; strings with escapes become their characters, nested values
    compact JSON, both quoted.
    """
    first = texts[breaks[:-1] + 1]
    nested = (first == ord("{")) | (first == ord("["))
    cells, breaks = _without_nulls(texts, breaks, np.flatnonzero(first == _NULL[0]))
    escaped = _with_backslash(cells, breaks) & ~nested
    cells[breaks] = ord(",")
    places = np.flatnonzero(nested | escaped)
    if not len(places):
        return binary_array(breaks[::columns], pa.py_buffer(cells))
    starts, ends = breaks[places] + 1, breaks[places + 1]
    whole = cells.tobytes()
    values = [whole[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    _rewrite(values, np.flatnonzero(nested[places]), _nested_cells)
    _rewrite(values, np.flatnonzero(escaped[places]), _escaped_cells)
    growth = np.zeros(len(breaks), np.int64)
    growth[places + 1] = np.fromiter(map(len, values), np.int64) - (ends - starts)
    row_ends = (breaks + np.cumsum(growth))[::columns]
    return binary_array(row_ends, pa.py_buffer(_replaced(whole, starts, ends, values)))


def _without_nulls(texts: Bytes, breaks: Places, nulls: Places) -> tuple[Bytes, Places]:
    """A copy of the texts with those of these numbers emptied, and its line breaks."""
    if not len(nulls):
        return texts.copy(), breaks
    keep = np.ones(len(texts), np.bool_)
    starts = breaks[nulls]
    for place in range(len(_NULL)):
        keep[starts + place + 1] = False
    gone = np.zeros(len(breaks), np.int64)
    gone[nulls + 1] = len(_NULL)
    return texts[keep], breaks - np.cumsum(gone)


def _with_backslash(texts: Bytes, breaks: Places) -> NDArray[np.bool_]:
    """Which of the texts have a backslash."""
    found = np.zeros(len(breaks) - 1, np.bool_)
    found[np.searchsorted(breaks, np.flatnonzero(texts == _BACKSLASH)) - 1] = True
    return found


def _rewrite(values: list[bytes], places: Places, rewritten: Callable[[list[bytes]], list[bytes]]) -> None:
    """Puts other texts into these places."""
    if not len(places):
        return
    numbers = places.tolist()
    for number, value in zip(numbers, rewritten([values[number] for number in numbers]), strict=True):
        values[number] = value


def _nested_cells(values: Sequence[bytes]) -> list[bytes]:
    return _all_quoted(compact_lines(values), b"\n")


def _escaped_cells(values: Sequence[bytes]) -> list[bytes]:
    texts = _as_texts(b"[%b]" % b",".join(values))
    joined = _NUL.join(texts)
    if joined.count(_NUL) >= len(texts):
        return [quoted(text.encode()) for text in texts]
    return _all_quoted(joined.encode(), _NUL.encode())


def _all_quoted(texts: bytes, between: bytes) -> list[bytes]:
    """Texts with a byte between them that none of them holds, each as a cell."""
    return quoted(texts).replace(between, b'"%b"' % between).split(between)


def _replaced(text: bytes, starts: Places, ends: Places, by: Sequence[bytes]) -> bytes:
    """The text with other bytes in these places, which come one after the other."""
    kept = zip([0, *ends.tolist()], [*starts.tolist(), len(text)], strict=True)
    parts = [b""] * (2 * len(by) + 1)
    parts[0::2] = [text[start:end] for start, end in kept]
    parts[1::2] = by
    return b"".join(parts)
