"""Parquet: sizes, codecs and layout follow the settings, according to the file's metadata and independent readers."""

from __future__ import annotations

import gc
import io
import json

import duckdb
import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import EMITTED_AT, MARKER, batch_of, entropy_of, stream_of, user, written

from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schemas import avro_schema
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import ParquetFormat

STREAM = stream_of()
CODECS = ["UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "LZ4", "ZSTD"]
NUMBERS = stream_of({"n": {"type": "integer"}, "text": {"type": "string"}})


def _file(data: bytes) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(data))


def _numbers(count: int, *, distinct: int = 1 << 62, start: int = 0) -> ArrowBatch:
    values = np.arange(start, start + count)
    columns = {"n": pa.array(values), "text": pa.array([f"text {value % distinct}" for value in values])}
    return ArrowBatch(pa.RecordBatch.from_pydict(columns), np.full(count, EMITTED_AT))


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_in_the_file_and_supported_by_all_readers(codec, tmp_path):
    path = tmp_path / "users.parquet"
    path.write_bytes(written(ParquetFormat(compression_codec=codec), STREAM, [batch_of(map(user, range(60)))]))
    named = {"LZ4": "LZ4_RAW"}.get(codec, codec)
    assert duckdb.sql(f"select distinct compression from parquet_metadata('{path}')").fetchall() == [(named,)]
    assert duckdb.sql(f"select sum(id) from '{path}'").fetchall() == [(sum(range(60)),)]
    assert pl.read_parquet(path)["id"].to_list() == list(range(60))
    assert pq.read_table(path)["id"].to_pylist() == list(range(60))


def test_the_envelope_comes_first_and_is_never_null():
    schema = _file(written(ParquetFormat(), STREAM, [])).schema
    first, second = schema.column(0), schema.column(1)
    assert (first.name, str(first.logical_type), first.max_definition_level) == ("_airbyte_ab_id", "String", 0)
    assert second.name == "_airbyte_emitted_at"
    assert "isAdjustedToUTC=true, timeUnit=milliseconds" in str(second.logical_type)
    assert second.max_definition_level == 0


def test_lists_maps_and_moments_have_the_forms_of_the_parquet_format():
    schema = _file(written(ParquetFormat(), STREAM, [])).schema
    found = {column.path: str(column.logical_type) for column in map(schema.column, range(len(schema)))}
    assert found["tags.list.element"] == "String"
    assert found["_airbyte_additional_properties.key_value.key"] == "String"
    assert "isAdjustedToUTC=true, timeUnit=microseconds" in found["seen"]
    assert (found["born"], found["code.integer"]) == ("Date", "None")
    assert "Time(isAdjustedToUTC=false, timeUnit=microseconds" in found["wakes"]


@pytest.mark.parametrize("batch_rows", [1000, 30_000, 300_000])
def test_row_groups_have_the_configured_size_whatever_the_batches(batch_rows):
    batches = [_numbers(batch_rows, start=start) for start in range(0, 300_000, batch_rows)]
    groups = _groups(ParquetFormat(block_size_mb=4), batches)
    assert sum(groups) == 300_000
    row_bytes = pq.read_table(io.BytesIO(written(ParquetFormat(), NUMBERS, batches))).nbytes / 300_000
    for rows in groups[:-1]:
        assert rows * row_bytes * 1.02 >= 4 << 20
        assert rows * row_bytes <= (4 << 20) * 1.25


def _groups(chosen: ParquetFormat, batches) -> list[int]:
    metadata = _file(written(chosen, NUMBERS, batches)).metadata
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def test_many_small_batches_make_one_row_group():
    assert _groups(ParquetFormat(), [_numbers(10, start=start) for start in range(0, 1000, 10)]) == [1000]


