"""Fields of several types in Parquet, as the connector's newer versions lay them out."""

from __future__ import annotations

import io
import json
from typing import Any

import duckdb
import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import batch_of, stream_of, written

from s3dest_dagster.formats import read_table
from s3dest_dagster.settings.formats import ParquetFormat

TYPED = ParquetFormat(union_layout="typed")


def rows_of(properties: dict[str, Any], *records: Any) -> list[dict[str, Any]]:
    """The rows as any reader of the file finds them, without the columns of ours."""
    data = written(TYPED, stream_of(properties), [batch_of(records)])
    return [{name: row[name] for name in properties} for row in pq.read_table(io.BytesIO(data)).to_pylist()]


def test_the_member_type_names_the_member_with_the_value():
    code = {"code": {"type": ["integer", "string", "boolean"]}}
    none = {"integer": None, "string": None, "boolean": None}
    assert rows_of(code, {"code": 7}, {"code": "x"}, {"code": True}, {"code": None}, {}) == [
        {"code": {"type": "integer", **none, "integer": 7}},
        {"code": {"type": "string", **none, "string": "x"}},
        {"code": {"type": "boolean", **none, "boolean": True}},
        {"code": None},
        {"code": None},
    ]


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        ({"type": "string"}, "string"),
        ({"type": "integer"}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": "number", "airbyte_type": "float"}, "number"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "string", "format": "date-time"}, "timestamp_with_timezone"),
        ({"type": "string", "format": "time"}, "time_with_timezone"),
        ({"type": "array", "items": {"type": "integer"}}, "array"),
        ({"type": "object", "properties": {"x": {"type": "integer"}}}, "object"),
    ],
    ids=str,
)
def test_members_have_the_names_of_the_connector(definition, name):
    data = written(TYPED, stream_of({"f": {"oneOf": [definition, {"type": "boolean"}]}}), [])
    type_ = pq.read_schema(io.BytesIO(data)).field("f").type
    first, *members = [field.name for field in type_]
    assert (first, set(members)) == ("type", {name, "boolean"})  # objects come last
    assert type_.field("type").type == pa.string()


def test_two_kinds_of_numbers_have_a_member_each():
    both = {"f": {"oneOf": [{"type": "number"}, {"type": "number", "airbyte_type": "float"}]}}
    schema = pq.read_schema(io.BytesIO(written(TYPED, stream_of(both), [])))
    assert [field.name for field in schema.field("f").type] == ["type", "number", "float"]


NESTED: dict[str, Any] = {
    "list": {"type": "array", "items": {"type": ["integer", "string"]}},
    "object": {"type": "object", "properties": {"inner": {"type": ["boolean", "string"]}}},
    "deep": {"oneOf": [{"type": "boolean"}, {"type": "array", "items": {"type": ["integer", "string"]}}]},
}
RECORDS = [
    {"list": [1, "a", None], "object": {"inner": "x"}, "deep": [2, "b"]},
    {"list": None, "object": None, "deep": True},
    {"list": [], "object": {"inner": None}, "deep": []},
    {},
]


def test_unions_are_typed_at_every_level():
    one, a = {"type": "integer", "integer": 1, "string": None}, {"type": "string", "integer": None, "string": "a"}
    first, second, third, _ = rows_of(NESTED, *RECORDS)
    assert first["list"] == [one, a, None]
    assert first["object"]["inner"] == {"type": "string", "boolean": None, "string": "x"}
    items = [{"type": "integer", "integer": 2, "string": None}, {"type": "string", "integer": None, "string": "b"}]
    assert first["deep"] == {"type": "array", "boolean": None, "array": items}
    assert second == {"list": None, "object": None, "deep": {"type": "boolean", "boolean": True, "array": None}}
    assert (third["list"], third["object"]["inner"], third["deep"]["array"]) == ([], None, [])


def test_the_library_reads_them_as_unions_with_named_members():
    stream, batches = stream_of(NESTED), [batch_of(RECORDS), batch_of(RECORDS[1:])]
    named = read_table(ParquetFormat(), stream, written(ParquetFormat(), stream, batches))
    assert read_table(TYPED, stream, written(TYPED, stream, batches)).equals(named)


def test_other_readers_and_the_avro_schema_in_the_file_agree(tmp_path):
    path = tmp_path / "unions.parquet"
    path.write_bytes(written(TYPED, stream_of(NESTED), [batch_of(RECORDS)]))
    assert duckdb.sql(f"select deep.type from '{path}'").fetchall() == [("array",), ("boolean",), ("array",), (None,)]
    assert pl.read_parquet(path)["deep"].struct.field("type").to_list() == ["array", "boolean", "array", None]
    schema = json.loads(pq.read_metadata(path).metadata[b"parquet.avro.schema"])
    fastavro.parse_schema(schema)
    members = {each["name"]: each["type"][1]["fields"] for each in schema["fields"] if each["name"] == "deep"}
    assert [(each["name"], each["type"][0]) for each in members["deep"]] == [
        ("type", "null"),
        ("boolean", "null"),
        ("array", "null"),
    ]
