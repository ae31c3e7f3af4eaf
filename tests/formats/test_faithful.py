"""Every format and codec is read by independent programs, which find everything that the source wrote."""

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
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from columns import junk
from encoded import batch_of, stream_of, written
from hypothesis import given
from hypothesis import strategies as st
from source_oracle import lost, pairs, text_of

from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.formats import encoder
from s3dest_dagster.formats.parquet_lzo import without_lzo
from s3dest_dagster.settings.formats import (
    AvroCodecName,
    AvroFormat,
    CsvFormat,
    Flattening,
    JsonlFormat,
    ParquetCodec,
    ParquetFormat,
    TextCompression,
)

ENVELOPE = ("_airbyte_ab_id", "_airbyte_emitted_at")
LAYOUTS = ("named", "typed", "member")
SEEDS = st.integers(0, 1 << 32)
"""Seeds for streams. Hypothesis only varies the seeds, because its own strategies for deep values are slow."""


def generated(seed: int, rows: int = 40) -> tuple[Any, list[bytes]]:
    """A stream and its records: clean or dirty, plain or of every kind."""
    r = Random(seed)
    schema, how = junk.json_schema(r, plain=r.random() < 0.3), junk.taste(r)
    return stream_of(schema["properties"]), [junk.record(r, schema, how) for _ in range(r.randrange(rows))]


def assert_nothing_lost(stream, rows, raws):
    kind = record_type(stream.json_schema, stream.name, stream.namespace)
    for row, raw in zip(rows, raws, strict=True):
        assert lost(kind, row, raw.decode()) == [], raw.decode()


@given(SEEDS)
def test_fastavro_finds_every_value_with_every_codec(seed):
    stream, raws = generated(seed)
    plain: list[Any] | None = None
    for codec in get_args(AvroCodecName):
        rows = list(fastavro.reader(io.BytesIO(written(AvroFormat(codec=codec), stream, [batch_of(raws)]))))
        assert plain is None or rows == plain
        plain = rows
    assert_nothing_lost(stream, rows, raws)


@given(SEEDS)
def test_arrow_finds_every_value_with_every_parquet_codec(seed):
    stream, raws = generated(seed)
    for layout in LAYOUTS:
        plain: pa.Table | None = None
        for codec in get_args(ParquetCodec):
            data = written(ParquetFormat(compression_codec=codec, union_layout=layout), stream, [batch_of(raws)])
            table = pq.read_table(io.BytesIO(without_lzo(data) if codec == "LZO" else data))
            assert plain is None or table.equals(plain)
            plain = table
        assert_nothing_lost(stream, table.to_pylist(), raws)


@given(seed=SEEDS)
def test_polars_and_duckdb_find_every_value_of_parquet(tmp_path_factory, seed):
    stream, raws = generated(seed)
    path = tmp_path_factory.getbasetemp() / "generated.parquet"
    for layout in LAYOUTS:
        path.write_bytes(written(ParquetFormat(union_layout=layout), stream, [batch_of(raws)]))
        assert_nothing_lost(stream, pl.read_parquet(path).to_dicts(), raws)
        found = duckdb.sql(f"from '{path}'")
        assert_nothing_lost(stream, [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()], raws)


@given(SEEDS)
def test_json_lines_keep_the_text_of_the_source(seed):
    stream, raws = generated(seed)
    for flattening, compression in product(Flattening, TextCompression):
        chosen = JsonlFormat(flattening=flattening, compression=compression)
        lines = _text(written(chosen, stream, [batch_of(raws)]), compression).split("\n")[:-1]
        for line, raw in zip(lines, raws, strict=True):
            members = [(name, value) for name, value in pairs(line) if name not in ENVELOPE]
            if flattening is Flattening.NONE:
                assert members == [("_airbyte_data", raw.decode())]
            elif "_airbyte_ab_id" not in raw.decode():
                assert members == list(pairs(raw.decode()))
            else:
                json.loads(line)


@given(SEEDS)
def test_csv_has_a_cell_for_every_value(seed):
    stream, raws = generated(seed)
    properties = stream.json_schema["properties"]
    for flattening, compression in product(Flattening, TextCompression):
        kept = flattening is Flattening.ROOT
        chosen = CsvFormat(flattening=flattening, compression=compression, additional_properties_column=kept)
        text = _text(written(chosen, stream, [batch_of(raws)]), compression)
        for row, raw in zip(csv.DictReader(io.StringIO(text, newline="")), raws, strict=True):
            if not kept:
                assert json.loads(row["_airbyte_data"]) == json.loads(raw)
                continue
            beyond = list(pairs(row[OVERFLOW] or "{}"))
            for name, value in pairs(raw.decode()):
                in_column = name in properties and name not in (*ENVELOPE, OVERFLOW) and _is_cell(row[name], value)
                assert in_column or value == "null" or _is_beyond(name, value, beyond)


def _is_beyond(name: str, value: str, beyond: list[tuple[str, str]]) -> bool:
    """Whether the column of additional properties contains the value, under its name or under a derived name if that
    was taken."""
    found = [text for key, text in beyond if key == name or key.endswith(f".{name}")]
    return any(json.loads(text) == json.loads(value) for text in found)


def _is_cell(cell: str, value: str) -> bool:
    if value[0] in "{[":
        return cell == msgspec.json.format(value, indent=-1)
    return cell == ("" if value == "null" else text_of(value))


def _text(data: bytes, compression: TextCompression) -> str:
    return (gzip.decompress(data) if compression is TextCompression.GZIP else data).decode()


class ByRules(RecordConverter):
    """The slow path: converts every record by the rules, one value at a time."""

    _overridden = RecordConverter._convert_json  # fails here if the method gets another name

    def _convert_json(self, raws):
        return self._by_rules(raws)


@pytest.mark.parametrize("chosen", [AvroFormat(), *(ParquetFormat(union_layout=each) for each in LAYOUTS)], ids=repr)
@given(SEEDS)
def test_the_fast_and_the_slow_path_produce_the_same_bytes(chosen, seed):
    stream, raws = generated(seed, rows=200)
    batches = [batch_of(raws[:120]), batch_of(raws[120:])]
    slow = encoder(chosen, stream)
    slow._converter = ByRules(slow._converter.record, layout=slow._converter.layout)
    assert written(chosen, stream, batches) == written(chosen, stream, batches, by=slow)


@given(SEEDS)
def test_the_fast_and_the_slow_path_to_cells_produce_the_same_bytes(seed):
    stream, raws = generated(seed)
    chosen = CsvFormat(flattening=Flattening.ROOT, additional_properties_column=True)
    slow = encoder(chosen, stream)
    slow._reader._decoder._generated = None
    assert written(chosen, stream, [batch_of(raws)]) == written(chosen, stream, [batch_of(raws)], by=slow)