def test_more_rows_than_the_limit_of_pyarrow_make_one_row_group():
    stream = stream_of({})
    rows = 1_100_000
    batch = ArrowBatch(pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([]))), np.zeros(rows, np.int64))
    formatted = encoder(ParquetFormat(), stream)
    out = bytearray()
    writer = formatted.open(out.extend, MARKER)
    for start in range(0, rows, 100_000):
        piece = ArrowBatch(batch.data.slice(start, 100_000), batch.emitted_at[start : start + 100_000])
        writer.append(formatted.encode(piece, bytes(16 * 100_000)))
    writer.close()
    assert _file(bytes(out)).metadata.num_row_groups == 1


def test_buffered_rows_are_reported_and_released_on_demand():
    formatted = encoder(ParquetFormat(), NUMBERS)
    out = bytearray()
    writer = formatted.open(out.extend, MARKER)
    batch = _numbers(100)
    encoded = formatted.encode(batch, entropy_of(batch))
    writer.append(encoded)
    assert writer.buffered == encoded.nbytes > 0
    before = len(out)
    writer.flush_rows()
    assert writer.buffered == 0
    assert len(out) > before
    writer.flush_rows()
    writer.append(encoded)
    writer.close()
    assert [_file(bytes(out)).metadata.row_group(group).num_rows for group in range(2)] == [100, 100]


def test_an_abandoned_object_stays_incomplete():
    formatted = encoder(ParquetFormat(), NUMBERS)
    out = bytearray()
    writer = formatted.open(out.extend, MARKER)
    batch = _numbers(100)
    writer.append(formatted.encode(batch, entropy_of(batch)))
    writer.flush_rows()
    before = bytes(out)
    del writer
    gc.collect()
    assert bytes(out) == before


def page_count(data: bytes, column: int) -> int:
    """The number of data pages of a column, counted by their headers (the dictionary has one more)."""
    from s3dest_dagster.formats.thrift import ThriftReader, get

    chunk = _file(data).metadata.row_group(0).column(column)
    position = chunk.dictionary_page_offset or chunk.data_page_offset
    end = position + chunk.total_compressed_size
    pages = 0
    while position < end:
        reader = ThriftReader(data, position)
        header = reader.struct()
        pages += get(header, 1) != 2
        position = reader.position + get(header, 3)
    return pages


@pytest.mark.parametrize(("page_size_kb", "expected"), [(8, 100), (64, 13), (1024, 1)])
def test_pages_have_the_configured_size(page_size_kb, expected):
    chosen = ParquetFormat(page_size_kb=page_size_kb, dictionary_encoding=False)
    data = written(chosen, NUMBERS, [_numbers(100_000)])
    assert page_count(data, 2) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("batch_rows", [50, 1000])
@pytest.mark.parametrize(("page_size_kb", "expected"), [(32, 250), (1024, 10)])
def test_pages_of_long_texts_have_the_configured_size_whatever_the_batches(page_size_kb, expected, batch_rows):
    stream = stream_of({"text": {"type": "string"}})
    records = [{"text": f"{number:<10000}"} for number in range(1000)]
    batches = [batch_of(records[first : first + batch_rows]) for first in range(0, 1000, batch_rows)]
    chosen = ParquetFormat(page_size_kb=page_size_kb, dictionary_encoding=False)
    assert page_count(written(chosen, stream, batches), 2) == pytest.approx(expected, rel=0.2)


def test_the_dictionary_of_long_texts_ends_at_the_configured_size():
    stream = stream_of({"text": {"type": "string"}})
    batch = batch_of([{"text": f"{number:<10000}"} for number in range(500)])
    chunk = _file(written(ParquetFormat(dictionary_page_size_kb=64), stream, [batch])).metadata.row_group(0).column(2)
    assert chunk.data_page_offset - chunk.dictionary_page_offset < 128 << 10


def test_dictionaries_are_written_as_configured():
    for asked in (True, False):
        data = written(ParquetFormat(dictionary_encoding=asked), NUMBERS, [_numbers(5000, distinct=10)])
        assert _file(data).metadata.row_group(0).column(3).has_dictionary_page is asked


