"""Arrow types of each layout, and the description of columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from encoded import stream_of, written

from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.columns.arrow_types import values_at
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.schemas import arrow_schema, columns, paths
from s3dest_dagster.formats import read_table
from s3dest_dagster.settings.formats import AvroFormat, ParquetFormat

OVERFLOW = pa.map_(pa.string(), pa.string())
STAMP = pa.timestamp("us", "UTC")


def field_type(definition, layout) -> pa.DataType:
    return arrow_schema(record_type({"properties": {"f": definition}}, "s", None), layout=layout).field("f").type


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"type": "string"}, pa.string()),
        ({"type": "boolean"}, pa.bool_()),
        ({"type": "integer"}, pa.int64()),
        ({"type": "number"}, pa.float64()),
        ({"type": "number", "airbyte_type": "float"}, pa.float32()),
        ({"$ref": "WellKnownTypes.json#/definitions/BinaryData"}, pa.binary()),
        ({"type": "null"}, pa.null()),
        ({"type": "array"}, pa.list_(pa.string())),
        ({"type": "object"}, pa.struct([("_airbyte_additional_properties", OVERFLOW)])),
    ],
)
@pytest.mark.parametrize("layout", Layout)
def test_single_types_are_the_same_in_every_layout(definition, expected, layout):
    assert field_type(definition, layout) == expected


@pytest.mark.parametrize(
    ("definition", "named", "member"),
    [
        ({"type": "string", "format": "date"}, pa.date32(), [pa.date32(), pa.string()]),
        ({"type": "string", "format": "time"}, pa.time64("us"), [pa.time64("us"), pa.string()]),
        ({"type": "string", "format": "date-time"}, STAMP, [STAMP, pa.string()]),
        (
            {"type": ["integer", "string"]},
            pa.struct([("integer", pa.int64()), ("string", pa.string())]),
            [pa.int64(), pa.string()],
        ),
        (
            {"anyOf": [{"type": "boolean"}, {"type": "string", "format": "date"}]},
            pa.struct([("boolean", pa.bool_()), ("date", pa.date32())]),
            [pa.bool_(), pa.date32(), pa.string()],
        ),
        (
            {"anyOf": [{"type": "array"}, {"type": "object"}]},
            pa.struct(
                [
                    ("array", pa.list_(pa.string())),
                    ("object", pa.struct([("_airbyte_additional_properties", OVERFLOW)])),
                ]
            ),
            [pa.list_(pa.string()), pa.struct([("_airbyte_additional_properties", OVERFLOW)])],
        ),
    ],
)
def test_several_types_become_members(definition, named, member):
    members = pa.struct([(f"member{i}", kind) for i, kind in enumerate(member)])
    assert field_type(definition, Layout.NAMED) == named
    assert field_type(definition, Layout.AVRO) == field_type(definition, Layout.MEMBER) == members


def test_a_tuples_dates_have_no_string_member():
    definition = {"type": "array", "items": [{"type": "string", "format": "date"}]}
    assert field_type(definition, Layout.AVRO) == pa.list_(pa.date32())


def test_the_overflow_is_the_last_column():
    schema = arrow_schema(record_type({"properties": {"a": {}}}, "s", None), layout=Layout.NAMED)
    assert schema.names == ["a", "_airbyte_additional_properties"]
    assert schema.field(1).type == OVERFLOW


def test_columns_are_described_in_words():
    schema = {
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": ["string", "number"]},
            "c c": {"type": "array", "items": {"type": "object", "properties": {"x": {}}}},
            "d": {"type": "object"},
            "e": {"type": "null"},
        }
    }
    assert columns(record_type(schema, "s", None)) == [
        ("a", "integer", None),
        ("b", "string or number", None),
        ("c_c", "array of object (x)", "'c c' in the source"),
        ("d", "object", None),
        ("e", "null", None),
    ]


def test_paths_name_every_field_of_every_level():
    item = {"type": "object", "properties": {"x": {"type": "integer"}}}
    schema = {"properties": {"a": item, "l": {"type": "array", "items": item}, "n": {"type": "array"}}}
    assert list(paths(record_type(schema, "s", None))) == [
        ("a", "object"),
        ("a.x", "integer"),
        ("l", "array"),
        ("l[]", "object"),
        ("l[].x", "integer"),
        ("n", "array of string"),
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "bb", None], pa.string_view()),
        pa.array([b"a", None, b"c"], pa.binary_view()),
        pa.array([["x"], None, []], pa.list_(pa.string_view())),
        pa.array([{"a": "x"}, None, {"a": None}], pa.struct([("a", pa.string_view())])),
        pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int32()), pa.array(["a", "b"])),
        pa.array([1, 2, None]),
    ],
    ids=lambda column: str(column.type),
)
def test_values_are_taken_from_columns_of_every_type(column):
    values = column.to_pylist()
    for positions in ([2, 0, 1], [1, 2], [0, 0, 2, 1], []):
        found = values_at(column, np.array(positions, np.int64))
        assert found.type == column.type
        assert found.to_pylist() == [values[each] for each in positions]


@pytest.mark.parametrize("form", [ParquetFormat(), AvroFormat()], ids=lambda each: each.format_type)
def test_texts_in_views_that_do_not_fit_keep_their_records(form):
    """Polars hands over texts as views."""
    data = pa.RecordBatch.from_pydict(
        {
            "id": [0, 1],
            "home": pa.array([{"since": "long ago"}, None], pa.struct([("since", pa.string_view())])),
            "tags": pa.array([["a"], None], pa.list_(pa.string_view())),
        }
    )
    number = {"type": "integer"}
    home = {"type": "object", "properties": {"since": number}}
    stream = stream_of({"id": number, "home": home, "tags": {"type": "array", "items": number}})
    body = written(form, stream, [ArrowBatch(data, np.zeros(2, np.int64))])
    table = read_table(form, stream, body)
    assert table["id"].to_pylist() == [0, 1]
    assert "long ago" in str(table.to_pylist()[0])
