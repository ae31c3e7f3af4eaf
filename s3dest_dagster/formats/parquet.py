"""Parquet files: encoding makes Arrow columns from batches, and writing makes row groups of the requested size.

Must not know: JSON records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from s3dest_dagster.batch import Batch
from s3dest_dagster.columns.converter import Converted, RecordConverter
from s3dest_dagster.columns.field_ids import with_field_ids
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.retyping import aligned, children
from s3dest_dagster.columns.schemas import (
    envelope_of,
    within_parquet,
)
from s3dest_dagster.formats.compression import PARQUET_CODECS
from s3dest_dagster.formats.envelope import EnvelopeValues
from s3dest_dagster.formats.parquet_file import ParquetFile, WholeFile
from s3dest_dagster.formats.parquet_lzo import Frame, PageRewriter, is_lzo, without_lzo
from s3dest_dagster.formats.parquet_sparse import SparseFile, SparseSchema
from s3dest_dagster.formats.parquet_unions import TypedUnions, avro_schema_of_columns
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
from s3dest_dagster.formats.reading import ROWS_AT_ONCE, MemberBranches, named_record, schema_of, table_of_rows
from s3dest_dagster.formats.row_filter import RowFilter
from s3dest_dagster.settings.formats import ParquetFormat

if TYPE_CHECKING:
    pass

AVRO_SCHEMA_KEY = "parquet.avro.schema"
"""The metadata key under which parquet-avro writes and expects a file's Avro schema."""

OBJECT_ID_KEY = "s3dest.object_id"
"""The metadata key of a random text that no two objects share."""
LAYOUTS = {"named": Layout.NAMED, "typed": Layout.NAMED, "member": Layout.MEMBER}
_DEFAULT_PADDING_MB = ParquetFormat().max_padding_size_mb
"""Connector configurations contain this value without intending it, so it causes no message."""
_COLUMN_OVERHEAD = 1_000
"""The memory of a column of a batch besides its values."""


class Parquet(Format[ParquetFormat]):
    """Parquet files."""

    row_group_setting = "block_size_mb"

    def encoder(self, contents: Contents, on_mismatch: OnMismatch) -> ParquetEncoder:
        self.check_installed()
        return ParquetEncoder(self.settings, contents, on_mismatch)

    def read(self, record: Record, content: Content, written: Record, rows: RowFilter | None = None) -> pa.Table:
        # Whatever the settings say: adopted files may have the unions of either version of the connector.
        return _read(self.stored_record(record), content, rows, TypedUnions(self.stored_record(written)))

    def check_installed(self) -> None:
        compressor_of_pages(self.settings)

    def stored_record(self, record: Record) -> Record:
        return within_parquet(record)

    def without_effect(self) -> Iterator[str]:
        if self.settings.max_padding_size_mb != _DEFAULT_PADDING_MB:
            yield "max_padding_size_mb has no effect: padding aligns row groups to HDFS blocks, and S3 has no blocks."


class ParquetEncoder(Encoder):
    """Encodes batches as Arrow columns. The envelope comes first."""

    def __init__(self, settings: ParquetFormat, contents: Contents, on_mismatch: OnMismatch) -> None:
        super().__init__(settings, contents)
        layout = LAYOUTS[settings.union_layout]
        record = within_parquet(contents.record)
        self._settings = settings
        self._converter = RecordConverter(record, layout=layout, on_mismatch=on_mismatch)
        self._types_of = TypedUnions(record) if settings.union_layout == "typed" else None
        schema = pa.schema([*envelope_of(record).arrow, *self._converter.schema])
        if settings.field_ids:
            schema = with_field_ids(schema, record, layout=layout)
        self._schema = self._types_of.schema(schema) if self._types_of else schema
        avro = avro_schema_of_columns(record, layout, is_typed=self._types_of is not None)
        self._metadata = {AVRO_SCHEMA_KEY: avro, **PROLEPTIC_CALENDAR}

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        converted = self._converter.convert(batch)
        return self._encoded(converted, converted.data, self._envelope_values(batch, entropy, converted))

    def encode_groups(self, batch: Batch, entropy: bytes) -> Encoded:
        converted = self._converter.convert(batch)
        groups, data = self._groups_of(batch, converted.data), converted.data
        values = self._envelope_values(batch, entropy, converted)
        if groups.order is not None:
            data, values = data.take(pa.array(groups.order)), values.in_order(groups.order)
        encoded = self._encoded(converted, data, values)
        return replace(encoded, groups=EncodedGroups(groups.values, groups.ends, groups.ends))

    def _encoded(self, converted: Converted, data: pa.RecordBatch, values: EnvelopeValues) -> Encoded:
        """The converted records with their envelope."""
        own = self._types_of.columns(data.columns) if self._types_of else data.columns
        columns = [*self.envelope.columns(values), *own]
        whole = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        return Encoded(data.num_rows, whole, whole.nbytes, converted.tally, converted.big_integers)

    def _cut(self, payloads: Sequence[Any], pieces: Sequence[Sequence[Span]]) -> Iterator[tuple[Payload, int]]:
        return map(self._packed, cut_rows(payloads, pieces, _one_batch))

    def merged(self, pieces: Sequence[Encoded]) -> Encoded:
        rows = _one_batch([unpacked(piece.payload, self._schema) for piece in pieces])
        return Encoded(rows.num_rows, *self._packed(rows))

    def _packed(self, batch: pa.RecordBatch) -> tuple[Payload, int]:
        """A batch that is to be held, and the memory that it uses: as bytes if most of it is not values."""
        surroundings = _COLUMN_OVERHEAD * len(self._schema.names)
        if batch.nbytes < surroundings:
            packed = batch.serialize().to_pybytes()
            return packed, len(packed)
        return batch, int(batch.nbytes) + surroundings

    def open(self, sink: Sink, marker: bytes, background: Background = run_now) -> ParquetObject:
        # Where keys recur, objects are distinguished by their content. With an envelope, no two are equal.
        own = {} if self.envelope.names else {OBJECT_ID_KEY: marker.hex()}
        metadata = self._metadata | own

        def file(sink: Sink) -> ParquetFile:
            if (sparse := self._sparse_schema) is not None:
                return SparseFile(sink, self._settings, sparse, metadata)
            return WholeFile(sink, self._settings, self._schema, metadata)

        return ParquetObject(sink, self._settings, self._schema, file)

    @cached_property
    def _sparse_schema(self) -> SparseSchema | None:
        """What sparse files share; None if the files are not sparse. One stream may have thousands of open objects."""
        return SparseSchema.of(self._schema)


