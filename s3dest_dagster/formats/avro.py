"""Avro object container files: a header, then blocks of records, each followed by the sync marker.

Blocks are made from Arrow columns. They equal, byte for byte, the blocks of a record-by-record Avro writer, but need no
loop over records. Every column becomes a few binary columns ("parts") with its Avro bytes, row by row. The joined parts
of a row are the row's record, and the value buffer of the joined column is the block's body. The columns have
`Layout.AVRO`, whose struct members are the branches of a union, in order. Must not know: JSON.

File format: https://avro.apache.org/docs/1.11.1/specification/#object-container-files
Binary encoding: https://avro.apache.org/docs/1.11.1/specification/#binary-encoding
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial, reduce
from io import BytesIO
from itertools import count
from typing import IO, TYPE_CHECKING, Any, cast

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.batch import Batch
from s3dest_dagster.columns.binary_columns import Parts, binary_array, bounds, glued, ragged, scalar
from s3dest_dagster.columns.converter import Converted, RecordConverter
from s3dest_dagster.columns.kinds import Kind, Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.number import FLOAT
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.kinds.temporal import DATE
from s3dest_dagster.columns.schemas import within_parquet
from s3dest_dagster.formats.compression import avro_codec
from s3dest_dagster.formats.envelope import EnvelopeEncoder, EnvelopeValues
from s3dest_dagster.formats.integers import varint, varints
from s3dest_dagster.formats.protocol import (
    PROLEPTIC_CALENDAR,
    Background,
    Content,
    Contents,
    Encoded,
    EncodedGroups,
    Encoder,
    Format,
    OnMismatch,
    Payload,
    Sink,
    Span,
    cut_rows,
    run_now,
)
from s3dest_dagster.formats.reading import AvroBranches, named_record, table_of_rows
from s3dest_dagster.formats.row_filter import RowFilter
from s3dest_dagster.settings.formats import AvroFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES = 64_000
"""The size, before compression, at which a block ends with the current record, as in Java's DataFileWriter."""

_COLUMN_OVERHEAD = 600
"""The memory of a piece besides its records."""
_MAGIC = b"Obj\x01"


class Avro(Format[AvroFormat]):
    """Avro object container files."""

    has_null_columns = True

    def encoder(self, contents: Contents, on_mismatch: OnMismatch) -> AvroEncoder:
        return AvroEncoder(self.settings, contents, on_mismatch)

    def read(self, record: Record, content: Content, written: Record, rows: RowFilter | None = None) -> pa.Table:
        stored = within_parquet(record)
        return table_of_rows(stored, (named_record(record, stored, row, AvroBranches()) for row in _rows(content)))


class AvroEncoder(Encoder):
    """Encodes records as blocks, which end between records, and compresses the blocks."""

    def __init__(self, settings: AvroFormat, contents: Contents, on_mismatch: OnMismatch) -> None:
        super().__init__(settings, contents)
        self._record = contents.record
        self._converter = RecordConverter(contents.record, layout=Layout.AVRO, on_mismatch=on_mismatch)
        self._codec, self._compress = avro_codec(settings)

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        converted = self._converter.convert(batch)
        rows = self._rows(batch, converted, entropy)
        frames = [self._frame(count, body) for count, body in blocks(rows)]
        return Encoded(batch.num_rows, frames, sum(map(len, frames)), converted.tally, converted.big_integers)

    def encode_groups(self, batch: Batch, entropy: bytes) -> Encoded:
        converted = self._converter.convert(batch)
        groups = self._groups_of(batch, converted.data)
        rows = self._rows(batch, converted, entropy)
        if groups.order is not None:
            rows = rows.take(pa.array(groups.order))
        return Encoded(
            batch.num_rows,
            rows,
            rows.nbytes,
            converted.tally,
            converted.big_integers,
            EncodedGroups(groups.values, groups.ends, groups.ends),
        )

    def _rows(self, batch: Batch, converted: Converted, entropy: bytes) -> pa.Array:
        values = self._envelope_values(batch, entropy, converted)
        return record_rows(self._record, converted.data.columns, self.envelope, values)

    def _cut(self, payloads: Sequence[Any], pieces: Sequence[Sequence[Span]]) -> Iterator[tuple[Payload, int]]:
        for rows in cut_rows(payloads, pieces, _one_array):
            yield rows, rows.nbytes + _COLUMN_OVERHEAD

    def merged(self, pieces: Sequence[Encoded]) -> Encoded:
        rows = _one_array([piece.payload for piece in pieces])
        return Encoded(len(rows), rows, rows.nbytes + _COLUMN_OVERHEAD)

    def open(self, sink: Sink, marker: bytes, background: Background = run_now) -> AvroObject:
        return AvroObject(sink, self._header(), marker, self._frame, background)

    def _frame(self, count: int, body: memoryview) -> bytes:
        """A block without its sync marker: the number of records, the size, the compressed body."""
        compressed = self._compress(body)
        return varint(count) + varint(len(compressed)) + compressed

    def _header(self) -> bytes:
        metadata = {"avro.schema": self.schema_text, "avro.codec": self._codec, **PROLEPTIC_CALENDAR}
        texts = [text.encode() for entry in metadata.items() for text in entry]
        return _MAGIC + varint(len(metadata)) + b"".join(varint(len(text)) + text for text in texts) + varint(0)


