"""Decimals: their declarations, their values in Avro and Parquet, and their digits, which grow."""

import json
from dataclasses import replace
from decimal import Context, Decimal
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch, Tally
from s3dest_dagster.columns.decimals import digits_of, grown
from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Kind, decimal
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.decimal import DECIMAL_TEXT, UNKNOWN_DECIMAL
from s3dest_dagster.columns.kinds.number import DOUBLE, LONG
from s3dest_dagster.columns.kinds.scalar import BOOLEAN, STRING
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.record_json import record_from_json, record_to_json
from s3dest_dagster.columns.schema_differences import EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.errors import SchemaError
from s3dest_dagster.formats import encoder, read_table
from s3dest_dagster.settings.formats import AvroFormat, FormatSettings, JsonlFormat, ParquetFormat
from s3dest_dagster.stream import Stream

FORMATS = pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
finite = st.decimals(allow_nan=False, allow_infinity=False)
OVERFLOW = "_airbyte_additional_properties"


def money(integers: int | None, scale: int) -> decimal.Decimal:
    return decimal.Decimal(integers, scale)


def schema(definition: Any) -> dict[str, Any]:
    return {"properties": {"f": definition}}


def fixed(precision: int, scale: int, type_: Any = "number") -> dict[str, Any]:
    return {"type": type_, "x-decimal": {"precision": precision, "scale": scale}}


def kind_of(definition: Any) -> Kind:
    return record_type(schema(definition), "s", None).fields[0].kind


def json_batch(*values: str) -> JsonBatch:
    raws = [b'{"f":%b}' % value.encode() for value in values]
    return JsonBatch(raws, np.full(len(raws), 7), sum(map(len, raws)))


def arrow_batch(column: pa.Array) -> ArrowBatch:
    return ArrowBatch(pa.RecordBatch.from_arrays([column], ["f"]), np.full(len(column), 7))


def content_of(settings: FormatSettings, definition: Any, *batches: Batch) -> tuple[bytes, Tally]:
    made = encoder(settings, Stream(name="s", json_schema=schema(definition)))
    pieces: list[bytes] = []
    writer, tally = made.open(pieces.append, b"m" * 16), Tally()
    for batch in batches:
        encoded = made.encode(batch, bytes(16 * batch.num_rows))
        writer.append(encoded)
        tally += encoded.tally
    writer.close()
    return b"".join(pieces), tally


def rows_of(settings: FormatSettings, content: bytes) -> list[dict[str, Any]]:
    """The rows as another reader returns them."""
    if isinstance(settings, AvroFormat):
        return list(fastavro.reader(BytesIO(content)))
    rows = pq.read_table(BytesIO(content)).to_pylist()
    return [{**row, OVERFLOW: dict(row[OVERFLOW] or ()) or None} for row in rows]


# ---------------------------------------------------------------------- declarations


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        (fixed(10, 2), money(8, 2)),
        (fixed(10, 2, ["null", "number"]), money(8, 2)),
        (fixed(10, 2, "string"), money(8, 2)),
        (fixed(20, 0, "integer"), money(20, 0)),
        (fixed(38, 38), money(0, 38)),
        ({"type": "number", "x-decimal": {"precision": 5}}, money(5, 0)),
        ({"type": "number", "x-decimal": {"scale": 2}}, money(None, 2)),
        (fixed(39, 2), DECIMAL_TEXT),
        (fixed(5, -2), money(7, 0)),
        ({"type": "number", "multipleOf": 0.01}, money(None, 2)),
        ({"type": ["null", "number"], "multipleOf": 1e-7}, money(None, 7)),
        ({"type": "number", "multipleOf": 1}, UNKNOWN_DECIMAL),
        ({"type": "number", "multipleOf": 1e-38}, UNKNOWN_DECIMAL),
        ({"type": "number", "multipleOf": 0.25}, DOUBLE),
        ({"type": "number", "multipleOf": 100}, DOUBLE),
        ({"type": "integer", "multipleOf": 1}, LONG),
        ({"type": "number", "airbyte_type": "big_number"}, UNKNOWN_DECIMAL),
        ({"type": "string", "airbyte_type": "big_number"}, UNKNOWN_DECIMAL),
        ({"type": ["null", "string"], "airbyte_type": "big_number"}, UNKNOWN_DECIMAL),
        ({"type": "string", "airbyte_type": "big_integer"}, STRING),
        ({"type": ["number", "string"], "multipleOf": 0.1}, Union((money(None, 1), STRING))),
        ({"type": ["boolean", "number"], "multipleOf": 0.1}, Union((BOOLEAN, money(None, 1)))),
        ({"type": "array", "items": fixed(3, 1)}, Array(money(2, 1))),
        ({"anyOf": [fixed(39, 0), {"type": "string"}]}, STRING),
    ],
    ids=str,
)
def test_a_declaration_of_a_decimal(definition: Any, kind: Kind) -> None:
    assert kind_of(definition) == kind


