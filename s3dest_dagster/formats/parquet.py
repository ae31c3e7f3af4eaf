"""Parquet files: batches become Arrow columns while encoding, and row groups of the asked size while writing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from s3dest_dagster.batch import Batch
from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.envelope import (
    EMITTED_AT,
    EMITTED_AT_TYPE,
    RECORD_ID,
    emitted_at_column,
    record_id_column,
    record_ids,
)
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.schemas import within_parquet
from s3dest_dagster.formats.parquet_avro import avro_schema_of_columns
from s3dest_dagster.formats.parquet_lzo import PageRewriter, lzo_compressor
from s3dest_dagster.formats.protocol import Aside, Contents, Encoded, Sink, at_once
from s3dest_dagster.formats.spark import PROLEPTIC_CALENDAR
from s3dest_dagster.settings.formats import ParquetFormat

AVRO_SCHEMA_KEY = "parquet.avro.schema"
"""Where parquet-avro keeps, and looks for, a file's Avro schema."""

LAYOUTS = {"named": Layout.NAMED, "member": Layout.MEMBER}
_ENVELOPE = [pa.field(RECORD_ID, pa.string(), nullable=False), pa.field(EMITTED_AT, EMITTED_AT_TYPE, nullable=False)]
_CODECS = {"UNCOMPRESSED": "NONE", "LZO": "NONE", "LZ4": "LZ4_RAW"}
_LEVELS = {"GZIP": 6}
"""The library's own default is 9: three times the cost for files hardly smaller."""
_MOST_VALUES_PER_CHECK = 256
"""The sizes of pages and dictionaries are looked at once in at most so many values; more often costs time."""
_CHECKS_PER_PAGE = 4
_UNLIMITED_ROWS = 1 << 30


class ParquetEncoder:
    """Columns with the envelope first. LZO needs the extra `lzo`: MissingExtraError where it is not installed."""

    holds_lock = False

    def __init__(
        self, settings: ParquetFormat, contents: Contents, on_mismatch: Literal["overflow", "fail"] = "overflow"
    ) -> None:
        self.extension = settings.extension
        self.schema_text = contents.schema_text
        self.fingerprint = contents.fingerprint
        layout = LAYOUTS[settings.union_layout]
        self._settings = settings
        record = within_parquet(contents.record)
        self._road = RecordConverter(record, layout=layout, on_mismatch=on_mismatch)
        self._schema = pa.schema([*_ENVELOPE, *self._road.schema])
        self._metadata = {AVRO_SCHEMA_KEY: avro_schema_of_columns(record, layout), **PROLEPTIC_CALENDAR}
        if settings.compression_codec == "LZO":
            lzo_compressor()

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        converted = self._road.convert(batch)
        envelope = [record_id_column(record_ids(entropy)), emitted_at_column(batch.emitted_at)]
        data = pa.RecordBatch.from_arrays([*envelope, *converted.data.columns], schema=self._schema)
        return Encoded(batch.num_rows, data, data.nbytes, converted.tally)

    def open(self, sink: Sink, marker: bytes, aside: Aside = at_once) -> ParquetObject:
        return ParquetObject(sink, self._settings, self._schema, self._metadata)


class ParquetObject:
    """One Parquet file. Rows are held back until they fill a row group of `block_size_mb`, counted in Arrow bytes."""

    aside = 0

    def __init__(self, sink: Sink, settings: ParquetFormat, schema: pa.Schema, metadata: dict[str, str]) -> None:
        self._rewriter = PageRewriter(sink, lzo_compressor()) if settings.compression_codec == "LZO" else None
        self._file = _File(self._rewriter.write if self._rewriter else sink)
        self._settings = settings
        self._schema = schema
        self._metadata = metadata
        self._writer: pq.ParquetWriter | None = None
        self._group_bytes = settings.block_size_mb << 20
        self._held: list[pa.RecordBatch] = []
        self.buffered = 0

    def write(self, encoded: Encoded) -> None:
        assert isinstance(encoded.payload, pa.RecordBatch)
        for piece in self._pieces(encoded.payload):
            self._held.append(piece)
            self.buffered += piece.nbytes
            if self.buffered >= self._group_bytes:
                self.flush_rows()

    def flush_rows(self) -> None:
        if not self._held:
            return
        rows = pa.Table.from_batches(self._held)
        self._held, self.buffered = [], 0
        with self._file.passing():
            self._writer_for(rows).write_table(rows, row_group_size=rows.num_rows)
        del rows
        # Else the pool keeps it for the next row group, while another stream's rows take memory elsewhere.
        pa.default_memory_pool().release_unused()

    def close(self) -> None:
        self.flush_rows()
        if self._rewriter:
            self._rewriter.end_pages()
        with self._file.passing():
            self._writer_for(self._schema.empty_table()).close()
        if self._rewriter:
            self._rewriter.close()

    def _writer_for(self, rows: pa.Table) -> pq.ParquetWriter:
        """The file's writer, begun with the first rows: how wide they are decides how often sizes are looked at."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, self._schema, **_writer_options(self._settings, rows))
            self._writer.add_key_value_metadata(self._metadata)
        return self._writer

    def _pieces(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The batch, in pieces of which each fills the row group at most by its last row; none without rows."""
        while batch.num_rows:
            room = self._group_bytes - self.buffered
            rows = -(-batch.num_rows * room // max(batch.nbytes, 1))  # rounded up, so at least 1
            yield batch.slice(0, rows)
            batch = batch.slice(rows)


def _writer_options(settings: ParquetFormat, rows: pa.Table) -> dict[str, Any]:
    codec, page_bytes = settings.compression_codec, settings.page_size_kb << 10
    dictionary_bytes = settings.dictionary_page_size_kb << 10
    options: dict[str, Any] = {
        "compression": _CODECS.get(codec, codec),
        "compression_level": _LEVELS.get(codec),
        "use_dictionary": settings.dictionary_encoding,
        "dictionary_pagesize_limit": dictionary_bytes,
        "data_page_size": page_bytes,
        "write_batch_size": _values_per_check(rows, min(page_bytes, dictionary_bytes)),
        "store_schema": False,
    }
    if "max_rows_per_page" in inspect.signature(pq.ParquetWriter).parameters:
        options["max_rows_per_page"] = _UNLIMITED_ROWS  # else 20,000 rows end a page before its size does
    return options


def _values_per_check(rows: pa.Table, page_bytes: int) -> int:
    """After how many values the library looks at a page's size: a few times for each page of the widest column, since
    a page goes on until somebody looks."""
    widest: int = max(column.nbytes for column in rows.columns) // max(rows.num_rows, 1)
    return min(max(page_bytes // (_CHECKS_PER_PAGE * max(widest, 1)), 1), _MOST_VALUES_PER_CHECK)


class _File:
    """A file to write to. Bytes pass on only while asked to.

    The Parquet library completes a file that is dropped unfinished; an abandoned object must stay incomplete.
    """

    closed = False

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._is_passing = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        self._is_passing = True
        try:
            yield
        finally:
            self._is_passing = False

    def write(self, data: bytes | memoryview) -> int:
        if self._is_passing:
            self._take(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True