def _one_array(arrays: Sequence[pa.Array]) -> pa.Array:
    """The rows of all arrays as one."""
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


class AvroObject:
    """One container file. `marker` is its sync marker of 16 bytes, and `frame` makes a block of a body.

    Records that are not in blocks yet are put into blocks in the background.
    """

    buffered = 0

    def __init__(
        self,
        sink: Sink,
        header: bytes,
        marker: bytes,
        frame: Callable[[int, memoryview], bytes],
        background: Background,
    ) -> None:
        self._sink = sink
        self._marker = marker
        self._frame = frame
        self._background = background
        self._result: Callable[[], bytes] | None = None
        self.in_background = 0
        sink(header + marker)

    def append(self, encoded: Encoded) -> None:
        self._send_result()
        if isinstance(encoded.payload, list):
            self._sink(self._framed(encoded.payload))
            return
        self._result = self._background(partial(self._blocks, encoded.payload))
        self.in_background = encoded.nbytes

    def flush_rows(self) -> None:
        """Does nothing, since rows are never held back."""

    def close(self) -> None:
        """Writes what is in the background. A container file has no footer."""
        self._send_result()

    def _blocks(self, rows: pa.Array) -> bytes:
        return self._framed([self._frame(count, body) for count, body in blocks(rows)])

    def _framed(self, frames: list[bytes]) -> bytes:
        return self._marker.join([*frames, b""]) if frames else b""

    def _send_result(self) -> None:
        if self._result is not None:
            result, self._result, self.in_background = self._result, None, 0
            self._sink(result())


# ---------------------------------------------------------------------- reading


_TAGGED = {kind.avro_tag: kind.avro_name for kind in (DATE, FLOAT)}
"""Avro types of the tagged kinds, by tag. Without the tag, their Python values would look like those of other kinds."""


def _rows(content: Content) -> Iterator[dict[str, Any]]:
    """Yields the records as Python values: temporal values as integers, and values of tagged kinds as dicts.

    Decimals have the scale of the file."""
    reader = fastavro.block_reader(BytesIO(content))
    schema = fastavro.parse_schema(_tagged(reader.writer_schema, count()))
    for block in reader:
        body = cast(IO[bytes], block.bytes_)  # type: ignore[attr-defined]  # documented, not declared
        for _ in range(block.num_records):
            row = fastavro.schemaless_reader(body, schema, None)
            assert isinstance(row, dict)
            yield row


def _tagged(schema: Any, numbers: Iterator[int]) -> Any:
    """An Avro schema for the same bytes, in which a tagged type is a record of one field.

    It has no logical types except decimals."""
    if isinstance(schema, list):
        return [_tagged(branch, numbers) for branch in schema]
    kind = schema.get("logicalType") if isinstance(schema, dict) else schema
    if kind in _TAGGED:
        field = {"name": kind, "type": _TAGGED[kind]}
        return {"type": "record", "name": f"tagged_{next(numbers)}", "namespace": "", "fields": [field]}
    if not isinstance(schema, dict) or kind == "decimal":
        return schema
    physical = {key: value for key, value in schema.items() if key not in ("logicalType", "default")}
    return physical | {key: _tagged(physical[key], numbers) for key in ("type", "fields", "items") if key in physical}


# ---------------------------------------------------------------------- blocks

_NULL_BRANCH = b"\0"
_END = b"\0"
_TABLE_LIMIT = 1 << 12
_MAP_AS_LIST = pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.string())]))


def record_rows(
    record: Record, columns: Sequence[pa.Array], envelope: EnvelopeEncoder, values: EnvelopeValues
) -> pa.Array:
    """One binary value per record: the envelope, the fields, then the overflow map."""
    return glued(envelope.avro_parts(values) + _record_parts(record, columns), len(values.emitted_at))


