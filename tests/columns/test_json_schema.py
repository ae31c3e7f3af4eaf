"""JSON schemas become record types by the connector's rules. Schemas on which the connector fails are corrected or
refused with a reason."""

from __future__ import annotations

from hashlib import sha256

import fastavro
import pytest

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.number import DOUBLE, LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import BOOLEAN, BYTES, NULL, STRING
from s3dest_dagster.columns.kinds.temporal import DATE, TIMESTAMP
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.schemas import avro_schema, fingerprint
from s3dest_dagster.errors import SchemaError
from s3dest_dagster.settings.formats import TypeRules

WELL_KNOWN = "WellKnownTypes.json#/definitions/"
DATE_TIME = {"type": "string", "format": "date-time"}
TIME = {"type": "string", "format": "time"}


def fields(properties, **schema) -> dict[str, Field]:
    record = record_type({"properties": properties, **schema}, "stream", None)
    fastavro.parse_schema(avro_schema(record))  # it is always a legal Avro schema
    return {field.source: field for field in record.fields}


def kind(definition):
    return fields({"f": definition})["f"].kind


def avro(definition):
    return avro_schema(record_type({"properties": {"f": definition}}, "stream", None), envelope=False)["fields"][0][
        "type"
    ]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"type": "string", "format": "uuid"}, STRING),
        ({"type": "string", "format": "date", "airbyte_type": "big_integer"}, STRING),
        ({"type": "string", "airbyte_type": "timestamp_with_timezone"}, STRING),
        ({"type": ["null", "string"], "format": "date"}, DATE),
        ({"type": ["number", "null"], "airbyte_type": "integer"}, DOUBLE),
        ({"type": "number", "airbyte_type": "unknown"}, DOUBLE),
        ({"$ref": WELL_KNOWN + "BinaryData"}, BYTES),
        ({"$ref": WELL_KNOWN + "TimeWithTimezone"}, STRING),
        ({"$ref": WELL_KNOWN + "TimestampWithTimezone"}, TIMESTAMP),
        ({"type": None}, STRING),
        (True, STRING),
        (None, STRING),
        ({"type": []}, NULL),
        ({"anyOf": []}, NULL),
        ({"type": "string", "oneOf": [{"type": "integer"}]}, LONG),
        ({"type": "array", "items": {"anyOf": [{"type": "integer"}]}}, Array(STRING)),
        ({"type": "array", "items": True}, Array(STRING)),
        ({"type": "array", "items": {"type": ["null", "array"], "items": {"type": "null"}}}, Array(Array(NULL))),
        ({"type": ["string", "string", "integer"]}, Union((STRING, LONG))),
    ],
)
def test_the_kind_of_a_definition(definition, expected):
    assert kind(definition) == expected


AVRO_DATE, STAMP = {"type": "int", "logicalType": "date"}, {"type": "long", "logicalType": "timestamp-micros"}
CLOCK = {"type": "long", "logicalType": "time-micros"}
AVRO_TYPES = [
    ({"type": "string"}, "string"),
    ({"type": "string", "format": "email"}, "string"),
    ({"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"}, STAMP),
    ({"type": "string", "format": "date"}, AVRO_DATE),
    ({"type": "string", "format": "time", "airbyte_type": "time_with_timezone"}, CLOCK),
    ({"type": "string", "format": "date-time", "airbyte_type": "big_integer"}, "string"),
    ({"type": "number"}, "double"),
    ({"type": "number", "airbyte_type": "integer"}, "long"),
    ({"type": "number", "airbyte_type": "float"}, "float"),
    ({"type": "integer"}, "long"),
    ({"type": "integer", "airbyte_type": "big_integer"}, "long"),
    ({"type": "boolean"}, "boolean"),
    ({"$ref": WELL_KNOWN + "String"}, "string"),
    ({"$ref": WELL_KNOWN + "Boolean"}, "boolean"),
    ({"$ref": WELL_KNOWN + "Number"}, "double"),
    ({"$ref": WELL_KNOWN + "Integer"}, "long"),
    ({"$ref": WELL_KNOWN + "BinaryData"}, "bytes"),
    ({"$ref": WELL_KNOWN + "Date"}, AVRO_DATE),
    ({"$ref": WELL_KNOWN + "TimestampWithTimezone"}, STAMP),
    ({"$ref": WELL_KNOWN + "TimestampWithoutTimezone"}, STAMP),
    ({"$ref": WELL_KNOWN + "TimeWithoutTimezone"}, CLOCK),
    ({"$ref": WELL_KNOWN + "TimeWithTimezone"}, "string"),
    ({"type": "string", "enum": ["a"], "pattern": "a+", "minLength": 1, "contentEncoding": "base64"}, "string"),
]


