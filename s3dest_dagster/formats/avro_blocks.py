"""Arrow columns → the bodies of Avro blocks, byte for byte what a record-by-record Avro writer gives, without its loop.

Every column becomes a few binary columns ("parts") that hold, row by row, its Avro bytes; gluing all parts of a row
together gives the row's record, and the glued column's value buffer is the block's body. The columns come in
`Layout.AVRO`, whose struct members are the union's branches in order. It must not know files, codecs or JSON.

Binary encoding: https://avro.apache.org/docs/1.11.1/specification/#binary-encoding
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.columns.binary_columns import Parts, binary_array, bounds, glued, ragged, scalar
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.scalar import STRING

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES = 64_000
"""A block ends with the record that fills it to this many bytes before compression, as in Java's DataFileWriter."""

_NULL_BRANCH = b"\0"
_END = b"\0"
_TABLE_LIMIT = 1 << 12
_MAP_AS_LIST = pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.string())]))


def record_rows(
    record: Record, columns: Sequence[pa.Array], ids: NDArray[np.uint8], emitted_at: NDArray[np.int64]
) -> pa.Array:
    """One binary value per record: the envelope (`ids` of shape (n, 36)), the fields, and the overflow map last."""
    rows, width = ids.shape
    envelope: Parts = [varint(width), ids, ragged(*_varints(emitted_at))]
    return glued(envelope + _record_parts(record, columns), rows)


def blocks(rows: pa.Array) -> Iterator[tuple[int, memoryview]]:
    """The records cut into blocks of `BLOCK_BYTES` or just above: number of records and body, in order."""
    ends = bounds(rows)
    body = memoryview(rows.buffers()[2] or b"")
    start = 0
    while start < len(rows):
        full = int(np.searchsorted(ends, ends[start] + BLOCK_BYTES))
        end = min(max(full, start + 1), len(rows))
        yield end - start, body[ends[start] : ends[end]]
        start = end


def varint(number: int) -> bytes:
    """A number as Avro's long: zigzag, seven bits a byte, lowest first."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _record_parts(record: Record, columns: Sequence[pa.Array]) -> Parts:
    *fields, overflow = columns
    parts: Parts = []
    for field, column in zip(record.fields, fields, strict=True):
        parts += _nullable(field.kind, column)
    return parts + _map(overflow, branch=varint(1), absent=_NULL_BRANCH)


def _nullable(kind: Kind, column: pa.Array) -> Parts:
    """A union of null and the branches of `kind`."""
    if not kind.as_branches():
        return []  # plain "null", no union: it has no bytes
    if pa.types.is_struct(column.type) and not isinstance(kind, Record):
        return _branches(kind, column)
    return _value(kind, column, branch=varint(1), absent=_NULL_BRANCH)


def _branches(kind: Kind, column: pa.StructArray) -> Parts:
    """A union of several branches; the struct's members hold them in order, at most one of them set."""
    members = column.flatten()
    kinds = kind.as_branches()
    kinds += (STRING,) * (len(members) - len(kinds))  # the fallback for texts that are no date
    used = [number for number, member in enumerate(members) if member.null_count < len(member)]
    if not used:
        return [_NULL_BRANCH]
    if len(used) == 1:
        number = used[0]
        return _value(kinds[number], members[number], branch=varint(number + 1), absent=_NULL_BRANCH)
    parts: Parts = []
    for number in used:
        parts += _value(kinds[number], members[number], branch=varint(number + 1), absent=b"")
    set_somewhere = [members[number].is_valid() for number in used]
    nothing_set = pc.invert(reduce(pc.or_, set_somewhere))
    return [*parts, pc.if_else(nothing_set, scalar(_NULL_BRANCH), scalar(b""))]


def _value(kind: Kind, column: pa.Array, *, branch: bytes, absent: bytes) -> Parts:
    """`branch` and the value where there is one, `absent` where it is null."""
    if isinstance(kind, Record):
        return _record(kind, column, branch, absent)
    if isinstance(kind, Array):
        return _list(kind, column, branch, absent)
    column = kind.avro_storage(column)
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        return _texts(column, branch, absent)
    if pa.types.is_floating(column.type):
        return [_floats(column, branch, absent)]
    if pa.types.is_boolean(column.type):
        return [_booleans(column, branch, absent)]
    return [_longs(column, branch, absent)]


def _record(record: Record, column: pa.StructArray, branch: bytes, absent: bytes) -> Parts:
    members = [column.field(number) for number in range(column.type.num_fields)]
    parts = [branch, *_record_parts(record, members)]
    if not column.null_count:
        return parts
    return [pc.if_else(column.is_valid(), glued(parts, len(column)), scalar(absent))]


def _list(kind: Array, column: pa.ListArray, branch: bytes, absent: bytes) -> Parts:
    items = column.flatten()
    return _sequence(column, glued(_nullable(kind.item, items), len(items)), branch, absent)


