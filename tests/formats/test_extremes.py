"""Extreme values are read back by independent programs, either exactly or with their text in the overflow."""

from __future__ import annotations

import csv
import io
import json
import math

import duckdb
import fastavro
import polars as pl
import pyarrow.parquet as pq
import pytest
from encoded import batch_of, stream_of, written

from s3dest_dagster.batch import Tally
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)

NONE = TextCompression.NONE
JSONL, FLAT = JsonlFormat(compression=NONE), CsvFormat(compression=NONE, flattening=Flattening.ROOT)
LARGE = 10_000_000
TEXTS = {
    "planes": "".join(chr(plane * 0x10000 + 0x2345) for plane in range(17)) + "\u2028\u0085\ufeff\ufffe",
    "combining": "e\u0301 \u00e9 \U0001f468\u200d\U0001f469",
    "breaks": 'a\nb\r\nc\rd\te"f,g\\',
    "nul": "a\x00b\x1e\x1f\x7f",
    "large": "ä" * (LARGE // 2),
    "empty": "",
}


def csv_rows(data: bytes) -> list[dict[str, str]]:
    csv.field_size_limit(2 * LARGE)
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_the_same_for_every_reader(name, tmp_path):
    text, path = TEXTS[name], tmp_path / "text.parquet"
    stream = stream_of({"t": {"type": "string"}})
    for ascii_only in (False, True):
        batch = batch_of([json.dumps({"t": text}, ensure_ascii=ascii_only).encode()])
        path.write_bytes(written(ParquetFormat(), stream, [batch]))
        assert pq.read_table(path)["t"].to_pylist() == [text]
        assert pl.read_parquet(path)["t"].to_list() == [text]
        assert duckdb.sql(f"select t from '{path}'").fetchall() == [(text,)]
        assert next(fastavro.reader(io.BytesIO(written(AvroFormat(), stream, [batch]))))["t"] == text
        assert json.loads(written(JSONL, stream, [batch]))["_airbyte_data"]["t"] == text
        assert csv_rows(written(FLAT, stream, [batch]))[0]["t"] == text


DIGITS = "1234567890123456789012345678901234567890"
NUMBERS = [
    ("integer", "9007199254740993", 2**53 + 1, None),
    ("integer", "9223372036854775807", 2**63 - 1, None),
    ("integer", "-9223372036854775808", -(2**63), None),
    ("integer", "9223372036854775808", None, "9223372036854775808"),
    ("integer", DIGITS, None, DIGITS),
    ("integer", "1e308", None, "1e308"),
    ("integer", "1e400", None, "1e400"),
    ("number", "1e308", 1e308, None),
    ("number", "-0.0", -0.0, None),
    ("number", "5e-324", 5e-324, None),
    ("number", "9007199254740993", 2.0**53, "9007199254740993"),
    ("number", "9223372036854775808", 2.0**63, "9223372036854775808"),
    ("number", DIGITS, 1.2345678901234568e39, DIGITS),
    ("number", f"0.{DIGITS}", 0.12345678901234568, f"0.{DIGITS}"),
    ("number", "1e400", None, "1e400"),
    ("number", "1e-400", 0.0, "1e-400"),
]


@pytest.mark.parametrize(("declared", "text", "value", "over"), NUMBERS)
def test_a_number_lands_exactly_or_with_its_text(declared, text, value, over, tmp_path):
    stream, batch = stream_of({"n": {"type": declared}}), batch_of([b'{"n":%b}' % text.encode()])
    path = tmp_path / "number.parquet"
    path.write_bytes(written(ParquetFormat(), stream, [batch]))
    (found,) = duckdb.sql(f"select n, {OVERFLOW} from '{path}'").fetchall()
    avro = next(fastavro.reader(io.BytesIO(written(AvroFormat(), stream, [batch]))))
    for landed, kept in (found, (avro["n"], avro[OVERFLOW])):
        assert (type(landed), landed, kept) == (type(value), value, over and {"n": over})
        assert value is None or math.copysign(1, landed) == math.copysign(1, value)
    assert f'"n":{text}'.encode() in written(JSONL, stream, [batch])
    assert csv_rows(written(FLAT, stream, [batch]))[0]["n"] == text
    tally = encoder(AvroFormat(), stream).encode(batch, bytes(16)).tally
    assert tally == (Tally(overflowed={"n": 1}) if over else Tally())


def test_two_thousand_columns_are_found_by_every_reader():
    kinds = [{"type": "string"}, {"type": "integer"}, {"type": "number"}]
    record = {f"c{i}": ["x", i, i / 4][i % 3] for i in range(2000)}
    stream, batch = stream_of({f"c{i}": kinds[i % 3] for i in range(2000)}), batch_of([record])
    for row in (
        pq.read_table(io.BytesIO(written(ParquetFormat(), stream, [batch]))).to_pylist()[0],
        next(fastavro.reader(io.BytesIO(written(AvroFormat(), stream, [batch])))),
        json.loads(written(JSONL, stream, [batch]))["_airbyte_data"],
    ):
        assert {name: row[name] for name in record} == record
    cells = csv_rows(written(FLAT, stream, [batch]))[0]
    assert {name: cells[name] for name in record} == {name: str(value) for name, value in record.items()}


def test_columns_that_are_always_empty_or_null_are_read_back(tmp_path):
    properties = {
        "object": {"type": "object"},
        "null": {"type": "null"},
        "nulls": {"type": "integer"},
        "list": {"type": "array", "items": {"type": "integer"}},
        "lists": {"type": "array", "items": {"type": "array", "items": {"type": "object"}}},
    }
    stream = stream_of(properties)
    batch = batch_of([{"object": {}, "list": [], "lists": [[], None, [{}, None]]}, {"list": [None]}])
    path = tmp_path / "empty.parquet"
    path.write_bytes(written(ParquetFormat(), stream, [batch]))
    empty = {OVERFLOW: None}
    found = duckdb.sql(f"select * from '{path}'")
    for rows in (
        pq.read_table(path).to_pylist(),
        pl.read_parquet(path).to_dicts(),
        [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()],
        list(fastavro.reader(io.BytesIO(written(AvroFormat(), stream, [batch])))),
    ):
        assert [{name: row[name] for name in properties} for row in rows] == [
            {"object": empty, "null": None, "nulls": None, "list": [], "lists": [[], None, [empty, None]]},
            {"object": None, "null": None, "nulls": None, "list": [None], "lists": None},
        ]