@pytest.mark.parametrize(
    "keyword", [5, {"precision": "10"}, {"precision": 0}, {"precision": 2, "scale": 3}, {"precision": True}]
)
def test_a_wrong_declaration_is_refused_with_the_field(keyword: Any) -> None:
    with pytest.raises(SchemaError, match=r"field 'f'.*x-decimal"):
        kind_of({"type": "number", "x-decimal": keyword})


def test_a_kind_is_written_in_words_and_as_a_code() -> None:
    assert money(8, 2).words() == "decimal(10, 2)"
    assert UNKNOWN_DECIMAL.words() == "decimal"
    for kind in (money(8, 2), UNKNOWN_DECIMAL, money(None, 2), decimal.Decimal(1, 2, grows=True, from_text=True)):
        read = decimal.Decimal.of_code(kind.code)
        assert (read, read.grows, read.from_text) == (kind, kind.grows, kind.from_text)
    with pytest.raises(ValueError, match="no kind"):
        decimal.Decimal.of_code("decimal")


# ---------------------------------------------------------------------- values


@FORMATS
def test_decimals_land_as_decimals(settings: FormatSettings) -> None:
    batch = json_batch("1.10", "-0.5", "12345678.99", "null", '"7.00"', "1e2", "0", "-12345678.99", "1.100")
    content, tally = content_of(settings, fixed(10, 2), batch)
    rows = rows_of(settings, content)
    expected = ["1.10", "-0.50", "12345678.99", None, "7.00", "100.00", "0.00", "-12345678.99", "1.10"]
    assert [None if row["f"] is None else str(row["f"]) for row in rows] == expected
    assert tally == Tally(coerced={"f": 1})
    if isinstance(settings, ParquetFormat):
        assert pq.read_schema(BytesIO(content)).field("f").type == pa.decimal128(10, 2)


@FORMATS
@pytest.mark.parametrize("value", ["1.234", "123456789", "1e400", "1e-400", '"n/a"', '"1,5"', "true", '"NaN"'])
def test_a_value_that_does_not_fit_a_declared_precision_overflows(settings: FormatSettings, value: str) -> None:
    content, tally = content_of(settings, fixed(10, 2), json_batch(value, "1"))
    first, second = rows_of(settings, content)
    assert (first["f"], second["f"]) == (None, Decimal("1.00"))
    assert first[OVERFLOW] == {"f": json.loads(value) if value[0] == '"' else value}
    assert tally == Tally(overflowed={"f": 1})


@FORMATS
def test_a_text_is_as_declared_where_texts_are_declared(settings: FormatSettings) -> None:
    content, tally = content_of(settings, fixed(10, 2, "string"), json_batch('"1.10"', "1.10"))
    assert [row["f"] for row in rows_of(settings, content)] == [Decimal("1.10")] * 2
    assert tally == Tally(coerced={"f": 1})