def unpacked(payload: Payload, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of a payload. A piece of few rows is held as the bytes of Arrow's IPC format."""
    if isinstance(payload, bytes):
        return pa.ipc.read_record_batch(payload, schema)
    assert isinstance(payload, pa.RecordBatch)
    return payload


def _one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of all batches as one."""
    return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


# ---------------------------------------------------------------------- writing


def compressor_of_pages(settings: ParquetFormat) -> Frame | None:
    """A function that compresses the pages written by pyarrow; None if pyarrow does so. Raises MissingExtraError."""
    make = PARQUET_CODECS[settings.compression_codec].page_compressor
    return make() if make is not None else None


class ParquetObject:
    """One Parquet file. Rows are held back until they fill a row group of `block_size_mb`, measured in Arrow bytes."""

    in_background = 0

    def __init__(
        self, sink: Sink, settings: ParquetFormat, schema: pa.Schema, file: Callable[[Sink], ParquetFile]
    ) -> None:
        compress_page = compressor_of_pages(settings)
        self._rewriter = PageRewriter(sink, compress_page) if compress_page else None
        self._file = file(self._rewriter.write if self._rewriter else sink)
        self._schema = schema
        self._group_bytes = settings.block_size_mb << 20
        self._held: list[pa.RecordBatch] = []
        self.buffered = 0

    def append(self, encoded: Encoded) -> None:
        for piece in self._pieces(unpacked(encoded.payload, self._schema)):
            self._held.append(piece)
            self.buffered += piece.nbytes
            if self.buffered >= self._group_bytes:
                self.flush_rows()

    def flush_rows(self) -> None:
        if not self._held:
            return
        rows = pa.Table.from_batches(self._held)
        self._held, self.buffered = [], 0
        self._file.write(rows)
        del rows
        # Otherwise the pool would keep the memory for the next row group while another stream's rows need it.
        pa.default_memory_pool().release_unused()

    def close(self) -> None:
        self.flush_rows()
        if self._rewriter:
            self._rewriter.end_pages()
        self._file.close()
        if self._rewriter:
            self._rewriter.close()

    def _pieces(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yields the batch in pieces, none if it has no rows. Only the last row of a piece may fill the row group."""
        while batch.num_rows:
            room = self._group_bytes - self.buffered
            rows = -(-batch.num_rows * room // max(batch.nbytes, 1))  # rounded up, so at least 1
            yield batch.slice(0, rows)
            batch = batch.slice(rows)


# ---------------------------------------------------------------------- reading


def _read(record: Record, content: Content, rows: RowFilter | None, unions: TypedUnions) -> pa.Table:
    table = unions.named(_row_groups(without_lzo(content) if is_lzo(content) else content, rows))
    if not _has_members(table.schema):
        return aligned(table, schema_of(record))
    integers = pa.schema([field.with_type(integer_type(field.type)) for field in table.schema])
    batches = aligned(table, integers).to_batches(ROWS_AT_ONCE)
    dicts = (row for batch in batches for row in batch.to_pylist())
    return table_of_rows(record, (named_record(record, record, row, MemberBranches()) for row in dicts))


def _row_groups(content: Content, rows: RowFilter | None) -> pa.Table:
    """The records of all row groups that may have selected ones, according to their statistics."""
    if rows is None:
        return pq.read_table(BytesIO(content))
    # Importing it takes time, and few inputs have a filter.
    from pyarrow.dataset import ParquetFileFormat

    fragment = ParquetFileFormat().make_fragment(pa.BufferReader(content))
    if not rows.fits(fragment.physical_schema):
        return pq.read_table(BytesIO(content))
    numbers = [group.id for group in fragment.subset(rows.expression).row_groups]
    return pq.ParquetFile(BytesIO(content)).read_row_groups(numbers)


def _has_members(fields: Iterable[pa.Field]) -> bool:
    """Whether any union has the connector's layout."""
    return any(
        field.name == "member0" or (pa.types.is_nested(field.type) and _has_members(children(field.type)))
        for field in fields
    )


def integer_type(kind: pa.DataType) -> pa.DataType:
    """The type with integers in place of temporal values, since Python's own types cannot hold all such values."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(integer_type(field.type)) for field in children(kind)])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(integer_type(kind.value_type)))
    if pa.types.is_date32(kind):
        return pa.int32()
    return pa.int64() if pa.types.is_temporal(kind) else kind
