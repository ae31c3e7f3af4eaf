"""Columns of bytes and of JSON texts, which are joined and split without a loop over values.

`json_texts` makes a column of the JSON texts of one field. `members_of` splits an object into names and exact texts.
Must not know: kinds of values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
"""The bytes of a text as numbers."""
Positions = NDArray[np.int64]
"""Positions in a text, or the numbers of its pieces."""
Parts = list[pa.Array | Bytes | bytes]
"""Binary columns without nulls, byte matrices with one value per row, or a constant for all rows."""

_LAST_OFFSET = 2**31 - 1


def table_of(members: bytes) -> NDArray[np.bool_]:
    """A table that says for every byte whether it is one of the members. It can be indexed by an array of bytes."""
    table = np.zeros(256, np.bool_)
    table[list(members)] = True
    return table


def glued(parts: Parts, rows: int) -> pa.Array:
    """All parts of a row as one binary value, for every row."""
    runs = [(varies, list(run)) for varies, run in groupby(parts, lambda part: isinstance(part, pa.Array))]
    merged: Any = [part for varies, run in runs for part in (run if varies else [_side_by_side(run, rows)])]
    if all(isinstance(part, bytes) for part in merged):
        return pa.repeat(scalar(b"".join(merged)), rows)
    if len(merged) == 1:
        return merged[0]
    pieces = [scalar(part) if isinstance(part, bytes) else part for part in merged]
    return pc.binary_join_element_wise(*pieces, scalar(b""))


def _side_by_side(parts: Sequence[Any], rows: int) -> pa.Array | bytes:
    """Parts that have the same width in every row, as one column. If all are constants, the result is a constant."""
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
    """The offsets of a binary array's values in its value buffer, and the end of the last one."""
    buffer = binary.buffers()[1]
    if buffer is None or not len(binary):
        return np.zeros(1, np.int32)
    return np.frombuffer(buffer, np.int32)[binary.offset : binary.offset + len(binary) + 1]


def content(binary: pa.Array) -> memoryview:
    """All values of a binary array, concatenated."""
    ends = bounds(binary)
    return memoryview(binary.buffers()[2] or b"")[ends[0] : ends[-1]]


def replaced(column: pa.Array, replacements: Mapping[int, bytes]) -> pa.Array:
    """A binary column with texts in place of some bytes, and without its nulls, whose values have no meaning.

    Args:
        column: The column.
        replacements: The texts by the byte that they replace. No text has a byte that is replaced after it.
    """
    ends = bounds(column).astype(np.int64)
    ends -= ends[0]
    before = np.frombuffer(content(column), np.uint8)
    grown, after = ends, bytes(before)
    for byte, text in replacements.items():
        if bytes((byte,)) in after:
            grown = grown + (len(text) - 1) * np.searchsorted(np.flatnonzero(before == byte), ends)
            after = after.replace(bytes((byte,)), text)
    return binary_array(grown, pa.py_buffer(after)) if grown is not ends else column


def binary_array(ends: NDArray[np.integer], values: pa.Buffer | None) -> pa.Array:
    """The values that lie between `ends` in a buffer. Raises ArrowCapacityError beyond the range of 32 bits."""
    if ends[-1] > _LAST_OFFSET:
        raise pa.ArrowCapacityError(f"The values of a column have {ends[-1]} bytes in one batch; 2 GiB are too many.")
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


Member = tuple[str, bytes]
"""A name and the text of its value."""
MEMBER_OVERHEAD = 4
"""Characters of a member besides name and value: two quotes, a colon, a comma or brace."""

Mask = NDArray[np.bool_]
"""One boolean for each row."""
Rows = NDArray[np.int64]
"""Row numbers."""
NO_ROWS: Rows = np.empty(0, np.int64)
NOTHING = Raw(b"")
"""The text of a field that is missing."""
ABSENT, TEXT, OTHER = 0, 1, 2
"""The kinds of JSON texts: missing or null; a string; anything else."""
SEPARATOR = b"\x1e"
"""A byte that no valid JSON text contains."""
QUOTE: Final = ord('"')
_N = ord("n")

as_text: Callable[[bytes], str] = msgspec.json.Decoder(str).decode
as_object: Callable[[bytes], dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw]).decode
as_list: Callable[[bytes], list[Raw]] = msgspec.json.Decoder(list[Raw]).decode

# Numbers stay texts, since Python refuses integers of more than 4,300 digits.
_decoder = json.JSONDecoder(parse_int=str, parse_float=str)
_BETWEEN = re.compile(r"[ \t\r\n,:]*")