@FORMATS
def test_a_decimal_beside_other_kinds(settings: FormatSettings) -> None:
    definition = {
        "type": ["number", "string", "boolean"],
        "multipleOf": 0.01,
        "x-decimal": {"precision": 5, "scale": 2},
    }
    definition = {"anyOf": [fixed(5, 2), {"type": "string"}, {"type": "boolean"}]}
    content, _ = content_of(settings, definition, json_batch("1.5", '"1.5"', "true", "1e1", "1.234"))
    values = [row["f"] for row in rows_of(settings, content)]
    if isinstance(settings, ParquetFormat):
        values = [next((member for member in value.values() if member is not None), None) for value in values]
    assert values == [Decimal("1.50"), "1.5", True, Decimal("10.00"), "1.234"]


@pytest.mark.parametrize(
    "type_", [pa.decimal32(5, 2), pa.decimal64(5, 2), pa.decimal128(20, 3), pa.decimal256(50, 2)], ids=str
)
@FORMATS
def test_decimals_of_arrow_land_as_decimals(settings: FormatSettings, type_: pa.DataType) -> None:
    column = pa.array([Decimal("1.10"), None, Decimal("-123.45")], type_)
    content, tally = content_of(settings, fixed(10, 3), arrow_batch(column.slice(1)), arrow_batch(column))
    expected = [None, Decimal("-123.450"), Decimal("1.100"), None, Decimal("-123.450")]
    assert [row["f"] for row in rows_of(settings, content)] == expected
    assert not tally


def test_integers_and_floats_of_arrow_in_a_decimal() -> None:
    whole, _ = content_of(ParquetFormat(), fixed(5, 2), arrow_batch(pa.array([1, 999, 1000])))
    assert [row["f"] for row in rows_of(ParquetFormat(), whole)] == [Decimal("1.00"), Decimal("999.00"), None]
    fractions, _ = content_of(ParquetFormat(), fixed(5, 2), arrow_batch(pa.array([1.5, 0.1, 0.125])))
    assert [row["f"] for row in rows_of(ParquetFormat(), fractions)] == [Decimal("1.50"), Decimal("0.10"), None]


@FORMATS
def test_a_decimal_of_too_many_digits_is_its_text(settings: FormatSettings) -> None:
    long = "123456789012345678901234567890123456789.50"
    content, tally = content_of(settings, fixed(41, 2), json_batch(long, f'"{long}"', '"n/a"'))
    assert [row["f"] for row in rows_of(settings, content)] == [long, long, "n/a"]
    assert tally == Tally(coerced={"f": 1})


decimals_and_digits = (
    st.tuples(st.integers(0, 20), st.integers(0, 18))
    .filter(sum)
    .flatmap(
        lambda digits: st.tuples(
            st.just(digits),
            st.lists(
                st.integers(-(10 ** sum(digits)) + 1, 10 ** sum(digits) - 1).map(
                    lambda unscaled: Decimal(unscaled).scaleb(-digits[1], Context(prec=60))
                ),
                min_size=1,
                max_size=8,
            ),
        )
    )
)


@given(decimals_and_digits)
def test_every_decimal_is_read_back_as_pythons_decimal(drawn: Any) -> None:
    (integers, scale), values = drawn
    definition = fixed(integers + scale, scale)
    for settings in (AvroFormat(), ParquetFormat()):
        batch = json_batch(*(f"{value:f}" for value in values), *(f"{value:E}" for value in values))
        content, tally = content_of(settings, definition, batch)
        assert [row["f"] for row in rows_of(settings, content)] == values + values
        assert not tally.overflowed
        read = read_table(settings, Stream(name="s", json_schema=schema(definition)), content)
        assert read["f"].to_pylist() == values + values


@given(finite, st.integers(0, 12), st.integers(1, 12))
def test_a_number_fits_exactly_if_rounding_changes_nothing(value: Decimal, integers: int, scale: int) -> None:
    kind = money(integers, scale)
    found = kind.fitting(str(value))
    exact = Context(prec=2000)
    fits = exact.remainder(value, Decimal(1).scaleb(-scale)) == 0 and abs(value) < 10**integers
    assert (found is not None) == fits
    assert found is None or found == value