def test_the_size_of_the_dictionary_is_limited_as_configured():
    sizes = {}
    for kilobytes in (16, 1024):
        chosen = ParquetFormat(dictionary_page_size_kb=kilobytes)
        chunk = _file(written(chosen, NUMBERS, [_numbers(2_800)])).metadata.row_group(0).column(3)
        sizes[kilobytes] = chunk.data_page_offset - chunk.dictionary_page_offset
    assert sizes[16] < 20 << 10 < 30 << 10 < sizes[1024]


def test_gzip_has_level_6():
    batches = [_numbers(50_000)]
    data = written(ParquetFormat(compression_codec="GZIP"), NUMBERS, batches)
    table = pq.read_table(io.BytesIO(written(ParquetFormat(), NUMBERS, batches)))
    out = io.BytesIO()
    pq.write_table(table, out, compression="gzip", compression_level=6, use_dictionary=False, store_schema=False)
    sizes = [_file(each).metadata.row_group(0).column(2).total_compressed_size for each in (data, out.getvalue())]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_unions_are_named_or_numbered_as_configured(tmp_path):
    path = tmp_path / "x.parquet"
    found = {}
    for layout in ("named", "member"):
        path.write_bytes(written(ParquetFormat(union_layout=layout), STREAM, [batch_of(map(user, range(2)))]))
        found[layout] = duckdb.sql(f"select code, born from '{path}' order by id").fetchall()
    assert found["named"][1][0] == {"integer": 1, "string": None}
    assert found["named"][0][1] is None
    assert found["member"][1][0] == {"member0": 1, "member1": None}
    assert found["member"][0][1] == {"member0": None, "member1": "long ago"}


def test_the_member_layout_contains_the_avro_schema_of_the_stream():
    metadata = _file(written(ParquetFormat(union_layout="member"), STREAM, [])).metadata.metadata
    assert json.loads(metadata[b"parquet.avro.schema"]) == avro_schema(record_type(STREAM.json_schema, "users", None))


def test_the_named_layout_contains_an_avro_schema_of_its_own_columns():
    properties = {
        "day": {"type": "string", "format": "date"},
        "both": {"type": ["integer", "string", "object"], "properties": {"x": {"type": ["number", "boolean"]}}},
        "list": {"type": "array", "items": {"type": ["boolean", "string"]}},
        "nothing": {"type": "null"},
    }
    file = _file(written(ParquetFormat(), stream_of(properties), []))
    schema = json.loads(file.metadata.metadata[b"parquet.avro.schema"])
    fastavro.parse_schema(schema)
    assert _structure_of_avro(schema) == _structure_of_arrow(file.schema_arrow)


def _structure_of_avro(schema):
    if isinstance(schema, list):
        assert len(schema) == 2
        return _structure_of_avro(schema[1])
    if isinstance(schema, str):
        return schema
    if schema["type"] == "record":
        return {field["name"]: _structure_of_avro(field["type"]) for field in schema["fields"]}
    if schema["type"] == "array":
        return [_structure_of_avro(schema["items"])]
    return schema["type"]


_AVRO_NAMES = {
    pa.string(): "string",
    pa.int64(): "long",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.date32(): "int",
    pa.null(): "null",
    pa.timestamp("ms", "UTC"): "long",
}


def _structure_of_arrow(kind):
    if isinstance(kind, pa.Schema | pa.StructType):
        return {field.name: _structure_of_arrow(field.type) for field in kind}
    if pa.types.is_map(kind):
        return "map"
    return [_structure_of_arrow(kind.value_type)] if pa.types.is_list(kind) else _structure_of_scalar(kind)


def _structure_of_scalar(kind):
    name = _AVRO_NAMES[kind]
    return name if kind != pa.timestamp("ms", "UTC") else "long"