def blocks(rows: pa.Array) -> Iterator[tuple[int, memoryview]]:
    """Yields the records in blocks of at least `BLOCK_BYTES`, except the last: the number of records and the body."""
    ends = bounds(rows)
    body = memoryview(rows.buffers()[2] or b"")
    start = 0
    while start < len(rows):
        full = int(np.searchsorted(ends, ends[start] + BLOCK_BYTES))
        end = min(max(full, start + 1), len(rows))
        yield end - start, body[ends[start] : ends[end]]
        start = end


def _record_parts(record: Record, columns: Sequence[pa.Array]) -> Parts:
    *fields, overflow = columns
    parts: Parts = []
    for field, column in zip(record.fields, fields, strict=True):
        parts += _nullable(field.kind, column)
    return parts + _map(overflow, branch=varint(1), absent=_NULL_BRANCH)


def _nullable(kind: Kind, column: pa.Array) -> Parts:
    """A union of null and the branches of `kind`."""
    if not kind.as_branches():
        return []  # the plain type "null", without a union, has no bytes
    if pa.types.is_struct(column.type) and not isinstance(kind, Record):
        return _branches(kind, column)
    return _value(kind, column, branch=varint(1), absent=_NULL_BRANCH)


def _branches(kind: Kind, column: pa.StructArray) -> Parts:
    """A union of several branches. The struct has one member per branch, in order, and at most one is set."""
    members = column.flatten()
    kinds = kind.as_branches()
    kinds += (STRING,) * (len(members) - len(kinds))  # the branch for texts that are not dates
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
    """The parts of every row: `branch` and the value, or `absent` if the value is null."""
    if column.null_count == len(column):
        return [absent]
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
    """A map of texts, whose keys and values are never null."""
    if column.null_count == len(column):
        return [absent]
    pairs = column.cast(_MAP_AS_LIST)
    flat = pairs.flatten()
    entries = _texts(flat.field(0), b"", b"") + _texts(flat.field(1), b"", b"")
    return _sequence(pairs, glued(entries, len(flat)), branch, absent)


def _sequence(column: pa.ListArray, items: pa.Array, branch: bytes, absent: bytes) -> Parts:
    """A list or map: one block with its items, and the end mark. `items` are the encoded items of all rows."""
    valid = _valid(column)
    sizes = np.diff(column.offsets.to_numpy())
    if valid is not None:
        sizes = np.where(valid, sizes, 0)  # a null list may span items, which flattening omits
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
    return _fixed(*varints(numbers.to_numpy()), branch, valid, absent)


def _floats(column: pa.Array, branch: bytes, absent: bytes) -> pa.Array:
    valid = _valid(column)
    numbers = (column if valid is None else column.fill_null(0)).to_numpy()
    width = numbers.itemsize
    matrix = np.ascontiguousarray(numbers.astype(f"<f{width}", copy=False)).view(np.uint8).reshape(-1, width)
    return _fixed(matrix, np.full(len(column), width, np.int32), branch, valid, absent)


def _booleans(column: pa.Array, branch: bytes, absent: bytes) -> pa.Array:
    true, false = scalar(branch + b"\1"), scalar(branch + b"\0")
    return pc.fill_null(pc.if_else(column, true, false), scalar(absent))


def _fixed(
    matrix: NDArray[np.uint8],
    lengths: NDArray[np.int32],
    branch: bytes,
    valid: NDArray[np.bool_] | None,
    absent: bytes,
) -> pa.Array:
    """The rows of a byte matrix, preceded by `branch`. An invalid row is `absent`, which has at most one byte."""
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
    """The bytes before a text, list or map: branch and size; `empty` if the size is 0, `absent` for an invalid row."""
    largest = int(sizes.max(initial=0))
    if largest < _TABLE_LIMIT:
        table = _head_table(branch, absent, empty, max(256, 1 << largest.bit_length()))
        positions = sizes + 1
    else:
        distinct, positions = np.unique(sizes, return_inverse=True)
        table = pa.array([absent, *(branch + varint(int(size)) if size else empty for size in distinct)], pa.binary())
        positions = positions + 1
    if valid is not None:
        positions[~valid] = 0
    return table.take(pa.array(positions))


@lru_cache(maxsize=256)
def _head_table(branch: bytes, absent: bytes, empty: bytes, limit: int) -> pa.Array:
    return pa.array([absent, empty, *(branch + varint(size) for size in range(1, limit))], pa.binary())


def _valid(column: pa.Array) -> NDArray[np.bool_] | None:
    """True for rows with a value; None if all rows have one."""
    return None if not column.null_count else column.is_valid().to_numpy(zero_copy_only=False)