@given(st.lists(st.integers(-(2**127) + 1, 2**127 - 1), min_size=1, max_size=20))
def test_avro_has_the_shortest_twos_complement(unscaled: list[int]) -> None:
    values = [number % 10**38 * (1 if number >= 0 else -1) for number in unscaled] + [
        0,
        -1,
        127,
        128,
        -128,
        -129,
        255,
        256,
    ]
    column = pa.array([Decimal(value) for value in values], pa.decimal128(38, 0))
    stored = money(38, 0).avro_storage(column).to_pylist()
    assert [int.from_bytes(each, "big", signed=True) for each in stored] == values
    assert [len(each) for each in stored] == [
        (value if value >= 0 else ~value).bit_length() // 8 + 1 for value in values
    ]


# ---------------------------------------------------------------------- digits that grow


def grown_kind(definition: Any, batch: Batch) -> Kind:
    return grown(record_type(schema(definition), "s", None), batch).fields[0].kind


BIG = {"type": "number", "airbyte_type": "big_number"}


def test_the_first_batch_shows_the_digits() -> None:
    assert grown_kind(BIG, json_batch("1.10", "null", "23", '"4.5"')) == money(2, 2)
    assert grown_kind(BIG, arrow_batch(pa.array([Decimal("1.10"), None]))) == money(1, 2)
    assert grown_kind(BIG, json_batch("null")) == UNKNOWN_DECIMAL
    assert grown_kind(BIG, json_batch("0")) == money(1, 0)
    assert grown_kind(BIG, json_batch("1e5", "1e-3")) == money(6, 3)


def test_a_scale_that_is_declared_alone_is_the_least() -> None:
    cents = {"type": "number", "multipleOf": 0.01}
    assert grown_kind(cents, json_batch("5")) == money(1, 2)
    assert grown_kind(cents, json_batch("5.125")) == money(1, 3)


@FORMATS
def test_a_decimal_of_unknown_digits_is_text(settings: FormatSettings) -> None:
    content, tally = content_of(settings, BIG, json_batch("1.10", '"2"', "null"))
    assert [row["f"] for row in rows_of(settings, content)] == ["1.10", "2", None]
    assert not tally
    lines, _ = content_of(JsonlFormat(), BIG, json_batch("1.10", '"2"', "null"))
    assert read_table(JsonlFormat(), Stream(name="s", json_schema=schema(BIG)), lines)["f"].to_pylist() == [
        "1.10",
        "2",
        None,
    ]


def test_digits_only_grow_and_only_for_numbers_that_do_not_fit() -> None:
    record = record_type(schema(BIG), "s", None)
    first = grown(record, json_batch("1.10"))
    assert grown(first, json_batch("2.5", "3.000")).fields[0].kind == money(1, 2)
    assert grown(first, json_batch("12345678901234567.8")).fields[0].kind == money(17, 2)
    assert grown(record_type(schema(fixed(3, 2)), "s", None), json_batch("12345.678")).fields[0].kind == money(1, 2)


@st.composite
def columns_of_decimals(draw: st.DrawFn) -> pa.Array:
    scale = draw(st.integers(0, 6))
    precision = draw(st.integers(max(scale, 1), 9))
    unscaled = st.integers(1 - 10**precision, 10**precision - 1)
    values = [Decimal(each).scaleb(-scale) for each in draw(st.lists(unscaled, max_size=5))]
    return pa.array([*values, None], pa.decimal128(precision, scale))


@given(columns_of_decimals(), st.integers(1, 5), st.integers(0, 4))
def test_columns_add_the_digits_that_their_texts_add(column: pa.Array, integers: int, scale: int) -> None:
    record = record_type(schema(fixed(integers + scale, scale)), "s", None)
    growing = record.with_kinds([replace(money(integers, scale), grows=True)])
    texts = ["null" if each is None else f"{each:f}" for each in column.to_pylist()]
    found = grown(growing, arrow_batch(column))
    assert found == grown(growing, json_batch(*texts))