@pytest.mark.parametrize(("definition", "expected"), AVRO_TYPES, ids=str)
def test_the_avro_type_of_a_scalar_alone_in_a_list_and_nullable(definition, expected):
    beside = ["string"] if isinstance(expected, dict) else []
    assert avro(definition) == ["null", expected, *beside]
    assert avro({"type": "array", "items": definition}) == [
        "null",
        {"type": "array", "items": ["null", expected, *beside]},
    ]
    if isinstance(definition.get("type"), str) and "airbyte_type" not in definition:
        assert avro({**definition, "type": ["null", definition["type"]]}) == avro(definition)


def test_additional_properties_of_a_schema_declare_nothing():
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
    open_ = {"type": "object", "additionalProperties": {"type": "integer"}}
    found = fields({"a": inner, "b": open_, "c": {}}, additionalProperties=False)
    assert [field.source for field in found["a"].kind.fields] == ["x"]
    assert found["b"].kind.fields == ()
    assert found["c"].kind is STRING


def test_a_list_adds_a_string_to_its_dates_and_a_tuple_does_not():
    date = {"type": "int", "logicalType": "date"}
    definition = {"type": "string", "format": "date"}
    assert avro({"type": "array", "items": definition}) == [
        "null",
        {"type": "array", "items": ["null", date, "string"]},
    ]
    assert avro({"type": "array", "items": [definition]}) == ["null", {"type": "array", "items": ["null", date]}]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"anyOf": [DATE_TIME, {"type": "integer"}]}, ["null", "long"]),
        ({"type": ["string", "integer"], "format": "date-time"}, ["null", "long", "string"]),
        ({"anyOf": [TIME, {"type": "integer"}]}, ["null", "long", "string"]),
        ({"anyOf": [TIME, DATE_TIME]}, ["null", {"type": "long", "logicalType": "time-micros"}, "string"]),
        (
            {"anyOf": [{"type": "array", "items": {"type": t}} for t in ("integer", "string")]},
            ["null", {"type": "array", "items": ["null", "long", "string"]}],
        ),
    ],
    ids=["timestamp and integer", "the same by types", "time and integer", "time and timestamp", "two arrays"],
)
def test_a_union_never_repeats_an_avro_type(definition, expected):
    fields({"f": definition})
    assert avro(definition) == expected


def test_records_of_a_union_are_merged_after_the_other_branches():
    one = {"type": "object", "properties": {"x": {"type": "integer"}, "d": {"type": "string", "format": "date"}}}
    other = {"type": "object", "properties": {"x": {"type": "string"}, "d": {"type": "integer"}, "y": {}}}
    merged = kind({"oneOf": [one, {"type": "boolean"}, other]})
    assert isinstance(merged, Union)
    assert merged.branches[0] is BOOLEAN
    record = merged.branches[1]
    assert {f.source: f.kind for f in record.fields} == {
        "x": Union((LONG, STRING)),
        "d": Union((DATE, STRING, LONG)),
        "y": STRING,
    }


