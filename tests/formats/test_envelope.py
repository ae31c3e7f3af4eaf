"""Without an envelope, objects hold the source's fields and nothing else."""

from __future__ import annotations

import csv
import io
import json

import duckdb
import fastavro
import polars as pl
import pyarrow.parquet as pq
import pytest
from encoded import USERS, batch_of, stream_of, user, written
from hypothesis import given
from hypothesis import strategies as st
from strategies import streams

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.formats import encoder, read_table, table_schema
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
    TypeRules,
)

PLAIN, FLAT, NO_ENVELOPE = TextCompression.NONE, Flattening.ROOT, TypeRules(envelope="none")
CSV = CsvFormat(compression=PLAIN, flattening=FLAT)
KEPT = CsvFormat(compression=PLAIN, flattening=FLAT, additional_properties_column=True)
JSONL = JsonlFormat(compression=PLAIN)
FORMATS = [
    JSONL,
    JsonlFormat(flattening=FLAT),
    CsvFormat(compression=PLAIN),
    KEPT,
    CsvFormat(flattening=FLAT, header=False, delimiter=";", additional_properties_column=True, quoting="all"),
    AvroFormat(codec="Deflate"),
    ParquetFormat(),
    ParquetFormat(union_layout="member"),
    ParquetFormat(union_layout="typed"),
]
OWN = {"_airbyte_ab_id": {"type": "integer"}, "_airbyte_emitted_at": {"type": "string"}, "id": {"type": "integer"}}
OWN_RECORD = {"_airbyte_ab_id": 7, "_airbyte_emitted_at": "noon", "id": 1}


def bare(settings: FormatSettings, stream, batches) -> bytes:
    """One object without an envelope."""
    return written(settings, stream, batches, by=encoder(settings, stream, rules=NO_ENVELOPE))


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_all_fields_are_read_back_and_nothing_else(settings):
    stream, batch = stream_of(), batch_of(map(user, range(9)))
    table = read_table(settings, stream, bare(settings, stream, [batch]), NO_ENVELOPE)
    expected = read_table(settings, stream, written(settings, stream, [batch]))
    assert table.schema == table_schema(record_type(stream.json_schema, stream.name, None, NO_ENVELOPE))
    assert table.equals(expected.drop_columns(["_airbyte_ab_id", "_airbyte_emitted_at"]))


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
@given(generated=streams())
def test_any_record_is_read_back(settings, generated):
    properties, records = generated
    stream, batch = stream_of(properties), batch_of(records)
    found = read_table(settings, stream, bare(settings, stream, [batch]), NO_ENVELOPE)
    expected = read_table(settings, stream, written(settings, stream, [batch]))
    assert found.equals(expected.select(found.column_names))


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_fields_named_like_the_envelope_are_columns_like_any_other(settings):
    stream = stream_of(OWN)
    data = bare(settings, stream, [batch_of([OWN_RECORD])])
    assert read_table(settings, stream, data, NO_ENVELOPE).to_pylist() == [
        {**OWN_RECORD, "_airbyte_additional_properties": None}
    ]


# ---------------------------------------------------------------------- what is in the objects


def test_a_line_of_json_is_the_record_as_the_source_wrote_it():
    raws = [b'{"id": 1.50, "a":null}', b"{}", b'{"_airbyte_ab_id":1,"b":1,"b":2}']
    for settings in (JSONL, JsonlFormat(compression=PLAIN, flattening=FLAT)):
        assert bare(settings, stream_of(), [batch_of(raws)]) == b"\n".join(raws) + b"\n"


def test_csv_begins_with_the_first_field():
    stream = stream_of({"b": {}, "a": {}})
    rows = [{"b": 1, "a": "x"}, {"a": None, "c": [1]}, {"b": None}]
    assert bare(CSV, stream, [batch_of(rows)]) == b'"b","a"\r\n1,"x"\r\n,\r\n,\r\n'
    assert bare(KEPT, stream, [batch_of(rows)]).splitlines()[1:] == [b'1,"x",', b',,"{""c"":[1]}"', b",,"]
    whole = CsvFormat(compression=PLAIN)
    assert bare(whole, stream, [batch_of(rows[:1])]) == b'"_airbyte_data"\r\n"{""b"":1,""a"":""x""}"\r\n'


@pytest.mark.parametrize("properties", [{}, {"a": {"type": "string"}}])
def test_csv_without_an_envelope_has_no_empty_lines(properties):
    with pytest.raises(SettingsError, match="readers skip empty lines") as refused:
        encoder(CSV, stream_of(properties), rules=NO_ENVELOPE)
    assert refused.value.setting == "envelope"
    kept = CsvFormat(compression=PLAIN, flattening=FLAT, null_text="NULL", additional_properties_column=not properties)
    text = bare(kept, stream_of(properties), [batch_of([{"a": "x"}, {}])])
    assert text.splitlines()[1:] == [b'"x"' if properties else b'"{""a"":""x""}"', b"NULL"]


@pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
def test_two_binary_objects_of_the_same_records_differ(settings):
    formatted = encoder(settings, stream_of(), rules=NO_ENVELOPE)
    objects = []
    for marker in (bytes(16), bytes(range(16))):
        out = bytearray()
        writer = formatted.open(out.extend, marker)
        writer.append(formatted.encode(batch_of(map(user, range(3))), bytes(48)))
        writer.close()
        objects.append(bytes(out))
    assert objects[0] != objects[1]


# ---------------------------------------------------------------------- independent readers


def test_independent_readers_find_the_fields_alone(tmp_path):
    stream = stream_of({name: USERS[name] for name in ("id", "name", "score")})
    rows = [{"id": n, "name": f"né {n}", "score": n / 4} for n in range(5)]
    data = {each: bare(each, stream, [batch_of(rows)]) for each in (CSV, JSONL, AvroFormat(), ParquetFormat())}
    avro, parquet = data[AvroFormat()], data[ParquetFormat()]

    def own(row):
        return {name: row[name] for name in rows[0]}

    assert [json.loads(line) for line in data[JSONL].splitlines()] == rows
    assert pl.read_ndjson(io.BytesIO(data[JSONL])).rows(named=True) == rows
    assert pl.read_csv(io.BytesIO(data[CSV])).rows(named=True) == rows
    assert [row["name"] for row in csv.DictReader(io.StringIO(data[CSV].decode()))] == [row["name"] for row in rows]
    assert list(map(own, fastavro.reader(io.BytesIO(avro)))) == rows
    assert list(next(fastavro.reader(io.BytesIO(avro)))) == [*rows[0], "_airbyte_additional_properties"]
    table = pq.read_table(io.BytesIO(parquet))
    assert table.column_names == [*rows[0], "_airbyte_additional_properties"]
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet)
    assert duckdb.sql(f"select id, name, score from '{path}'").fetchall() == [tuple(row.values()) for row in rows]


@given(st.lists(st.integers(0, 3), min_size=1))
def test_rows_of_csv_stay_apart_however_many_batches_there_are(sizes):
    stream = stream_of({"a": {}, "b": {}})
    batches = [batch_of([{"a": size, "b": None}] * size) for size in sizes]
    text = bare(CSV, stream, batches).decode()
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] == [
        [str(size), ""] for size in sizes for _ in range(size)
    ]