def test_more_than_38_digits_are_text() -> None:
    assert grown_kind(BIG, json_batch("1" * 39)) == DECIMAL_TEXT
    assert grown_kind(BIG, json_batch("1" * 20, "0." + "1" * 19)) == DECIMAL_TEXT
    assert grown_kind(BIG, json_batch("1e400")) == DECIMAL_TEXT
    assert grown_kind(BIG, json_batch("1" * 38)) == money(38, 0)
    assert grown_kind(BIG, json_batch("1." + "0" * 40)) == money(1, 0)


def test_decimals_grow_at_every_level() -> None:
    definition = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": BIG}, "either": {"anyOf": [BIG, {"type": "boolean"}]}},
    }
    raw = '{"list":[1.5,null,22.25],"either":true}'
    record = grown(record_type(schema(definition), "s", None), json_batch(raw, '{"either":3}', "null"))
    inner: Any = record.fields[0].kind
    assert [field.kind for field in inner.fields] == [Array(money(2, 2)), Union((money(1, 0), BOOLEAN))]


@given(
    st.lists(st.decimals(allow_nan=False, allow_infinity=False).filter(lambda d: abs(d.adjusted()) < 60), min_size=1)
)
def test_the_digits_hold_every_number(values: list[Decimal]) -> None:
    digits = digits_of(map(str, values))
    if digits is None:
        return
    kind = money(*digits)
    assert [kind.fitting(str(value)) for value in values] == values


# ---------------------------------------------------------------------- columns over time


def names_and_kinds(*definitions: Any, is_declared: bool = True) -> dict[str, Kind]:
    """The columns of a stream whose field had these declarations, one after the other. The last is current."""
    known = StreamColumns()
    for definition in definitions:
        rules = EvolutionRules(stream="s", is_declared=is_declared)
        known = evolve(known, record_type(schema(definition), "s", None), rules).columns
        assert StreamColumns.from_json(json.loads(json.dumps(known.to_json()))) == known
    return {field.name: field.kind for field in known.fields if field.id not in known.retired}


def test_a_column_of_decimals_gets_the_digits_of_all_declarations() -> None:
    assert names_and_kinds(fixed(3, 2), fixed(19, 2), fixed(4, 3)) == {"f": money(17, 3)}
    assert names_and_kinds(fixed(30, 2), {"type": "integer"}) == {"f": money(28, 2)}
    assert names_and_kinds(fixed(3, 2), fixed(3, 2, "string")) == {"f": money(1, 2)}


def test_more_digits_than_a_decimal_has_are_a_text_column_for_good() -> None:
    assert names_and_kinds(fixed(20, 0), fixed(38, 30)) == {"f_text": DECIMAL_TEXT}
    assert names_and_kinds(fixed(20, 0), fixed(38, 30), fixed(3, 2)) == {"f_text": DECIMAL_TEXT}


def test_decimals_of_two_frames_have_one_column() -> None:
    frames = [pa.array([Decimal("1.10")]), pa.array([Decimal("12345678901234567.89")]), pa.array([1, 2])]
    schemas = [json_schema_of_arrow(pa.schema([("f", frame.type)]))["properties"]["f"] for frame in frames]
    assert names_and_kinds(*schemas, is_declared=False) == {"f": money(17, 2)}


def test_decimals_are_kept_in_a_manifest() -> None:
    record = record_type({"properties": {"a": fixed(10, 2), "b": fixed(60, 2), "c": fixed(3, 2, "string")}}, "s", None)
    read = record_from_json(json.loads(json.dumps(record_to_json(record))))
    assert read == record
    assert [field.kind.code for field in read.fields] == ["decimal(8,2)", "text", "decimal(1,2) text"]
