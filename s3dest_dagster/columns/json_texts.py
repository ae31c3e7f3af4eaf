"""JSON texts taken apart into members and items, and JSON texts of one field as a string column.

JSON lets a name stand twice in one object, and decoders keep the last value without a word. `members_of` gives the
earlier ones too; that there are none is seen by the length of the text.

Columns are built with numpy, not value by value. Texts joined with 0x1e, a byte that no valid JSON text contains, are
one buffer in which the bounds and the first byte of every text are found at once. Must not know: kinds, rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw
from numpy.typing import NDArray

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
"""What a JSON text is: missing or null; a string; anything else."""
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
    """The members of an object, with the last value of a repeated name; and earlier values of such names, nulls left
    out."""
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
    """Every member of an object in the source's order, also those of repeated names."""
    source, pairs = text.decode(), []
    position = _next(source, 1)
    while source[position] != "}":
        name, end = _decoder.raw_decode(source, position)
        start = _next(source, end)
        _, end = _decoder.raw_decode(source, start)
        pairs.append((name, source[start:end].encode()))
        position = _next(source, end)
    return pairs


def object_of(members: Iterable[tuple[str, bytes | Raw]]) -> bytes:
    """The JSON text of an object with these members, in their order."""
    return b"{%b}" % b",".join(msgspec.json.encode(name) + b":" + bytes(value) for name, value in members)


def size_of(members: Mapping[str, Raw]) -> int:
    """The length of these members in a text without blanks or escapes in names."""
    names = "".join(members)
    size = len(names) if names.isascii() else len(names.encode())
    return size + sum(map(len, members.values())) + MEMBER_OVERHEAD * len(members)


def _is_all(members: Mapping[str, Raw], text: bytes) -> bool:
    """Whether a text without blanks or escapes in names has these members only."""
    return size_of(members) + 1 == len(text)


def _next(source: str, position: int) -> int:
    """Where the next name, value or closing brace begins."""
    found = _BETWEEN.match(source, position)
    assert found is not None, "the pattern matches nothing too"
    return found.end()


class JsonTexts(NamedTuple):
    """JSON texts as a column."""

    strings: pa.Array
    """The plain text of a JSON string, any other value as the source spells it, null for absent ones."""
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
    """The JSON texts (bytes-like, NOTHING if there is none) as a column."""
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
    """A boolean column as a mask, false for null."""
    mask: Mask = pc.fill_null(booleans, False).to_numpy(zero_copy_only=False)
    return mask
