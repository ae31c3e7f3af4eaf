"""A Parquet file of very many columns, of which records have few: pyarrow writes the columns that have values.

pyarrow's writer computes and encodes the levels of each column for each row. For a schema of 2,000 columns this costs
several times as much as reading and converting the records. Here it writes each row group without the columns that have
no value, as a file of its own. Its pages go into the object as they are, followed by those of the other columns, which
hold nothing but levels. Columns below the same field share them. The footer then lists all columns. Readers see the
file that pyarrow would have written: the same schema, values, codecs and counts of nulls.

The footer: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
Must not know: when a row group is full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from io import BytesIO
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from s3dest_dagster.formats.compression import PARQUET_CODECS
from s3dest_dagster.formats.parquet_columns import ColumnTree, Leaf, ValuedColumns, Valueless, column_trees
from s3dest_dagster.formats.parquet_file import BufferedSink, writer_options
from s3dest_dagster.formats.parquet_levels import EmptyPages, Levels, empty_pages
from s3dest_dagster.formats.protocol import Sink
from s3dest_dagster.formats.thrift import (
    BINARY,
    I16,
    I32,
    I64,
    LIST,
    STOP,
    STRUCT,
    Struct,
    ThriftReader,
    get,
    put,
    thrift_bytes,
    thrift_fields,
    thrift_list,
    thrift_list_field,
    varint,
)
from s3dest_dagster.settings.formats import ParquetFormat

MOST_WHOLE_COLUMNS = 128
"""The most columns for which pyarrow writes all of a file, since a row group of its own also costs something."""

_MAGIC = b"PAR1"
_FOOTER_TAIL = 8
_PLAIN, _RLE = 0, 3
_DATA_PAGE = 0
_CODECS = {"NONE": 0, "SNAPPY": 1, "GZIP": 2, "BROTLI": 4, "ZSTD": 6, "LZ4_RAW": 7}
"""Parquet's numbers of pyarrow's codecs."""
_FILE_ROW_GROUPS, _GROUP_COLUMNS, _CHUNK_METADATA = 4, 1, 3
_UNCOMPRESSED_SIZE, _COMPRESSED_SIZE, _DATA_PAGE_OFFSET, _DICTIONARY_PAGE_OFFSET = 6, 7, 9, 11
_OFFSET_HEAD = bytes([_DATA_PAGE_OFFSET - _COMPRESSED_SIZE << 4 | I64])
_ORDER_BY_TYPE = thrift_bytes([[1, STRUCT, []]])
"""The order of a column's values by which its statistics hold: that of its type."""


class SparseFile:
    """A file whose columns without values are not written by pyarrow."""

    def __init__(
        self,
        sink: Sink,
        settings: ParquetFormat,
        schema: SparseSchema,
        metadata: Mapping[str, str],
    ) -> None:
        self._out = BufferedSink(sink)
        self._settings = settings
        self._schema = schema
        self._metadata = metadata
        self._codec = PARQUET_CODECS[settings.compression_codec]
        self._compress = _compressor(self._codec.name, self._codec.level)
        self._groups: list[bytes] = []
        self._rows = 0

    def write(self, rows: pa.Table) -> None:
        with self._out.passing():
            self._begin()
            start = self._out.position
            columns = ValuedColumns(rows, self._schema.trees)
            chunks = self._empty_chunks(columns.without)
            is_empty = chunks.keys()
            written = iter(self._written(columns.rows, start))
            count = self._schema.columns
            ordered = [chunks[number] if number in is_empty else next(written) for number in range(count)]
            self._groups.append(
                _row_group(ordered, start, self._out.position - start, rows.num_rows, len(self._groups))
            )
        self._rows += rows.num_rows

    def close(self) -> None:
        with self._out.passing():
            self._begin()
            footer = self._schema.footer(self._rows, self._groups, self._metadata)
            self._out.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)

    def _begin(self) -> None:
        if not self._out.position:
            self._out.write(_MAGIC)

    def _empty_chunks(self, fields: Sequence[Valueless]) -> dict[int, _Chunk]:
        """Writes the columns without values, and returns their chunks by the column's number."""
        parts = cache(lambda levels, widths: self._parts(levels(), widths))
        chunks = {}
        for tree, levels in fields:
            for number, leaf in enumerate(tree.leaf_columns, tree.first):
                part = parts(levels, leaf.widths)
                metadata = part.metadata(leaf, self._out.position)
                chunks[number] = _Chunk(metadata, part.pages.uncompressed)
                self._out.write(part.pages.content)
        return chunks

    def _parts(self, levels: Levels, widths: tuple[int, int]) -> _EmptyPart:
        """What columns without values share if they have the same levels, which have so many bits."""
        pages = empty_pages(levels, widths, self._compress, self._settings.page_size_kb << 10)
        return _EmptyPart.of(pages, self._codec.name)

    def _written(self, rows: pa.Table, start: int) -> list[_Chunk]:
        """Writes the columns with values, and returns their chunks."""
        if not rows.num_columns:
            return []
        pages = _Pages(self._out)
        writer = pq.ParquetWriter(pages, rows.schema, **writer_options(self._settings, rows))
        moved = self._out.position - len(_MAGIC)
        with pages.passing():
            writer.write_table(rows, row_group_size=rows.num_rows)
        writer.close()
        footer = ThriftReader(pages.surroundings, len(_MAGIC)).struct()
        (group,) = get(footer, _FILE_ROW_GROUPS)[1]
        return [_moved(chunk, moved) for chunk in get(group, _GROUP_COLUMNS)[1]]