def members_of(text: bytes) -> tuple[dict[str, Raw], Sequence[Member]]:
    """The members of an object, and the earlier values of repeated names.

    The members have the last value of a repeated name. Earlier nulls are left out.
    """
    members = as_object(text)
    if _is_all(members, text):
        return members, ()
    compact = msgspec.json.format(text, indent=-1)
    if len(compact) < len(text) and _is_all(as_object(compact), compact):
        return members, ()
    pairs = pairs_of(text)
    last = {name: position for position, (name, _) in enumerate(pairs)}
    earlier = [pair for position, pair in enumerate(pairs) if last[pair[0]] != position]
    return members, [(name, value) for name, value in earlier if value != b"null"]


def pairs_of(text: bytes) -> list[Member]:
    """Every member of an object in the source's order, including those with repeated names."""
    source, pairs = text.decode(), []
    position = _next(source, 1)
    while source[position] != "}":
        name, end = _decoder.raw_decode(source, position)
        start = _next(source, end)
        _, end = _decoder.raw_decode(source, start)
        pairs.append((name, source[start:end].encode()))
        position = _next(source, end)
    return pairs


def all_members(text: bytes) -> Iterable[tuple[str, bytes | Raw]]:
    """Every member of an object in the source's order, those with repeated names, too."""
    members = as_object(text)
    if size_of(members) + 1 == len(text):
        return members.items()
    return pairs_of(text)


def object_of(members: Iterable[tuple[str, bytes | Raw]]) -> bytes:
    """The JSON text of an object with these members, in the given order."""
    return b"{%b}" % b",".join(msgspec.json.encode(name) + b":" + bytes(value) for name, value in members)


def size_of(members: Mapping[str, Raw]) -> int:
    """The length of these members in a text without blanks, and without escapes in names."""
    names = "".join(members)
    size = len(names) if names.isascii() else len(names.encode())
    return size + sum(map(len, members.values())) + MEMBER_OVERHEAD * len(members)


def _is_all(members: Mapping[str, Raw], text: bytes) -> bool:
    """Whether a text without blanks, and without escapes in names, has only these members."""
    return size_of(members) + 1 == len(text)


def _next(source: str, position: int) -> int:
    """The position of the next name, value or closing brace."""
    found = _BETWEEN.match(source, position)
    assert found is not None, "the pattern matches nothing too"
    return found.end()


class JsonTexts(NamedTuple):
    """JSON texts as a column."""

    strings: pa.Array
    """The plain text of a JSON string; any other value as the source spells it; null for an absent value."""
    kinds: NDArray[np.uint8]
    """ABSENT, TEXT or OTHER for each row."""

    def of_kind(self, kind: int) -> pa.Array:
        """The strings of one kind, null elsewhere."""
        return self.where(self.kinds == kind)

    def where(self, rows: Mask) -> pa.Array:
        """The strings of these rows, null elsewhere."""
        return strings_where(self.strings, rows)

    def rows_of(self, kind: int) -> Rows:
        """The rows of one kind."""
        return np.flatnonzero(self.kinds == kind)


def json_texts(raws: Sequence[Any]) -> JsonTexts:
    """The JSON texts (bytes-like, NOTHING for a missing one) as a column."""
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
    quoted = first == QUOTE
    kinds[quoted] = TEXT
    keep = bytes_ != SEPARATOR[0]
    keep[starts[quoted]] = False
    keep[ends[quoted] - 1] = False
    strings = _string_array(bytes_[keep], ends - starts - 2 * quoted, kinds != ABSENT)
    return JsonTexts(_unescaped(strings, quoted, raws) if b"\\" in joined else strings, kinds)


def _string_array(data: NDArray[np.uint8], lengths: NDArray[np.int64], valid: NDArray[np.bool_]) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    bitmap = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), len(lengths), [bitmap, pa.py_buffer(offsets), pa.py_buffer(data)])


def _unescaped(strings: pa.Array, quoted: NDArray[np.bool_], raws: Sequence[Any]) -> pa.Array:
    """The strings with the escapes of JSON strings decoded."""
    escaped = pc.fill_null(pc.match_substring(strings, "\\"), False).to_numpy(zero_copy_only=False) & quoted
    if not escaped.any():
        return strings
    decoded = pa.array([as_text(raws[row]) for row in np.flatnonzero(escaped).tolist()], pa.string())
    return pc.replace_with_mask(strings, pa.array(escaped), decoded)


def strings_where(strings: pa.Array, rows: Mask) -> pa.Array:
    """The strings of these rows, null elsewhere."""
    return strings if rows.all() else pc.if_else(pa.array(rows), strings, pa.scalar(None, pa.string()))


def mask_of(booleans: pa.Array) -> Mask:
    """A boolean column as a mask that is false for null."""
    mask: Mask = pc.fill_null(booleans, False).to_numpy(zero_copy_only=False)
    return mask