def test_the_doc_of_a_merged_field_joins_the_docs_of_its_sources():
    branch = {"type": "object", "properties": {":m": {"type": "string"}}}
    record = kind({"type": "array", "items": [branch, {**branch, "properties": {":m": {"type": "integer"}}}]}).item
    assert record.fields[0].doc == "_airbyte_original_name::m; _airbyte_original_name::m"


def test_records_within_arrays_of_a_union_keep_the_branchs_namespace():
    item = {"type": "object", "properties": {"x": {"type": "integer"}}}
    branch = {"type": "object", "properties": {"lines": {"type": "array", "items": item}}}
    record = kind({"anyOf": [branch]})
    assert (record.name, record.namespace) == ("f", None)
    assert (record.fields[0].kind.item.name, record.fields[0].kind.item.namespace) == ("lines_items", "f.f")


def digits(source: str) -> str:
    return sha256(source.encode()).hexdigest()[:6]


def test_names_that_become_the_same_are_told_apart_by_digits_of_their_source():
    found = fields({"a-b": {"type": "integer"}, "a_b": {"type": "string"}, "a b": {}})
    names = {"a-b": f"a_b_{digits('a-b')}", "a_b": "a_b", "a b": f"a_b_{digits('a b')}"}
    assert {source: field.name for source, field in found.items()} == names
    assert found["a-b"].doc == "_airbyte_original_name:a-b"


def test_record_names_that_become_the_same_are_told_apart_by_digits_of_their_path():
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}}
    found = fields({"stream": inner, "a": {"type": "array", "items": inner}, "a_items": inner})
    assert found["stream"].kind.name == f"stream_{digits('stream')}"
    names = {found["a"].kind.item.name, found["a_items"].kind.name}
    assert names == {"a_items", f"a_items_{digits('a_items')}"}


@pytest.mark.parametrize("name", ["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
def test_a_record_is_never_named_like_a_primitive_type(name):
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}}
    assert fields({name: inner})[name].kind.name == f"{name}_{digits(name)}"
    deeper = {"type": "object", "properties": {name: inner}}
    assert fields({"o": deeper})["o"].kind.fields[0].kind.name == name  # its namespace is "o"
    schema = fastavro.parse_schema(avro_schema(record_type({"properties": {"x": inner}}, name, None)))
    assert schema["name"].startswith(f"{name}_")


def test_names_of_the_envelope_and_of_the_overflow_cannot_be_fields():
    names = ["_airbyte_ab_id", "_airbyte_emitted_at", "_airbyte_additional_properties", "_ab_additional_properties"]
    inner = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    found = fields({**inner["properties"], "o": inner, "_airbyte-ab_id": {}})
    assert set(found) == {"o", "_airbyte-ab_id"}
    assert found["_airbyte-ab_id"].name == f"_airbyte_ab_id_{digits('_airbyte-ab_id')}"
    assert [f.name for f in found["o"].kind.fields] == names[:2]


def test_local_references_are_followed():
    definitions = {
        "point": {"type": "object", "properties": {"x": {"$ref": "#/definitions/a~1b"}}},
        "a/b": {"type": "integer"},
    }
    found = fields(
        {"p": {"$ref": "#/definitions/point"}, "q": {"$ref": "#/definitions/point"}}, definitions=definitions
    )
    assert found["p"].kind == Record("p", None, (Field("x", "x", LONG),))
    assert found["q"].kind.fields == found["p"].kind.fields


