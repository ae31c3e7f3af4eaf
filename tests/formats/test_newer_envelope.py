"""The envelope of the connector's newer versions, in every format: what it says of a record, and what readers find."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import EMITTED_AT, MARKER, batch_of, entropy_of, stream_of, user, written
from hypothesis import given
from hypothesis import strategies as st
from strategies import streams

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.partition_values import RecordGrouper
from s3dest_dagster.formats import Encoder, encoder, read_table
from s3dest_dagster.record_changes import Change
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
from s3dest_dagster.settings.partition_fields import partition_rule
from s3dest_dagster.stream import Generation, Stream

NEWER = TypeRules(envelope="airbyte_1")
NAMES = ["_airbyte_raw_id", "_airbyte_extracted_at", "_airbyte_meta", "_airbyte_generation_id"]
PLAIN, FLAT = TextCompression.NONE, Flattening.ROOT
CSV, JSONL = CsvFormat(compression=PLAIN), JsonlFormat(compression=PLAIN)
FLAT_CSV = CsvFormat(compression=PLAIN, flattening=FLAT)
FLAT_JSONL = JsonlFormat(compression=PLAIN, flattening=FLAT)
TYPED = [AvroFormat(), ParquetFormat(), ParquetFormat(union_layout="member"), ParquetFormat(union_layout="typed")]
TEXTS = [
    JSONL,
    FLAT_JSONL,
    CSV,
    FLAT_CSV,
    CsvFormat(flattening=FLAT, header=False, delimiter=";", quoting="all", additional_properties_column=True),
]
FORMATS = [*TEXTS, *TYPED]
TOO_LONG = Change("note", "TRUNCATED", "SOURCE_FIELD_SIZE_LIMITATION")
SYNC_ID, GENERATION_ID = 77, 14


def of_generation(stream: Stream) -> Stream:
    return replace(stream, generation=Generation(GENERATION_ID, sync_id=SYNC_ID))


def newer(settings: FormatSettings, stream: Stream, **more: Any) -> Encoder:
    return encoder(settings, of_generation(stream), rules=NEWER, **more)


def landed(settings: FormatSettings, stream: Stream, *batches: Batch) -> bytes:
    """One object with these batches."""
    return written(settings, stream, batches, by=newer(settings, stream))


def rows_of(settings: FormatSettings, stream: Stream, *batches: Batch) -> list[dict[str, Any]]:
    return read_table(settings, stream, landed(settings, stream, *batches), NEWER).to_pylist()


def changes_of(settings: FormatSettings, properties: Mapping[str, Any], *records: Any) -> list[list[Change]]:
    """The changes of each of these records."""
    batch = records[0] if isinstance(records[0], JsonBatch | ArrowBatch) else batch_of(records)
    rows = rows_of(settings, stream_of(properties), batch)
    return [[Change(**each) for each in row["_airbyte_meta"]["changes"]] for row in rows]


# ---------------------------------------------------------------------- what is in the objects


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_every_record_has_an_id_a_time_and_the_numbers_of_its_sync(settings):
    batch = batch_of(map(user, range(9)))
    table = read_table(settings, stream_of(), landed(settings, stream_of(), batch), NEWER)
    assert table.column_names[:4] == NAMES
    assert len(set(table["_airbyte_raw_id"].to_pylist())) == 9
    times = table["_airbyte_extracted_at"].cast(pa.int64()).to_pylist()
    assert times == [EMITTED_AT + number for number in range(9)]
    assert set(table["_airbyte_generation_id"].to_pylist()) == {GENERATION_ID}
    assert {meta["sync_id"] for meta in table["_airbyte_meta"].to_pylist()} == {SYNC_ID}


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
@given(generated=streams())
def test_the_fields_are_those_of_the_older_envelope(settings, generated):
    properties, records = generated
    stream, batch = stream_of(properties), batch_of(records)
    found = read_table(settings, stream, landed(settings, stream, batch), NEWER)
    older = read_table(settings, stream, written(settings, stream, [batch]))
    assert found.drop_columns(NAMES).equals(older.drop_columns(["_airbyte_ab_id", "_airbyte_emitted_at"]))


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_without_a_generation_the_numbers_are_zero_and_that_of_the_sync(settings):
    stream = stream_of()
    made = encoder(settings, stream, rules=NEWER, sync_number=5)
    (row,) = read_table(settings, stream, written(settings, stream, [batch_of([{}])], by=made), NEWER).to_pylist()
    assert (row["_airbyte_meta"], row["_airbyte_generation_id"]) == ({"sync_id": 5, "changes": []}, 0)


def test_lines_of_json_have_the_members_of_the_connector():
    batch = replace(batch_of([b'{"a":1}', b"{}"]), changes={1: (TOO_LONG,)})
    usual = b'"_airbyte_extracted_at":"%d","_airbyte_meta":{"sync_id":77,"changes":[%b]},"_airbyte_generation_id":14'
    change = b'{"field":"note","change":"TRUNCATED","reason":"SOURCE_FIELD_SIZE_LIMITATION"}'
    first, second = usual % (EMITTED_AT, b""), usual % (EMITTED_AT + 1, change)

    def lines(settings):
        return [line.partition(b",")[2] for line in landed(settings, stream_of(), batch).splitlines()]

    assert lines(JSONL) == [first + b',"_airbyte_data":{"a":1}}', second + b',"_airbyte_data":{}}']
    assert lines(FLAT_JSONL) == [first + b',"a":1}', second + b"}"]


def test_lines_of_csv_have_the_columns_of_the_connector():
    batch = replace(batch_of([{"a": 1}, {"a": 2}]), changes={1: (TOO_LONG,)})
    found = landed(FLAT_CSV, stream_of({"a": {}}), batch).splitlines()
    assert found[0] == b",".join(b'"%b"' % name.encode() for name in [*NAMES, "a"])
    first, second = csv.reader(io.StringIO(b"\n".join(found[1:]).decode()))
    assert first[1:] == [str(EMITTED_AT), '{"sync_id":77,"changes":[]}', "14", "1"]
    assert json.loads(second[2])["changes"] == [TOO_LONG._asdict()]
    assert b',14,"{""a"":1}"' in landed(CSV, stream_of({"a": {}}), batch)


@pytest.mark.parametrize("namespace", [None, "public", "_airbyte_meta"])
def test_avro_has_the_types_of_the_connector_and_no_name_twice(namespace):
    """Fields of the source may be named like the records of the envelope."""
    inner = {"type": "object", "properties": {"change": {"type": "object", "properties": {"x": {}}}}}
    stream = stream_of({"change": inner, "changes": inner}, namespace=namespace)
    batch = replace(batch_of([{"change": {"change": {"x": "1"}}}]), changes={0: (TOO_LONG, TOO_LONG)})
    reader = fastavro.reader(io.BytesIO(landed(AvroFormat(), stream, batch)))
    fields = {each["name"]: each["type"] for each in reader.writer_schema["fields"]}
    (row,) = list(reader)
    assert list(fields)[:4] == NAMES
    assert fields["_airbyte_raw_id"] == {"type": "string", "logicalType": "uuid"}
    assert fields["_airbyte_extracted_at"] == {"type": "long", "logicalType": "timestamp-millis"}
    assert fields["_airbyte_generation_id"] == "long"
    sync_id, changes = fields["_airbyte_meta"]["fields"]
    assert (sync_id["type"], changes["type"]["type"]) == ("long", "array")
    assert [each["type"] for each in changes["type"]["items"]["fields"]] == ["string"] * 3
    assert row["_airbyte_meta"] == {"sync_id": 77, "changes": [TOO_LONG._asdict()] * 2}
    assert row["change"]["change"]["x"] == "1"


def test_parquet_has_the_types_of_the_connector(tmp_path):
    stream = stream_of({"id": {"type": "integer"}})
    batch = replace(batch_of([{"id": 1}, {"id": 2}]), changes={1: (TOO_LONG,)})
    path = tmp_path / "users.parquet"
    path.write_bytes(landed(ParquetFormat(), stream, batch))
    types = dict(zip(pq.read_schema(path).names, map(str, pq.read_schema(path).types), strict=True))
    assert types["_airbyte_extracted_at"] == "timestamp[ms, tz=UTC]"
    assert types["_airbyte_generation_id"] == "int64"
    assert types["_airbyte_meta"] == (
        "struct<sync_id: int64, changes: list<element: struct<field: string, change: string, reason: string>>>"
    )
    query = f"select id, _airbyte_meta.sync_id, len(_airbyte_meta.changes) from '{path}' order by id"
    assert duckdb.sql(query).fetchall() == [(1, 77, 0), (2, 77, 1)]
    assert pl.read_parquet(path)["_airbyte_meta"].to_list()[1]["changes"] == [TOO_LONG._asdict()]


@pytest.mark.parametrize("settings", [FLAT_JSONL, FLAT_CSV, *TYPED], ids=repr)
def test_fields_named_like_the_envelope_leave_it_alone(settings):
    own: dict[str, Any] = {name: {"type": "string"} for name in [*NAMES, "_airbyte_ab_id"]}
    record = dict.fromkeys(own, "mine")
    settings = replace(settings, additional_properties_column=True) if isinstance(settings, CsvFormat) else settings
    (row,) = rows_of(settings, stream_of(own), batch_of([record]))
    assert (row["_airbyte_generation_id"], row["_airbyte_ab_id"]) == (GENERATION_ID, "mine")
    assert dict(row["_airbyte_additional_properties"]) == dict.fromkeys(NAMES, "mine")
    assert row["_airbyte_meta"]["changes"] == []


# ---------------------------------------------------------------------- changes


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_clean_records_have_no_changes(settings):
    assert changes_of(settings, {"id": {"type": "integer"}}, {"id": 1}, {"id": None}, {}) == [[], [], []]


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_the_changes_of_the_source_are_kept_word_for_word(settings):
    strange = Change('a."b"[]', "EXPLODED", "é\n")
    batch = replace(batch_of([{}, {}, {}]), changes={0: (TOO_LONG, strange), 2: (strange,)})
    assert changes_of(settings, {"id": {"type": "integer"}}, batch) == [[TOO_LONG, strange], [], [strange]]


@pytest.mark.parametrize("settings", TEXTS, ids=repr)
def test_text_keeps_every_value_so_that_nothing_is_changed(settings):
    records = [{"id": 2**70}, {"id": "x"}, {"id": 1.5}]
    assert changes_of(settings, {"id": {"type": "integer"}}, *records) == [[], [], []]


@pytest.mark.parametrize("settings", TYPED, ids=repr)
@pytest.mark.parametrize(
    ("definition", "value", "change", "reason"),
    [
        ({"type": "integer"}, 2**63, "NULLED", "DESTINATION_FIELD_SIZE_LIMITATION"),
        ({"type": "integer"}, -(2**70), "NULLED", "DESTINATION_FIELD_SIZE_LIMITATION"),
        ({"type": "integer"}, 1.5, "NULLED", "DESTINATION_SERIALIZATION_ERROR"),
        ({"type": "integer"}, "007", "NULLED", "DESTINATION_SERIALIZATION_ERROR"),
        ({"type": "boolean"}, "yes", "NULLED", "DESTINATION_SERIALIZATION_ERROR"),
        ({"type": "number"}, 12345678901234567891, "TRUNCATED", "DESTINATION_FIELD_SIZE_LIMITATION"),
        ({"type": "number"}, b"1e400", "NULLED", "DESTINATION_FIELD_SIZE_LIMITATION"),
        ({"type": "number"}, "much", "NULLED", "DESTINATION_SERIALIZATION_ERROR"),
        ({"type": ["integer", "boolean"]}, 2**64, "NULLED", "DESTINATION_FIELD_SIZE_LIMITATION"),
        ({"type": "array", "items": {"type": "integer"}}, [1, "x"], "NULLED", "DESTINATION_SERIALIZATION_ERROR"),
        (
            {"type": "number", "x-decimal": {"precision": 4, "scale": 2}},
            1.234,
            "NULLED",
            "DESTINATION_FIELD_SIZE_LIMITATION",
        ),
    ],
    ids=str,
)
def test_a_value_that_its_column_cannot_hold_is_a_change(settings, definition, value, change, reason):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    found = changes_of(settings, {"f": definition}, b'{"f":%b}' % text, b"{}")
    assert found == [[Change("f", change, reason)], []]


def test_a_text_that_is_no_date_is_kept_by_avro_and_a_change_in_parquet():
    born = {"born": {"type": "string", "format": "date"}}
    assert changes_of(AvroFormat(), born, {"born": "soon"}) == [[]]
    expected = [[Change("born", "NULLED", "DESTINATION_SERIALIZATION_ERROR")]]
    assert changes_of(ParquetFormat(), born, {"born": "soon"}) == expected


@pytest.mark.parametrize("settings", TYPED, ids=repr)
def test_a_repeated_name_is_a_change_of_the_value_that_counts(settings):
    found = changes_of(
        settings, {"id": {"type": "integer"}}, b'{"id":1,"id":2}', b'{"id":1,"id":null}', b'{"a":1,"a":2}'
    )
    reason = "DESTINATION_SERIALIZATION_ERROR"
    assert [[each.change for each in changes] for changes in found] == [["TRUNCATED"], ["NULLED"], []]
    assert {(each.field, each.reason) for changes in found for each in changes} == {("id", reason)}


NESTED: dict[str, Any] = {
    "home": {"type": "object", "properties": {"door": {"type": "integer"}, "at": {"$ref": "#/properties/spot"}}},
    "spot": {"type": "object", "properties": {"x": {"type": "number"}}},
    "rooms": {"type": "array", "items": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    "code": {"oneOf": [{"type": "object", "properties": {"n": {"type": "integer"}}}, {"type": "boolean"}]},
}


@pytest.mark.parametrize("settings", TYPED, ids=repr)
def test_fields_at_every_level_are_named_by_their_paths(settings):
    records = [
        {"home": {"door": "red", "at": {"x": "left"}}, "rooms": [{"size": 1}]},
        {"home": {"door": 1, "at": {"x": 1.5}}, "code": True},
        {"rooms": [{"size": 1}, None, {"size": "big"}, {"size": "small"}], "code": {"n": 2**63}},
        {"home": None, "rooms": None, "unknown": {"door": "red"}},
    ]
    misfit, large = ("NULLED", "DESTINATION_SERIALIZATION_ERROR"), ("NULLED", "DESTINATION_FIELD_SIZE_LIMITATION")
    assert changes_of(settings, NESTED, *records) == [
        [Change("home.door", *misfit), Change("home.at.x", *misfit)],
        [],
        [Change("rooms.size", *misfit), Change("code.n", *large)],
        [],
    ]


@pytest.mark.parametrize("settings", TYPED, ids=repr)
def test_the_changes_of_the_source_come_first_and_equal_ones_once(settings):
    misfit = Change("id", "NULLED", "DESTINATION_SERIALIZATION_ERROR")
    batch = replace(batch_of([{"id": "x"}, {"id": "y"}]), changes={0: (TOO_LONG,), 1: (misfit, TOO_LONG)})
    assert changes_of(settings, {"id": {"type": "integer"}}, batch) == [[TOO_LONG, misfit], [misfit, TOO_LONG]]


@pytest.mark.parametrize("settings", TYPED, ids=repr)
def test_arrow_columns_have_changes_too(settings):
    columns = pa.record_batch({"id": pa.array(["1", "x", None]), "n": pa.array([1, 2, 2**64 - 1], pa.uint64())})
    batch = ArrowBatch(columns, batch_of([{}] * 3).emitted_at, {0: (TOO_LONG,)})
    properties = {"id": {"type": "integer"}, "n": {"type": "integer"}}
    assert changes_of(settings, properties, batch) == [
        [TOO_LONG],
        [Change("id", "NULLED", "DESTINATION_SERIALIZATION_ERROR")],
        [Change("n", "NULLED", "DESTINATION_FIELD_SIZE_LIMITATION")],
    ]


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_changes_stay_with_their_records_in_directories(settings):
    stream = stream_of({"id": {"type": "string"}, "kind": {"type": "string"}})
    records = [{"id": str(number), "kind": "ab"[number % 2]} for number in range(7)]
    marks = {row: (Change(str(row), "NULLED", "x"),) for row in (0, 1, 4, 5)}
    batch = replace(batch_of(records), changes=marks)
    grouper = RecordGrouper(partition_rule(["kind"]), record_type(stream.json_schema, "users", None, NEWER), "users")
    made = newer(settings, stream, grouper=grouper)
    found = {}
    for _, piece in made.pieces([made.encode_groups(batch, entropy_of(batch))]):
        out = bytearray()
        writer = made.open(out.extend, MARKER)
        writer.append(piece)
        writer.close()
        for row in read_table(settings, stream, bytes(out), NEWER).to_pylist():
            found[row["id"]] = [each["field"] for each in row["_airbyte_meta"]["changes"]]
    assert found == {str(number): [str(number)] if number in marks else [] for number in range(7)}


@given(st.lists(st.lists(st.sampled_from([TOO_LONG, Change("a", "NULLED", "b")]), max_size=3), min_size=1))
def test_any_changes_of_any_records_are_read_back(lists: Sequence[Sequence[Change]]):
    marks = {row: tuple(each) for row, each in enumerate(lists) if each}
    batch = replace(batch_of([{}] * len(lists)), changes=marks)
    for settings in (JSONL, AvroFormat(), ParquetFormat()):
        assert changes_of(settings, {"id": {"type": "integer"}}, batch) == list(map(list, lists))
