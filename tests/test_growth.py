"""Work grows in proportion to its input, whatever a record contains. A new construct is one more line in a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from encoded import batch_of, entropy_of
from work_counter import assert_linear

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.errors import SchemaError
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
)
from s3dest_dagster.stream import Stream

OVERFLOW = "_airbyte_additional_properties"
FORMATS: dict[str, FormatSettings] = {
    "parquet": ParquetFormat(),
    "avro": AvroFormat(),
    "csv": CsvFormat(),
    "flat csv": CsvFormat(flattening=Flattening.ROOT),
    "flat csv with the rest": CsvFormat(flattening=Flattening.ROOT, additional_properties_column=True),
    "jsonl": JsonlFormat(),
    "flat jsonl": JsonlFormat(flattening=Flattening.ROOT),
}
_INTEGER, _OBJECT = {"type": "integer"}, {"type": "object", "properties": {"b": {"type": "integer"}}}
_SCHEMA = {
    "properties": {
        "a": _INTEGER,
        "text": {"type": "string"},
        "number": {"type": "number"},
        "object": _OBJECT,
        "list": {"type": "array", "items": _INTEGER},
        "objects": {"type": "array", "items": _OBJECT},
        "any": {"type": ["integer", "string", "boolean", "object", "array"], "items": _INTEGER, "properties": {}},
        "moment": {"type": "string", "format": "date-time"},
    }
}


def _members(member: str, count: int) -> str:
    """An object with this many members. `%d` in them is their number."""
    return "{" + ",".join(member.replace("%d", str(number)) for number in range(count)) + "}"


def _around(name: str, value: str) -> str:
    return f'{{"{name}":{value}}}'


def _list(name: str, item: str, count: int) -> str:
    """A record with a list of this many items. `%d` in them is their number."""
    return f'{{"{name}":[' + ",".join(item.replace("%d", str(number)) for number in range(count)) + "]}"


ZERO, LETTER, BLANK, ESCAPES = "0", "x", " ", r"\n\u0041\":"
_MIXED = '1,"x",null,true,{"b":1},[1],1.5,1e400'
RECORDS: dict[str, Callable[[int], str]] = {
    "a declared name again and again": lambda n: _members('"a":%d', n),
    "an undeclared name again and again": lambda n: _members('"x":%d', n),
    "two names in turn": lambda n: _members('"a":%d,"x":%d', n),
    "a name with blanks": lambda n: _members('"a" : %d', n),
    "a name with escapes": lambda n: _members(r'"\u0061":%d', n),
    "a name of the envelope": lambda n: _members('"_airbyte_ab_id":%d', n),
    "a name within an object": lambda n: _around("object", _members('"b":%d', n)),
    "an undeclared name within an object": lambda n: _around("object", _members('"x":%d', n)),
    "a name within the record's own overflow": lambda n: _around(OVERFLOW, _members('"x":%d', n)),
    "a name twice in each object of a list": lambda n: _list("objects", '{"b":1,"b":2}', n),
    "the own overflow again and again": lambda n: _members(f'"{OVERFLOW}":{{"x":%d}}', n),
    "the own overflow of each object of a list": lambda n: _list("objects", f'{{"{OVERFLOW}":{{"x":1}}}}', n),
    "names that look numbered": lambda n: _members(f'"{OVERFLOW}.{OVERFLOW}.a.%d":1,"a":1', n),
    "many names": lambda n: _members('"k%d":1', n),
    "many names, each twice": lambda n: _members('"k%d":1,"k%d":2', n),
    "a long integer": lambda n: _around("a", "9" * n),
    "a long fraction": lambda n: _around("number", "0." + "1" * n),
    "a large exponent": lambda n: _around("number", "1e" + "9" * n),
    "a number as text": lambda n: _around("a", f'"1.{ZERO * n}"'),
    "a long text": lambda n: _around("text", f'"{LETTER * n}"'),
    "texts of escapes": lambda n: _around("text", f'"{ESCAPES * n}"'),
    "a moment with many digits": lambda n: _around("moment", f'"2021-05-27T17:16:45.{ZERO * n}Z"'),
    "a moment with many blanks": lambda n: _around("moment", f'"2021-05-27{BLANK * n}17:16:45"'),
    "a list": lambda n: _list("list", "1", n),
    "a list of everything": lambda n: _list("list", _MIXED, n),
    "a list where one of several types stands": lambda n: _list("any", _MIXED, n),
    "objects with other names": lambda n: _list("objects", '{"c%d":1}', n),
    "blanks": lambda n: _around("a", " " * n + "1"),
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("construct", RECORDS)
def test_the_work_for_a_record_grows_with_its_length(construct, format_):
    assert_linear(lambda size: _encoding(format_, [RECORDS[construct](size).encode()]), 200)


@pytest.mark.parametrize("format_", ["parquet", "avro", "flat csv with the rest", "jsonl"])
@pytest.mark.parametrize("construct", RECORDS)
def test_the_work_for_records_grows_with_their_number(construct, format_):
    assert_linear(lambda size: _encoding(format_, [RECORDS[construct](2).encode()] * size), 64)


def _encoding(format_: str, records: list[bytes]) -> Callable[[], object]:
    batch = batch_of(records)
    ready = encoder(FORMATS[format_], Stream(name="x", json_schema=_SCHEMA), on_mismatch="overflow")
    return lambda: ready.encode(batch, entropy_of(batch))


SCHEMAS: dict[str, Callable[[int], dict[str, Any]]] = {
    "fields": lambda n: {"properties": {f"f{i}": _INTEGER for i in range(n)}},
    "names that become the same": lambda n: {"properties": {chr(0x4E00 + i): _INTEGER for i in range(n)}},
    "objects that become the same": lambda n: {"properties": {chr(0x4E00 + i): _OBJECT for i in range(n)}},
    "objects of one name": lambda n: {"properties": {"a": {"oneOf": [_within(f"f{i}") for i in range(n)]}}},
    "one object again and again": lambda n: {"properties": {"a": {"anyOf": [_OBJECT] * n}}},
    "one reference again and again": lambda n: {
        "properties": {"a": {"oneOf": [{"$ref": "#/definitions/x"}] * n}},
        "definitions": {"x": _OBJECT},
    },
    "references to references": lambda n: {
        "properties": {"a": {"$ref": "#/definitions/0"}},
        "definitions": {str(i): {"oneOf": [{"$ref": f"#/definitions/{min(i + 1, n)}"}] * 10} for i in range(n + 1)},
    },
    "types": lambda n: {"properties": {"a": {"type": ["string", "integer"] * n}}},
    "a tuple": lambda n: {"properties": {"a": {"type": "array", "items": [_INTEGER, _OBJECT] * n}}},
}


def _within(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: _INTEGER}}


@pytest.mark.parametrize("construct", SCHEMAS)
def test_the_work_for_a_schema_grows_with_its_length(construct):
    def reading(size: int) -> Callable[[], object]:
        schema = SCHEMAS[construct](size)
        return lambda: record_type(schema, "x", None)

    assert_linear(reading, 40)


def test_references_that_multiply_are_refused():
    both = [{"oneOf": [{"$ref": f"#/definitions/{level}{side}"} for side in "ab"]} for level in range(1, 41)]
    definitions = {f"{level}{side}": each for level, each in enumerate(both) for side in "ab"}
    with pytest.raises(SchemaError, match="more than 100,000 definitions"):
        record_type({"properties": {"a": {"$ref": "#/definitions/0a"}}, "definitions": definitions}, "x", None)


def test_a_schema_can_have_any_depth():
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(5000):
        schema = {"type": "object", "properties": {"a": schema}}
    encoder(ParquetFormat(), Stream(name="x", json_schema=schema), on_mismatch="overflow")
