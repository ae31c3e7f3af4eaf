"""The stages that nothing can avoid, each on its own: what a landing would cost if everything between them were free.

JSON Lines: the envelope of each message decoded with its data as raw text, and gzip. CSV, Avro and Parquet: the data
parsed into typed columns by pyarrow too, and then the columns encoded: by pyarrow's CSV writer and gzip; as Avro
bodies (by the encoder of this project, as there is no other that works on columns) and deflate; by pyarrow's Parquet
writer. Not counted is whatever joins the stages: texts put together, checks, ids, counts, the commit.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from s3dest_dagster.batch import JsonBatch
from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.schemas import record_ids
from s3dest_dagster.formats.avro import blocks, record_rows
from s3dest_dagster.formats.compression import avro_codec, gzip_stream
from s3dest_dagster.formats.envelope import EnvelopeEncoder, EnvelopeValues, SyncNumbers
from s3dest_dagster.settings.formats import AvroFormat, GzipEffort

DECODE, COLUMNS, ENCODE, COMPRESS = "decode messages", "parse into columns", "encode", "compress"
_BLOCK_BYTES = 1 << 20
_ROW_GROUP_BYTES = 128 << 20


class _Record(msgspec.Struct, gc=False):
    data: msgspec.Raw
    emitted_at: int
    stream: str


class _Message(msgspec.Struct, gc=False):
    type: str
    record: _Record | None = None


class Batch(NamedTuple):
    """The records of a block: their texts, and the times at which they were emitted."""

    raws: list[msgspec.Raw]
    emitted_at: list[int]


class Stopwatch:
    """Sums the CPU seconds of this process by stage, and counts the `records` that went through."""

    def __init__(self) -> None:
        self.records = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[stage] += time.process_time() - began


def measure(
    file_format: str,
    messages: Path,
    output: Path,
    schema: Mapping[str, Any],
    *,
    gzip_effort: GzipEffort = "balanced",
    deflate_level: int | None = 1,
) -> Stopwatch:
    """The stages of a format (jsonl, csv, avro, parquet)."""
    if file_format == "jsonl":
        return jsonl_gz(messages, output, gzip_effort)
    if file_format == "csv":
        return csv_gz(messages, output, gzip_effort, schema)
    if file_format == "avro":
        return avro_deflate(messages, output, deflate_level, schema)
    return parquet_snappy(messages, output, schema)


def jsonl_gz(messages: Path, output: Path, effort: GzipEffort) -> Stopwatch:
    """The stages of JSON Lines. The lines that are compressed are put together outside of them."""
    watch, gzip = Stopwatch(), gzip_stream(effort)
    with output.open("wb") as file:
        for batch in _decoded(messages, watch):
            lines = _lines(batch)
            with watch.of(COMPRESS):
                compressed = gzip.compress(lines)
            file.write(compressed)
        with watch.of(COMPRESS):
            file.write(gzip.flush())
    return watch


def csv_gz(messages: Path, output: Path, effort: GzipEffort, schema: Mapping[str, Any]) -> Stopwatch:
    """The stages of CSV with the root level's fields as columns; nested values, which no stage renders, as text."""
    watch, gzip = Stopwatch(), gzip_stream(effort)
    options = pc.WriteOptions(include_header=False, quoting_style="all_valid")
    with output.open("wb") as file:
        for batch in _decoded(messages, watch):
            columns = _with_envelope(batch, _flat(_columns(batch, _text_schema(schema), watch)))
            text = pa.BufferOutputStream()
            with watch.of(ENCODE):
                pc.write_csv(columns, text, options)
            with watch.of(COMPRESS):
                compressed = gzip.compress(text.getvalue())
            file.write(compressed)
        with watch.of(COMPRESS):
            file.write(gzip.flush())
    return watch


def avro_deflate(messages: Path, output: Path, level: int | None, schema: Mapping[str, Any]) -> Stopwatch:
    """The stages of Avro; level None: without compression."""
    watch = Stopwatch()
    record = record_type(schema, "users", None)
    converter = RecordConverter(record, layout=Layout.AVRO)
    envelope = EnvelopeEncoder(record.envelope, SyncNumbers())
    settings = AvroFormat() if level is None else AvroFormat(codec="Deflate", compression_level=level)
    compress = avro_codec(settings)[1]
    with output.open("wb") as file:
        for batch in _decoded(messages, watch):
            _columns(batch, _text_schema(schema), watch)
            converted = converter.convert(JsonBatch(batch.raws, np.array(batch.emitted_at, np.int64), 0)).data
            ids, emitted_at = record_ids(os.urandom(16 * len(batch.raws))), np.array(batch.emitted_at, np.int64)
            with watch.of(ENCODE):
                rows = record_rows(record, converted.columns, envelope, EnvelopeValues(ids, emitted_at, {}))
                encoded = [body for _, body in blocks(rows)]
            with watch.of(COMPRESS):
                compressed = [compress(body) for body in encoded]
            file.writelines(compressed)
    return watch