def test_a_recursive_schema_becomes_json_text():
    node = {"type": "object", "properties": {"next": {"$ref": "#/definitions/node"}, "v": {"type": "integer"}}}
    found = fields({"n": {"$ref": "#/definitions/node"}}, definitions={"node": node})
    assert {f.source: f.kind for f in found["n"].kind.fields} == {"next": STRING, "v": LONG}
    assert fields({"n": {"$ref": "#"}}, type="object")["n"].kind.fields[0].kind is STRING


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"properties": 5}, "'properties' must be|\"properties\" must be"),
        ([], "must be an object"),
        ({"properties": {"a": {"type": "strin"}}}, "field 'a'.*'strin' is not known"),
        ({"properties": {"a": {"type": "object", "properties": {"b": {"type": [5]}}}}}, r"field 'a\.b'.*type 5"),
        ({"properties": {"a": {"anyOf": {"type": "string"}}}}, "'anyOf' must be a list"),
        ({"properties": {"a": {"$ref": "#/nowhere"}}}, "points to no definition"),
        ({"properties": {"a": {"type": "object", "properties": {"\ud800": {}}}}}, "'a' .*half of a surrogate pair"),
        ({"properties": {"a": {"$ref": "other.json"}}}, "'other.json' is not known"),
    ],
)
def test_an_invalid_schema_is_refused_with_its_location(schema, message):
    with pytest.raises(SchemaError, match=message) as error:
        record_type(schema, "orders", None, TypeRules(unknown_types="fail"))
    assert error.value.stream == "orders"
    assert "'orders'" in str(error.value)


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ({"type": "datetime"}, STRING),
        ({"type": "any"}, STRING),
        ({"type": ["integer", "datetime"]}, Union((LONG, STRING))),
        ({"type": [{"type": "string"}]}, STRING),
        ({"$ref": "#/nowhere"}, STRING),
        ({"$ref": "other.json"}, STRING),
        ({"type": "array", "items": {"type": "float"}}, Array(STRING)),
    ],
)
def test_an_unknown_type_becomes_text(definition, kind):
    assert fields({"a": definition})["a"].kind == kind


@pytest.mark.parametrize(
    ("around", "inside"),
    [
        (lambda inner: {"type": "object", "properties": {"a": inner}}, lambda kind: kind.fields[0].kind),
        (lambda inner: {"type": "array", "items": inner}, lambda kind: kind.item),
    ],
    ids=["objects", "lists"],
)
def test_more_than_a_hundred_levels_become_json_text(around, inside):
    schema: dict = {"type": "integer"}
    for _ in range(150):
        schema = around(schema)
    kind = fields({"a": schema})["a"].kind
    for _ in range(100):
        assert kind is not STRING
        kind = inside(kind)
    assert kind is STRING


def _optional(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}]}


def test_nested_combinations_become_json_text():
    schema: dict = {"type": "integer"}
    for _ in range(2_000):
        schema = _optional(schema)
    assert fields({"a": schema})["a"].kind is STRING


def test_fifty_levels_of_optional_objects_have_types():
    schema: dict = {"type": "integer"}
    for _ in range(50):
        schema = _optional({"type": "object", "properties": {"x": schema}})
    kind = fields({"a": schema})["a"].kind
    for _ in range(50):
        kind = kind.fields[0].kind
    assert kind is LONG


def test_references_that_multiply_are_refused_in_time():
    definitions = {
        f"d{i}": {"type": "object", "properties": {k: {"$ref": f"#/definitions/d{i + 1}"} for k in "abcd"}}
        for i in range(20)
    }
    definitions["d20"] = {"type": "string"}
    with pytest.raises(SchemaError, match="more than 50,000 fields"):
        record_type({"properties": {"n": {"$ref": "#/definitions/d0"}}, "definitions": definitions}, "wide", None)


def test_fifty_levels_and_two_thousand_fields():
    schema = {"type": "string"}
    for _ in range(50):
        schema = {"type": "object", "properties": {"a": schema}}
    fields({"a": schema, **{f"c{i}": {"type": "integer"} for i in range(2000)}})


def test_the_fingerprint_is_equal_only_for_equal_schemas():
    one = record_type({"properties": {"a": {"type": "integer"}}}, "stream", "ns")
    again = record_type({"properties": {"a": {"type": ["null", "integer"]}}}, "stream", "ns")
    other = record_type({"properties": {"a": {"type": "number"}}}, "stream", "ns")
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)
    assert len(fingerprint(one)) == 64