def _map(column: pa.MapArray, *, branch: bytes, absent: bytes) -> Parts:
    """A map of texts; its keys and values have no nulls."""
    if column.null_count == len(column):
        return [absent]
    pairs = column.cast(_MAP_AS_LIST)
    flat = pairs.flatten()
    entries = _texts(flat.field(0), b"", b"") + _texts(flat.field(1), b"", b"")
    return _sequence(pairs, glued(entries, len(flat)), branch, absent)


def _sequence(column: pa.ListArray, items: pa.Array, branch: bytes, absent: bytes) -> Parts:
    """A list or map as one block of its items and the end mark. `items` are the encoded items of all rows together."""
    valid = _valid(column)
    sizes = np.diff(column.offsets.to_numpy())
    if valid is not None:
        sizes = np.where(valid, sizes, 0)  # a null list may cover items, which flattening has left out
    ends = np.zeros(len(column) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    merged = binary_array(bounds(items)[ends], items.buffers()[2])
    heads = _heads(sizes, branch, valid, absent=b"", empty=branch)
    if valid is None or absent == _END:
        return [heads, merged, _END]
    return [heads, merged, pc.if_else(pa.array(valid), scalar(_END), scalar(absent))]


def _texts(column: pa.Array, branch: bytes, absent: bytes) -> Parts:
    valid = _valid(column)
    content = column.cast(pa.binary()) if valid is None else column.cast(pa.binary()).fill_null(b"")
    sizes = np.diff(bounds(content))
    return [_heads(sizes, branch, valid, absent=absent, empty=branch + varint(0)), content]


def _longs(column: pa.Array, branch: bytes, absent: bytes) -> pa.Array:
    valid = _valid(column)
    numbers = column if valid is None else column.fill_null(0)
    return _fixed(*_varints(numbers.to_numpy()), branch, valid, absent)


def _floats(column: pa.Array, branch: bytes, absent: bytes) -> pa.Array:
    valid = _valid(column)
    numbers = (column if valid is None else column.fill_null(0)).to_numpy()
    width = numbers.itemsize
    matrix = np.ascontiguousarray(numbers.astype(f"<f{width}", copy=False)).view(np.uint8).reshape(-1, width)
    return _fixed(matrix, np.full(len(column), width, np.int32), branch, valid, absent)


def _booleans(column: pa.Array, branch: bytes, absent: bytes) -> pa.Array:
    true, false = scalar(branch + b"\1"), scalar(branch + b"\0")
    return pc.fill_null(pc.if_else(column, true, false), scalar(absent))


def _varints(numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Each number as Avro's long: a matrix of bytes, left-aligned, and each row's length."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    widest = max(1, (int(zigzag.max(initial=0)).bit_length() + 6) // 7)
    matrix = np.empty((len(zigzag), widest), np.uint8)
    lengths = np.ones(len(zigzag), np.int32)
    for place in range(widest):
        rest = zigzag >> np.uint64(7 * place)
        goes_on = rest > 0x7F
        lengths += goes_on
        matrix[:, place] = (rest & np.uint64(0x7F)).astype(np.uint8) | (goes_on.view(np.uint8) << 7)
    return matrix, lengths


def _fixed(
    matrix: NDArray[np.uint8],
    lengths: NDArray[np.int32],
    branch: bytes,
    valid: NDArray[np.bool_] | None,
    absent: bytes,
) -> pa.Array:
    """Rows of a byte matrix with the branch before them; `absent` (at most one byte) where not valid."""
    if branch:
        matrix = np.concatenate(
            [np.broadcast_to(np.frombuffer(branch, np.uint8), (len(matrix), len(branch))), matrix], 1
        )
        lengths = lengths + np.int32(len(branch))
    if valid is not None:
        lengths = np.where(valid, lengths, np.int32(len(absent)))
        if absent:
            matrix[~valid, 0] = absent[0]
    return ragged(matrix, lengths)


def _heads(
    sizes: NDArray[np.integer], branch: bytes, valid: NDArray[np.bool_] | None, *, absent: bytes, empty: bytes
) -> pa.Array:
    """What stands before a text, list or map: branch and size; `empty` for size 0, `absent` where not valid."""
    largest = int(sizes.max(initial=0))
    if largest < _TABLE_LIMIT:
        table = _head_table(branch, absent, empty, max(256, 1 << largest.bit_length()))
        places = sizes + 1
    else:
        distinct, places = np.unique(sizes, return_inverse=True)
        table = pa.array([absent, *(branch + varint(int(size)) if size else empty for size in distinct)], pa.binary())
        places = places + 1
    if valid is not None:
        places[~valid] = 0
    return table.take(pa.array(places))


@lru_cache(maxsize=256)
def _head_table(branch: bytes, absent: bytes, empty: bytes, limit: int) -> pa.Array:
    return pa.array([absent, empty, *(branch + varint(size) for size in range(1, limit))], pa.binary())


def _valid(column: pa.Array) -> NDArray[np.bool_] | None:
    """Which rows have a value; None where all have."""
    return None if not column.null_count else column.is_valid().to_numpy(zero_copy_only=False)