class _Pages:
    """A file for pyarrow's writer, of which only the pages are passed on."""

    closed = False

    def __init__(self, out: BufferedSink) -> None:
        self._out = out
        self._is_passing = False
        self.surroundings = bytearray()
        """What is around the pages: the magic number at the beginning, and the footer."""

    @contextmanager
    def passing(self) -> Iterator[None]:
        """What is written in this context are pages."""
        self._is_passing = True
        try:
            yield
        finally:
            self._is_passing = False

    def write(self, data: bytes | memoryview) -> int:
        if self._is_passing:
            return self._out.write(data)
        self.surroundings += data
        return len(data)

    def flush(self) -> None:
        """Does nothing: the object's own file passes on what waits."""

    def close(self) -> None:
        self.closed = True


class _Chunk(NamedTuple):
    """The entry of a column in a row group."""

    content: bytes
    uncompressed: int
    """The size of its pages if they were not compressed."""


def _moved(chunk: Struct, distance: int) -> _Chunk:
    """The entry of a column that lies elsewhere."""
    metadata = get(chunk, _CHUNK_METADATA)
    for number in (_DATA_PAGE_OFFSET, _DICTIONARY_PAGE_OFFSET):
        if (offset := get(metadata, number)) is not None:
            put(metadata, number, offset + distance)
    return _Chunk(thrift_bytes(chunk), get(metadata, _UNCOMPRESSED_SIZE))


def _row_group(chunks: Sequence[_Chunk], start: int, size: int, rows: int, ordinal: int) -> bytes:
    """The entry of a row group in the footer."""
    columns = thrift_list_field(_GROUP_COLUMNS, STRUCT, [chunk.content for chunk in chunks], after=0)
    sizes: Struct = [[2, I64, sum(chunk.uncompressed for chunk in chunks)], [3, I64, rows]]
    offsets: Struct = [[5, I64, start], [6, I64, size], [7, I16, ordinal]]
    return columns + thrift_fields(sizes + offsets, after=_GROUP_COLUMNS) + STOP


class _EmptyPart(NamedTuple):
    """What columns without values share if they have the same levels."""

    pages: EmptyPages
    sizes: bytes
    """The part of a chunk's entry between the path of its column and the number of its offset."""
    statistics: bytes
    """The end of the entry: the number of nulls, and the number of pages by encoding."""

    @classmethod
    def of(cls, pages: EmptyPages, codec: str) -> _EmptyPart:
        """The part for these pages."""
        sizes: Struct = [[5, I64, pages.entries], [6, I64, pages.uncompressed], [7, I64, len(pages.content)]]
        nulls = [12, STRUCT, [[3, I64, pages.entries]]]
        encodings = [13, LIST, (STRUCT, [[[1, I32, _DATA_PAGE], [2, I32, _PLAIN], [3, I32, pages.pages]]])]
        return cls(
            pages,
            thrift_fields([[4, I32, _CODECS[codec]], *sizes], after=3) + _OFFSET_HEAD,
            thrift_fields([nulls, encodings], after=_DATA_PAGE_OFFSET) + STOP + STOP,
        )

    def metadata(self, leaf: Leaf, position: int) -> bytes:
        """The column's entry in its row group. Its pages are at this position."""
        offset = varint(position << 1)  # the only number that is another for each of thousands of columns
        return b"".join((_head(leaf.physical, leaf.steps), leaf.path, self.sizes, offset, self.statistics))


@lru_cache(maxsize=256)
def _head(physical: int, steps: int) -> bytes:
    """A chunk's entry up to the path of its column, which has so many names."""
    encodings = [2, LIST, (I32, [_RLE, _PLAIN])]
    metadata = thrift_fields([[1, I32, physical], encodings]) + bytes([1 << 4 | LIST]) + thrift_list(BINARY, steps)
    return thrift_fields([[2, I64, 0]]) + bytes([1 << 4 | STRUCT]) + metadata


def _compressor(codec: str, level: int | None) -> Callable[[bytes], bytes]:
    if codec == "NONE":
        return bytes
    return partial(pa.Codec(codec.lower(), compression_level=level).compress, asbytes=True)


class SparseSchema(NamedTuple):
    """What depends only on the schema of the files, so that they share it."""

    trees: list[ColumnTree]
    """The fields with their columns."""
    columns: int
    """The number of columns."""
    head: bytes
    """The footer up to the end of the schema, as pyarrow writes it."""

    @classmethod
    def of(cls, schema: pa.Schema) -> SparseSchema | None:
        """The same for files of this schema; None if pyarrow is to write all of their columns.

        This is so if they are few, or if pyarrow's footer is not as it is expected.
        """
        trees = column_trees(schema)
        columns = sum(len(tree.leaf_columns) for tree in trees)
        if columns <= MOST_WHOLE_COLUMNS:
            return None
        file = BytesIO()
        pq.ParquetWriter(file, schema, store_schema=False).close()
        footer = file.getvalue()[len(_MAGIC) : -_FOOTER_TAIL]
        end = cls(trees, columns, b"").footer(0, [], {})
        return cls(trees, columns, footer.removesuffix(end)) if footer.endswith(end) else None

    def footer(self, rows: int, groups: Sequence[bytes], metadata: Mapping[str, str]) -> bytes:
        """The footer of a file with these row groups."""
        entries = [[[1, BINARY, key.encode()], [2, BINARY, value.encode()]] for key, value in metadata.items()]
        pairs: Struct = [[5, LIST, (STRUCT, entries)]] if entries else []
        author = [6, BINARY, f"parquet-cpp-arrow version {pa.cpp_version}".encode()]
        return (
            self.head
            + thrift_fields([[3, I64, rows]], after=2)
            + thrift_list_field(_FILE_ROW_GROUPS, STRUCT, groups, after=3)
            + thrift_fields([*pairs, author], after=_FILE_ROW_GROUPS)
            + thrift_list_field(7, STRUCT, [_ORDER_BY_TYPE] * self.columns, after=6)
            + STOP
        )