def parquet_snappy(messages: Path, output: Path, schema: Mapping[str, Any]) -> Stopwatch:
    """The stages of Parquet; snappy is part of its writer."""
    watch = Stopwatch()
    writer: Any = None
    held: list[pa.RecordBatch] = []

    def flush() -> None:
        with watch.of(ENCODE):
            writer.write_table(pa.Table.from_batches(held))
        held.clear()

    for batch in _decoded(messages, watch):
        held.append(_with_envelope(batch, _columns(batch, _text_schema(schema), watch)))
        writer = writer or pq.ParquetWriter(output, held[0].schema, compression="snappy")
        if sum(each.nbytes for each in held) >= _ROW_GROUP_BYTES:
            flush()
    flush()
    with watch.of(ENCODE):
        writer.close()
    return watch


def _decoded(messages: Path, watch: Stopwatch) -> Iterator[Batch]:
    decode = msgspec.json.Decoder(_Message).decode_lines
    for block in _blocks(messages):
        with watch.of(DECODE):
            decoded = decode(block)
        records = [each.record for each in decoded if each.record is not None]
        watch.records += len(records)
        yield Batch([each.data for each in records], [each.emitted_at for each in records])


def _blocks(messages: Path) -> Iterator[bytes]:
    with messages.open("rb") as file:
        yield from map(b"".join, iter(partial(file.readlines, _BLOCK_BYTES), []))


def _lines(batch: Batch) -> bytes:
    """The lines of a JSON Lines object."""
    ids = record_ids(os.urandom(16 * len(batch.raws))).tobytes()
    return b"".join(
        b'{"_airbyte_ab_id":"%b","_airbyte_emitted_at":"%d","_airbyte_data":%b}\n'
        % (ids[36 * row : 36 * row + 36], batch.emitted_at[row], raw)
        for row, raw in enumerate(map(bytes, batch.raws))
    )


def _columns(batch: Batch, schema: pa.Schema, watch: Stopwatch) -> pa.RecordBatch:
    text = b"\n".join(batch.raws)
    read = pj.ReadOptions(use_threads=False, block_size=len(text) + 64)
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    with watch.of(COLUMNS):
        table = pj.read_json(pa.BufferReader(text), read, parse)
    return table.combine_chunks().to_batches()[0]


def _with_envelope(batch: Batch, columns: pa.RecordBatch) -> pa.RecordBatch:
    ids = pa.array(np.ascontiguousarray(record_ids(os.urandom(16 * len(batch.raws)))).view("S36").ravel()).cast(
        pa.string()
    )
    envelope = {"_airbyte_ab_id": ids, "_airbyte_emitted_at": pa.array(batch.emitted_at, pa.int64())}
    return pa.RecordBatch.from_pydict(envelope | dict(zip(columns.schema.names, columns.columns, strict=True)))


def _flat(columns: pa.RecordBatch) -> pa.RecordBatch:
    """Nested columns as texts of about their length: CSV needs them, and making them is not counted."""
    nested = [index for index, field in enumerate(columns.schema) if pa.types.is_nested(field.type)]
    for index in nested:
        texts = pa.array([msgspec.json.encode(value).decode() for value in columns.column(index).to_pylist()])
        columns = columns.set_column(index, columns.schema.names[index], texts)
    return columns


def _text_schema(schema: Mapping[str, Any]) -> pa.Schema:
    """The declared types as pyarrow reads them fastest: dates stay text."""
    return pa.schema([pa.field(name, _type(each)) for name, each in schema["properties"].items()])


def _type(schema: Mapping[str, Any]) -> pa.DataType:
    kind = (
        schema["type"] if isinstance(schema["type"], str) else next(each for each in schema["type"] if each != "null")
    )
    if kind == "object":
        return pa.struct([pa.field(name, _type(each)) for name, each in schema["properties"].items()])
    if kind == "array":
        return pa.list_(_type(schema["items"]))
    return {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}[kind]
