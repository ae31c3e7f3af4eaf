"""Every format and codec, read by programs that nobody here wrote: what the source said is there, all of it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from itertools import product
from random import Random
from typing import Any, get_args

import duckdb
import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faithful import lost, text_of
from generated import streams
from hypothesis import given
from schema import junk
from written import batch_of, stream_of, written

from s3dest_dagster.destination import (
    AvroCodecName,
    AvroFormat,
    CsvFormat,
    Flattening,
    JsonlFormat,
    ParquetCodec,
    ParquetFormat,
    TextCompression,
)
from s3dest_dagster.formats import encoder
from s3dest_dagster.formats.lzo import without_lzo
from s3dest_dagster.schema import Road, record_type
from s3dest_dagster.schema.types import OVERFLOW

ENVELOPE = ("_airbyte_ab_id", "_airbyte_emitted_at")
LAYOUTS = ("named", "member")


def assert_all_there(stream, rows, records):
    kind = record_type(stream.json_schema, stream.name, stream.namespace)
    assert [lost(kind, row, record) for row, record in zip(rows, records, strict=True)] == [[]] * len(records)


@given(streams())
def test_fastavro_finds_every_value_under_every_codec(generated):
    properties, records = generated
    stream = stream_of(properties)
    plain: list[Any] | None = None
    for codec in get_args(AvroCodecName):
        rows = list(fastavro.reader(io.BytesIO(written(AvroFormat(codec=codec), stream, [batch_of(records)]))))
        assert plain is None or rows == plain
        plain = rows
    assert_all_there(stream, rows, records)


@given(streams())
def test_arrow_finds_every_value_under_every_parquet_codec(generated):
    properties, records = generated
    stream = stream_of(properties)
    for layout in LAYOUTS:
        plain: pa.Table | None = None
        for codec in get_args(ParquetCodec):
            data = written(ParquetFormat(compression_codec=codec, union_layout=layout), stream, [batch_of(records)])
            table = pq.read_table(io.BytesIO(without_lzo(data) if codec == "LZO" else data))
            assert plain is None or table.equals(plain)
            plain = table
        assert_all_there(stream, table.to_pylist(), records)


@given(generated=streams())
def test_polars_and_duckdb_find_every_value_of_parquet(tmp_path_factory, generated):
    properties, records = generated
    stream = stream_of(properties)
    path = tmp_path_factory.getbasetemp() / "generated.parquet"
    for layout in LAYOUTS:
        path.write_bytes(written(ParquetFormat(union_layout=layout), stream, [batch_of(records)]))
        assert_all_there(stream, pl.read_parquet(path).to_dicts(), records)
        found = duckdb.sql(f"from '{path}'")
        assert_all_there(stream, [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()], records)


@given(streams())
def test_json_finds_every_value_of_json_lines(generated):
    properties, records = generated
    for flattening, compression in product(Flattening, TextCompression):
        chosen = JsonlFormat(flattening=flattening, compression=compression)
        lines = _text(written(chosen, stream_of(properties), [batch_of(records)]), compression).split("\n")[:-1]
        found = [json.loads(line) for line in lines]
        expected = records if flattening is Flattening.ROOT else [{"_airbyte_data": record} for record in records]
        assert [{name: row[name] for name in row if name not in ENVELOPE} for row in found] == expected


@given(streams())
def test_csv_finds_every_value_of_csv(generated):
    properties, records = generated
    for flattening, compression in product(Flattening, TextCompression):
        kept = flattening is Flattening.ROOT
        chosen = CsvFormat(flattening=flattening, compression=compression, additional_properties_column=kept)
        text = _text(written(chosen, stream_of(properties), [batch_of(records)]), compression)
        for row, record in zip(csv.DictReader(io.StringIO(text, newline="")), records, strict=True):
            if not kept:
                assert json.loads(row["_airbyte_data"]) == record
                continue
            beyond = json.loads(row[OVERFLOW] or "{}")
            assert beyond == {name: value for name, value in record.items() if name not in properties}
            cells = {name: "" if value is None else text_of(value) for name, value in record.items()}
            assert {name: row[name] for name in properties} == {name: cells.get(name, "") for name in properties}


def _text(data: bytes, compression: TextCompression) -> str:
    return (gzip.decompress(data) if compression is TextCompression.GZIP else data).decode()


class ByRules(Road):
    """The slow road: every record by the rules of conversion, one value at a time."""

    def _of_json(self, raws):
        return self._by_rules(raws)


ROADS = [AvroFormat(), *(ParquetFormat(union_layout=layout) for layout in LAYOUTS)]


@pytest.mark.parametrize("chosen", ROADS, ids=["avro", *LAYOUTS])
@pytest.mark.parametrize("seed", range(12))
def test_the_fast_and_the_slow_road_give_the_same_bytes(chosen, seed):
    r = Random(seed)
    schema, how = junk.json_schema(r, plain=seed % 2 == 0), junk.taste(r)
    stream = stream_of(schema["properties"])
    batches = [batch_of([junk.record(r, schema, how) for _ in range(size)]) for size in (60, 3, 30)]
    slow = encoder(chosen, stream)
    slow._road = ByRules(slow._road.record, layout=slow._road.layout)
    assert written(chosen, stream, batches) == written(chosen, stream, batches, by=slow)


@given(streams())
def test_the_fast_and_the_slow_way_to_cells_give_the_same_bytes(generated):
    properties, records = generated
    chosen, stream = CsvFormat(flattening=Flattening.ROOT, additional_properties_column=True), stream_of(properties)
    slow = encoder(chosen, stream)
    slow._rows._plan._decoder = None
    assert written(chosen, stream, [batch_of(records)]) == written(chosen, stream, [batch_of(records)], by=slow)
