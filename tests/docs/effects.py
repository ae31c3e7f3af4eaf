"""The effects of a format's options on its files, read from the metadata of the files, as tables of the
documentation."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from docs.pages import written_table
from encoded import EMITTED_AT, batch_of, stream_of, user, written
from formats.test_parquet import page_count

from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.settings.formats import AvroFormat, ParquetFormat

ROWS, PAGES = 100_000, 20_000
VISITS = stream_of({"number": {"type": "integer"}, "page": {"type": "string"}}, name="visits")
PAGE = 3
"""The column `page`, after the envelope and `number`."""

PARQUET: list[dict[str, Any]] = [
    {},
    {"block_size_mb": 1},
    {"page_size_kb": 64},
    {"dictionary_page_size_kb": 256},
    {"dictionary_encoding": False},
    {"compression_codec": "ZSTD"},
    {"max_padding_size_mb": 0},
]
AVRO: list[dict[str, Any]] = [
    {},
    {"codec": "Deflate", "compression_level": 6},
    {"codec": "bzip2"},
    {"codec": "xz"},
    {"codec": "zstandard", "include_checksum": True},
    {"codec": "snappy"},
]


def parquet_effects() -> str:
    header = ("setting", "row groups", "pages of the column", "its dictionary", "codec in the file")
    return written_table(header, [(_told(options), *_parquet_effect(options)) for options in PARQUET])


def _parquet_effect(options: dict[str, Any]) -> tuple[str, str, str, str]:
    numbers = np.arange(ROWS)
    texts = [f"/products/{number % PAGES}" for number in numbers]
    columns = pa.RecordBatch.from_pydict({"number": pa.array(numbers), "page": pa.array(texts)})
    data = written(ParquetFormat(**options), VISITS, [ArrowBatch(columns, np.full(ROWS, EMITTED_AT))])
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    chunk = metadata.row_group(0).column(PAGE)
    dictionary = _dictionary(chunk) if chunk.has_dictionary_page else "none"
    return str(metadata.num_row_groups), str(page_count(data, PAGE)), dictionary, _code(chunk.compression)


def _dictionary(chunk: pq.ColumnChunkMetaData) -> str:
    """The size of the dictionary, if it does not result from the compression."""
    size = (chunk.data_page_offset - chunk.dictionary_page_offset) / 1024
    return f"{size:.0f} KB" if chunk.compression == "UNCOMPRESSED" else "compressed"


def avro_effects() -> str:
    rows = []
    for options in AVRO:
        data = written(AvroFormat(**options), stream_of(), [batch_of(map(user, range(60)))])
        metadata = fastavro.reader(io.BytesIO(data)).metadata
        rows.append((_told(options), _code(metadata["avro.codec"])))
    return written_table(("setting", "`avro.codec` in the file"), rows)


def _told(options: dict[str, Any]) -> str:
    return (
        ", ".join(
            _code(f"{name}={json.dumps(value).capitalize() if isinstance(value, bool) else json.dumps(value)}")
            for name, value in options.items()
        )
        or "the defaults"
    )


def _code(text: str) -> str:
    return f"`{text}`"
