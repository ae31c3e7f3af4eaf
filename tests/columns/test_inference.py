"""Schemas are inferred for data without one. All data that was seen then lands without overflow."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from columns.junk import Taste, json_schema, record

from s3dest_dagster.batch import JsonBatch, ValueType
from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.inference import json_schema_of_arrow, json_schema_of_records
from s3dest_dagster.columns.json_losses import has_repeated_name
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout


def test_the_types_of_a_first_batch():
    schema = json_schema_of_records(
        [
            b'{"i":1,"n":1,"s":"x","b":true,"z":null,"o":{"a":1},"l":[1,null],"e":[],"big":12345678901234567890}',
            b'{"n":1.5,"m":1,"o":{"b":"x"},"l":[{"q":1}]}',
            b'{"m":"x","late":false,"i":null}',
        ]
    )
    assert schema == {
        "type": "object",
        "properties": {
            "i": {"type": ["null", "integer"]},
            "n": {"type": ["null", "number"]},
            "s": {"type": ["null", "string"]},
            "b": {"type": ["null", "boolean"]},
            "z": {"type": "null"},
            "o": {
                "type": ["null", "object"],
                "properties": {"a": {"type": ["null", "integer"]}, "b": {"type": ["null", "string"]}},
            },
            "l": {
                "type": ["null", "array"],
                "items": {"type": ["null", "integer", "object"], "properties": {"q": {"type": ["null", "integer"]}}},
            },
            "e": {"type": ["null", "array"], "items": {"type": "null"}},
            "big": {"type": ["null", "number"], "x-decimal": {}},
            "m": {"type": ["null", "integer", "string"]},
            "late": {"type": ["null", "boolean"]},
        },
    }


def test_numbers_that_no_double_holds_are_decimals():
    raws = [
        b'{"exact":1.1,"fine":0.1234567890123456789,"mixed":9007199254740993,"text":1e400}',
        b'{"mixed":0.5,"text":"x"}',
    ]
    decimal = {"type": ["null", "number"], "x-decimal": {}}
    assert json_schema_of_records(raws)["properties"] == {
        "exact": {"type": ["null", "number"]},
        "fine": decimal,
        "mixed": decimal,
        "text": {"type": ["null", "number", "string"], "x-decimal": {}},
    }


def test_numbers_that_are_decimals_in_python_are_decimals():
    raws = [b'{"a":1.10,"b":{"c":[5,null]},"d":2}']
    decimals = frozenset((path, ValueType.DECIMAL) for path in [("a",), ("b", "c", None), ("e",)])
    schema = json_schema_of_records(raws, decimals)["properties"]
    assert schema["a"] == {"type": ["null", "number"], "x-decimal": {}}
    assert schema["b"]["properties"]["c"]["items"] == {"type": ["null", "number"], "x-decimal": {}}
    assert schema["d"] == {"type": ["null", "integer"]}


@pytest.mark.parametrize(
    ("type_", "fitting", "other"),
    [
        (ValueType.DATE, ['"2024-01-02"'], '"soon"'),
        (ValueType.TIME, ['"03:04:05"', '"03:04:05.000120"'], '"3:04"'),
        (ValueType.TIMESTAMP, ['"2024-01-02T03:04:05Z"', '"2024-01-02T03:04:05.1+02:00"'], '"2024-01-02T03:04:05"'),
        (ValueType.LOCAL_TIMESTAMP, ['"2024-01-02T03:04:05"'], '"2024-01-02T03:04:05Z"'),
        (ValueType.BYTES, ['""', '"AQ=="', '"AP8="'], '"AR=="'),
        (ValueType.FLOAT, ["0.1", "1", "3.4028235e38", "1e-45"], "0.30000000000000004"),
    ],
    ids=str,
)
def test_values_have_their_type_in_python_if_all_can_be_of_it(type_, fitting, other):
    types = frozenset({(("v", None), type_)})

    def items(*texts):
        raw = f'{{"v":[null,{",".join(texts)}]}}'.encode()
        return json_schema_of_records([raw], types)["properties"]["v"]["items"]

    column = {ValueType.DATE: pa.date32(), ValueType.TIME: pa.time64("us"), ValueType.BYTES: pa.binary()}
    column |= {ValueType.TIMESTAMP: pa.timestamp("us", "UTC"), ValueType.LOCAL_TIMESTAMP: pa.timestamp("us")}
    column |= {ValueType.FLOAT: pa.float32()}
    assert items(*fitting) == json_schema_of_arrow(pa.schema({"v": column[type_]}))["properties"]["v"]
    assert items(*fitting, other) == {"type": ["null", "number" if type_ is ValueType.FLOAT else "string"]}


def test_no_records_produce_an_empty_schema():
    assert json_schema_of_records([]) == {"type": "object", "properties": {}}


def test_data_that_was_seen_lands_without_overflow():
    for seed in range(20):
        r = Random(seed)
        schema = json_schema(r, plain=False)
        raws = [record(r, schema, Taste(0.2, 0.5, 2, True, True)) for _ in range(60)]
        raws = [raw for raw in raws if not has_repeated_name(raw)]
        converter = RecordConverter(record_type(json_schema_of_records(raws), "s", None), layout=Layout.NAMED)
        tally = converter.convert(JsonBatch(raws, np.zeros(len(raws), np.int64), 1)).tally
        own = {n for n in tally.undeclared if "additional_properties" in n or "_airbyte_ab_id" in n}
        assert {n: c for n, c in tally.overflowed.items() if "1e400" not in n} == {}
        assert not tally.undeclared or own


def test_a_level_with_thousands_of_names_keeps_the_first():
    schema = json_schema_of_records([b'{"k%d":1}' % i for i in range(2500)])
    assert len(schema["properties"]) == 2000


def test_very_deep_values_become_text():
    schema = json_schema_of_records([b'{"a":' * 80 + b"1" + b"}" * 80])
    record_type(schema, "s", None)
    depth = 0
    while "properties" in schema:
        schema, depth = schema["properties"]["a"], depth + 1
    assert (depth, schema) == (51, {"type": ["null", "string"]})


def test_the_schema_of_arrow_columns():
    schema = pa.schema(
        [
            ("i", pa.uint16()),
            ("f", pa.float32()),
            ("d", pa.float64()),
            ("dec", pa.decimal128(15, 2)),
            ("money", pa.decimal128(30, 2)),
            ("b", pa.bool_()),
            ("s", pa.string_view()),
            ("bin", pa.binary(3)),
            ("day", pa.date64()),
            ("at", pa.timestamp("ns", "UTC")),
            ("t", pa.time32("ms")),
            ("dur", pa.duration("s")),
            ("n", pa.null()),
            ("cat", pa.dictionary(pa.int8(), pa.string())),
            ("l", pa.large_list(pa.int8())),
            ("o", pa.struct([("x", pa.string())])),
            ("m", pa.map_(pa.string(), pa.int8())),
            ("mi", pa.map_(pa.int8(), pa.int8())),
        ]
    )
    text = {"type": ["null", "string"]}
    bytes_ = {"$ref": "WellKnownTypes.json#/definitions/BinaryData"}
    assert json_schema_of_arrow(schema)["properties"] == {
        "i": {"type": ["null", "integer"]},
        "f": {"type": "number", "airbyte_type": "float"},
        "d": {"type": ["null", "number"]},
        "dec": {"type": ["null", "number"], "x-decimal": {"precision": 15, "scale": 2, "grows": True}},
        "money": {"type": ["null", "number"], "x-decimal": {"precision": 30, "scale": 2, "grows": True}},
        "b": {"type": ["null", "boolean"]},
        "s": text,
        "bin": bytes_,
        "day": {**text, "format": "date"},
        "at": {**text, "format": "date-time"},
        "t": {**text, "format": "time"},
        "dur": {"type": ["null", "integer"]},
        "n": {"type": "null"},
        "cat": text,
        "l": {"type": ["null", "array"], "items": {"type": ["null", "integer"]}},
        "o": {"type": ["null", "object"], "properties": {"x": text}},
        "m": {"type": ["null", "object"]},
        "mi": text,
    }


def test_a_double_preserves_fifteen_digits():
    assert Decimal(repr(float("0.123456789012345"))) == Decimal("0.123456789012345")
