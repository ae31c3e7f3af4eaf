"""A Parquet file that pyarrow writes as a whole: one row group for each table.

Must not know: when a row group is full.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from s3dest_dagster.columns.schemas import RAW_ID, RECORD_ID
from s3dest_dagster.formats.compression import PARQUET_CODECS
from s3dest_dagster.formats.parquet_dictionaries import dictionary_columns
from s3dest_dagster.formats.protocol import Sink
from s3dest_dagster.settings.formats import ParquetFormat

_MOST_VALUES_PER_CHECK = 256
"""The most values after which pyarrow checks the sizes of pages and dictionaries. Checking more often costs time."""
_CHECKS_PER_PAGE = 4
_UNLIMITED_ROWS = 1 << 30
_WRITE_BYTES = 1 << 16
"""Bytes that are passed on together. pyarrow writes each page and each part of a header on its own."""


class ParquetFile(Protocol):
    """A file that grows by row groups. Its bytes go to a sink."""

    def write(self, rows: pa.Table) -> None:
        """Appends the rows as one row group. All of its pages are passed on."""

    def close(self) -> None:
        """Ends the file. Until then it is no complete Parquet file, also if it is discarded."""


class WholeFile:
    """A file with all columns written by pyarrow."""

    def __init__(self, sink: Sink, settings: ParquetFormat, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        self._out = BufferedSink(sink)
        self._settings = settings
        self._schema = schema
        self._metadata = metadata
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pa.Table) -> None:
        with self._out.passing():
            self._writer_for(rows).write_table(rows, row_group_size=rows.num_rows)

    def close(self) -> None:
        with self._out.passing():
            (self._writer or self._writer_for(self._schema.empty_table())).close()

    def _writer_for(self, rows: pa.Table) -> pq.ParquetWriter:
        """The file's writer. It is created with the first rows, whose width determines how often sizes are checked."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._out, self._schema, **writer_options(self._settings, rows))
            self._writer.add_key_value_metadata(dict(self._metadata))
        return self._writer


def writer_options(settings: ParquetFormat, rows: pa.Table) -> dict[str, Any]:
    """Options for pyarrow's writer of a file that begins with these rows."""
    codec, page_bytes = PARQUET_CODECS[settings.compression_codec], settings.page_size_kb << 10
    dictionary_bytes = settings.dictionary_page_size_kb << 10
    options: dict[str, Any] = {
        # Older versions of pyarrow know the codec by this name only.
        "compression": "LZ4" if codec.name == "LZ4_RAW" else codec.name,
        "compression_level": codec.level,
        "use_dictionary": settings.dictionary_encoding
        and dictionary_columns(rows, dictionary_bytes, unique=[RECORD_ID, RAW_ID]),
        "dictionary_pagesize_limit": dictionary_bytes,
        "data_page_size": page_bytes,
        "write_batch_size": _values_per_check(rows, min(page_bytes, dictionary_bytes)),
        "store_schema": False,
    }
    if "max_rows_per_page" in inspect.signature(pq.ParquetWriter).parameters:
        options["max_rows_per_page"] = _UNLIMITED_ROWS  # otherwise 20,000 rows end a page before its size does
    return options


def _values_per_check(rows: pa.Table, page_bytes: int) -> int:
    """The number of values after which pyarrow checks a page's size.

    It checks a few times per page of the widest column, since a page grows until the next check.
    """
    widest: int = max(column.nbytes for column in rows.columns) // max(rows.num_rows, 1)
    return min(max(page_bytes // (_CHECKS_PER_PAGE * max(widest, 1)), 1), _MOST_VALUES_PER_CHECK)


class BufferedSink:
    """A file for pyarrow's writer. It passes bytes to the sink only within `passing`.

    pyarrow completes a file if its writer is discarded early, but an abandoned object must stay incomplete.
    """

    closed = False

    def __init__(self, sink: Sink) -> None:
        self.position = 0
        """The number of bytes that are passed on so far, or wait for it."""
        self._sink = sink
        self._is_passing = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @contextmanager
    def passing(self) -> Iterator[None]:
        """All bytes that are written in this context are passed on by its end."""
        self._is_passing = True
        try:
            yield
            self._pass_on()
        finally:
            self._is_passing = False

    def write(self, data: bytes | memoryview) -> int:
        if self._is_passing:
            self._waiting.append(bytes(data))
            self._waiting_bytes += len(data)
            self.position += len(data)
            if self._waiting_bytes >= _WRITE_BYTES:
                self._pass_on()
        return len(data)

    def _pass_on(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        self._sink(data)

    def flush(self) -> None:
        """Does nothing: `passing` passes on what waits."""

    def close(self) -> None:
        self.closed = True
