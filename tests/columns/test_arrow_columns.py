"""Arrow batches are converted with casts if these lose nothing, and otherwise by the rules. Nothing is lost either
way."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from columns.junk import Taste, comparable, json_schema, record

from s3dest_dagster.batch import ArrowBatch, JsonBatch, Tally
from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.errors import RecordError


def convert(data, properties=None, layout=Layout.NAMED, **options):
    data = data if isinstance(data, pa.RecordBatch) else pa.RecordBatch.from_pydict(data)
    schema = {"properties": properties} if properties else json_schema_of_arrow(data.schema)
    converter = RecordConverter(record_type(schema, "s", None), layout=layout, **options)
    converted = converter.convert(ArrowBatch(data, np.zeros(data.num_rows, np.int64)))
    converted.data.validate(full=True)
    assert converted.data.schema == converter.schema
    return converted


def landed(column: pa.Array, definition=None, layout=Layout.NAMED):
    """Values, overflow texts, and the tally of one column."""
    converted = convert({"f": column}, definition and {"f": definition}, layout)
    over = [dict(entries or ()).get("f") for entries in converted.data.column(OVERFLOW).to_pylist()]
    return converted.data.column("f").to_pylist(), over, converted.tally


AT = datetime(2020, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([1, None], pa.int8()), [1, None]),
        (pa.array([2**63 - 1, None], pa.uint64()), [2**63 - 1, None]),
        (pa.array([0.5, None], pa.float32()), [0.5, None]),
        (pa.array([np.float16(0.5), None], pa.float16()), [0.5, None]),
        (pa.array([0.1, float("inf"), None]), [0.1, float("inf"), None]),
        (pa.array(["a", None], pa.large_string()), ["a", None]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array([b"\0", None], pa.large_binary()), [b"\0", None]),
        (pa.array([b"ab", None], pa.binary(2)), [b"ab", None]),
        (pa.array([True, None]), [True, None]),
        (pa.array([date(2020, 1, 1), None]), [date(2020, 1, 1), None]),
        (pa.array([date(2020, 1, 1), None], pa.date64()), [date(2020, 1, 1), None]),
        (pa.array([AT, None], pa.timestamp("ms", "Europe/Berlin")), [AT, None]),
        (pa.array([AT.replace(tzinfo=None), None], pa.timestamp("s")), [AT, None]),
        (pa.array([1_577_880_000_000_000_000, None], pa.timestamp("ns")), [AT, None]),
        (pa.array([time(1, 2, 3), None], pa.time32("s")), [time(1, 2, 3), None]),
        (pa.array([90, None], pa.duration("s")), [90, None]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
        (pa.array([[1, None], None, []], pa.large_list(pa.int32())), [[1, None], None, []]),
        (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), [[1, 2], None]),
        (pa.nulls(2), [None, None]),
        (pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)), [1.5, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_native_arrow_types_land_unchanged(column, values):
    assert landed(column) == (values, [None] * len(values), Tally())


def test_dates_are_in_the_first_member_if_avro_adds_a_string():
    values, _, _ = landed(pa.array([AT, None], pa.timestamp("us", "UTC")), layout=Layout.AVRO)
    assert values == [{"member0": AT, "member1": None}, None]


TEXT = {"type": "string"}
STAMP = {"type": "string", "format": "date-time"}
STRING_OR_BOOLEAN = {"type": ["string", "boolean"]}
LONGS = {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize(
    ("column", "definition", "values", "over"),
    [
        (pa.array([2**64 - 1, 5], pa.uint64()), {"type": "integer"}, [None, 5], ["18446744073709551615", None]),
        (pa.array([1, None], pa.timestamp("ns")), STAMP, [None, None], ["1970-01-01T00:00:00.000000001", None]),
        (pa.array([2**53 + 1, 5]), {"type": "number"}, [2.0**53, 5.0], ["9007199254740993", None]),
        (pa.array(["12", "x", None]), {"type": "integer"}, [12, None, None], [None, "x", None]),
        (pa.array([1.5, 2.0]), {"type": "integer"}, [None, 2], ["1.5", None]),
        (pa.array([0.5, None]), {"type": "number", "airbyte_type": "float"}, [0.5, None], [None, None]),
        (pa.array([float("nan"), 1.0]), {"type": "integer"}, [None, 1], ["NaN", None]),
        (pa.array([Decimal("12345678901234567890.5")]), {"type": "number"}, [1.2345678901234567e19], [...]),
        (pa.array([["1", "x"], ["2"]]), LONGS, [None, [2]], ['["1","x"]', None]),
        (pa.array([5, None]), STRING_OR_BOOLEAN, [{"string": "5", "boolean": None}, None], [None, None]),
    ],
)
def test_values_that_a_cast_would_lose_follow_the_rules(column, definition, values, over):
    landed_values, texts, _ = landed(column, definition)
    assert landed_values == values
    assert texts == [str(column[row]) if text is ... else text for row, text in enumerate(over)]


def stored(numbers, kind):
    return pa.array(numbers, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)


@pytest.mark.parametrize("definition", [None, {"type": "string"}])
@pytest.mark.parametrize(
    ("kind", "number", "other"),
    [
        (pa.timestamp("us", "UTC"), 2**63 - 1, 0),
        (pa.timestamp("s", "UTC"), 2**44, 0),
        (pa.timestamp("ms"), -(2**53), 0),
        (pa.date32(), 2**31 - 1, 0),
        (pa.date64(), 2**62, 0),
        (pa.time32("s"), -5, 0),
        (pa.time64("us"), 86_400_000_000, 0),
    ],
    ids=str,
)
def test_moments_out_of_range_land_as_the_text_of_their_integer(kind, number, other, definition):
    values, over, tally = landed(stored([number, other, None], kind), definition)
    if definition:
        assert values[0] == str(number)
    else:
        assert (values[0], over) == (None, [str(number), None, None])
        assert tally == Tally(overflowed={"f": 1})
    assert values[1] is not None
    assert values[2] is None


def test_moments_out_of_range_overflow_in_avro_too():
    values, over, _ = landed(stored([2**44, 0], pa.timestamp("s", "UTC")), layout=Layout.AVRO)
    assert values[0] is None
    assert over == [str(2**44), None]


def test_moments_out_of_range_are_named_if_mismatches_fail():
    with pytest.raises(RecordError, match=rf"'f'.* {2**44}"):
        convert({"f": stored([2**44], pa.timestamp("s", "UTC"))}, on_mismatch="fail")


def test_a_date64_that_is_not_at_midnight_keeps_its_time_in_the_overflow():
    values, over, _ = landed(stored([1609459200000, 1609462800000], pa.date64()))
    assert values == [date(2021, 1, 1), None]
    assert over == [None, "2021-01-01T01:00:00"]


@pytest.mark.parametrize("properties", [None, {"other": {"type": "string"}}])
def test_texts_that_are_not_utf8_are_refused_by_field(properties):
    broken = pa.StructArray.from_arrays([pa.array([b"ok", b"\xff"]).view(pa.string())], ["x"])
    with pytest.raises(RecordError, match=r"Field 'f\.x' holds a text that is not valid UTF-8"):
        convert({"f": broken}, properties)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([float("-inf")]), "-Infinity"),
        (pa.array([1.5]), "1.5"),
        (pa.array([b"hi"]), "aGk="),
        (pa.array([AT], pa.timestamp("us", "Europe/Berlin")), "2020-01-01T12:00:00Z"),
        (pa.array([date(2020, 1, 2)], pa.date64()), "2020-01-02"),
        (pa.array([time(1, 2, 3)]), "01:02:03"),
        (pa.array([{"a": 1, "b": "é"}]), '{"a":1,"b":"é"}'),
        (pa.array([{"a": None}]), '{"a":null}'),
        (pa.array([[1, None]]), "[1,null]"),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())), '{"k":1}'),
        (pa.array([[(1, 2)]], pa.map_(pa.int8(), pa.int8())), "[[1,2]]"),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([pa.MonthDayNano([14, 3, 1_500_000_000])]), "P14M3DT1.5S"),
        (pa.UnionArray.from_sparse(pa.array([1], pa.int8()), [pa.array(["x"]), pa.array([[1, None]])]), "[1,null]"),
    ],
    ids=str,
)
def test_a_string_field_holds_the_json_text_of_any_value(column, text):
    assert landed(column, TEXT)[0][0] == text


def test_structs_are_records_with_their_own_overflow():
    column = pa.array([{"x": 1, "y": "z", "n": None}, None, {"x": None, "y": None, "n": None}])
    values, over, tally = landed(column, {"type": "object", "properties": {"x": {"type": "integer"}, "w": {}}})
    assert values == [
        {"x": 1, "w": None, OVERFLOW: [("y", "z")]},
        None,
        {"x": None, "w": None, OVERFLOW: None},
    ]
    assert over == [None] * 3
    assert tally == Tally(undeclared={"f.y": 1})


def test_maps_with_text_keys_are_records_without_declared_fields():
    values, _, _ = landed(pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())))
    assert values == [{OVERFLOW: [("k", "1")]}, None, {OVERFLOW: None}]


def test_lists_of_structs_and_undeclared_columns():
    data = {"l": pa.array([[{"x": "1"}, None], None]), "more": pa.array([None, [1, 2]])}
    properties = {"l": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}}}
    converted = convert(data, properties)
    assert converted.data.column("l").to_pylist() == [[{"x": 1, OVERFLOW: None}, None], None]
    assert converted.data.column(OVERFLOW).to_pylist() == [None, [("more", "[1,2]")]]
    assert converted.tally == Tally(coerced={"l.x": 1}, undeclared={"more": 1})


def test_a_column_named_like_the_overflow_is_merged_into_it():
    own = pa.array([[("k", "v"), ("z", None)], None], pa.map_(pa.string(), pa.string()))
    converted = convert({"a": pa.array([1, 2]), OVERFLOW: own})
    assert converted.data.column(OVERFLOW).to_pylist() == [[("k", "v")], None]


def test_sliced_batches_are_read_from_their_offset():
    data = pa.RecordBatch.from_pydict(
        {"l": pa.array([[9], [1, 2], None, [3]]), "s": pa.array([{"x": "q"}, {"x": "a"}, None, {"x": "c"}])}
    ).slice(1)
    converted = convert(data)
    assert converted.data.column("l").to_pylist() == [[1, 2], None, [3]]
    assert converted.data.column("s").to_pylist() == [{"x": "a", OVERFLOW: None}, None, {"x": "c", OVERFLOW: None}]


def test_a_batch_without_rows_is_converted():
    assert convert(pa.RecordBatch.from_pydict({"a": pa.array([], pa.int8())})).data.num_rows == 0


def test_two_columns_with_the_same_name_are_refused():
    data = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(RecordError, match="Two Arrow columns are called 'a'"):
        convert(data, {"a": {"type": "integer"}})


def test_a_mismatch_fails_on_request():
    with pytest.raises(RecordError, match=r"field 'f'.* its value is x \(record 2 of 3 "):
        convert({"f": pa.array(["1", "x", "2"])}, {"f": {"type": "integer"}}, on_mismatch="fail")


@pytest.mark.parametrize("seed", range(25))
def test_columns_built_from_records_land_like_those_records(seed):
    r = Random(seed)
    schema = json_schema(r, plain=True)
    raws = [record(r, schema, Taste(0, 0, 2, False, False)) for _ in range(40)]
    converter = RecordConverter(record_type(schema, "s", None), layout=Layout.NAMED)
    wanted = converter.convert(JsonBatch(raws, np.zeros(40, np.int64), 1)).data
    again = converter.convert(ArrowBatch(wanted, np.zeros(40, np.int64)))
    assert comparable(again.data.to_struct_array()) == comparable(wanted.to_struct_array())
    assert again.tally == Tally()
