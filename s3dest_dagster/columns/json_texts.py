"""JSON texts of one field, row by row, as a string column: made with numpy, not value by value.

The trick: texts joined with 0x1e, a byte that no valid JSON text contains, are one buffer in which every text's bounds
and first byte are found at once. It must not know kinds or rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw
from numpy.typing import NDArray

NOTHING = Raw(b"")
"""The text of a field that is not there."""
ABSENT, TEXT, OTHER = 0, 1, 2
"""What a JSON text is: missing or null; a string; anything else."""

Rows = NDArray[np.int64]
"""Row numbers."""
NO_ROWS: Rows = np.empty(0, np.int64)

SEPARATOR = b"\x1e"
"""A byte that no valid JSON text contains."""
_QUOTE, _N = ord('"'), ord("n")
_as_text = msgspec.json.Decoder(str).decode


class JsonTexts(NamedTuple):
    """`strings` holds a JSON string's plain text, any other value as the source spells it, and null for absent ones;
    `kinds` says per row which of ABSENT, TEXT and OTHER it is."""

    strings: pa.Array
    kinds: NDArray[np.uint8]

    def of_kind(self, kind: int) -> pa.Array:
        """The strings of one kind, null elsewhere."""
        if (self.kinds == kind).all():
            return self.strings
        return pc.if_else(pa.array(self.kinds == kind), self.strings, pa.scalar(None, pa.string()))

    def rows_of(self, kind: int) -> Rows:
        """The rows of one kind."""
        return np.flatnonzero(self.kinds == kind)


def json_texts(raws: Sequence[Any]) -> JsonTexts:
    """The JSON texts (bytes-like, NOTHING where there is none) as a column."""
    if not raws:
        return JsonTexts(pa.array([], pa.string()), np.empty(0, np.uint8))
    joined = SEPARATOR.join(raws) + SEPARATOR
    bytes_ = np.frombuffer(joined, np.uint8)
    ends = np.flatnonzero(bytes_ == SEPARATOR[0])
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    first = bytes_[starts]
    kinds = np.full(len(ends), OTHER, np.uint8)
    kinds[(first == SEPARATOR[0]) | (first == _N)] = ABSENT
    quoted = first == _QUOTE
    kinds[quoted] = TEXT
    keep = bytes_ != SEPARATOR[0]
    keep[starts[quoted]] = False
    keep[ends[quoted] - 1] = False
    strings = _string_array(bytes_[keep], ends - starts - 2 * quoted, kinds != ABSENT)
    return JsonTexts(_unescaped(strings, quoted, raws) if b"\\" in joined else strings, kinds)


def overflow_texts(raws: Sequence[Any], rows: Rows) -> pa.Array:
    """The texts of these rows as they stand in the overflow map."""
    return json_texts([raws[row] for row in rows.tolist()]).strings


def _string_array(data: NDArray[np.uint8], lengths: NDArray[np.int64], valid: NDArray[np.bool_]) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    bitmap = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), len(lengths), [bitmap, pa.py_buffer(offsets), pa.py_buffer(data)])


def _unescaped(strings: pa.Array, quoted: NDArray[np.bool_], raws: Sequence[Any]) -> pa.Array:
    """The strings with JSON's escapes decoded, where a quoted text has any."""
    escaped = pc.fill_null(pc.match_substring(strings, "\\"), False).to_numpy(zero_copy_only=False) & quoted
    if not escaped.any():
        return strings
    decoded = pa.array([_as_text(raws[row]) for row in np.flatnonzero(escaped).tolist()], pa.string())
    return pc.replace_with_mask(strings, pa.array(escaped), decoded)
