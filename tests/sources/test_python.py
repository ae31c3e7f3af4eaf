"""Records from Python code become batches."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import types
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from s3dest_dagster.batch import ArrowBatch, JsonBatch, ValueType
from s3dest_dagster.errors import RecordError
from s3dest_dagster.sources.python import batches


def texts_of(records) -> list[bytes]:
    return [bytes(raw) for batch in batches(records, emitted_at=lambda: 7) for raw in batch.raws]


def loaded(records) -> list:
    return [json.loads(text, parse_float=Decimal) for text in texts_of(records)]


def refusal(records) -> str:
    with pytest.raises(RecordError) as caught:
        list(batches(records, emitted_at=lambda: 7))
    return str(caught.value)


# Accepted records


def test_an_iterable_of_mappings_becomes_json_objects_in_order():
    assert texts_of({"n": n} for n in range(3)) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


def test_no_records_become_no_batches():
    assert texts_of(None) == []
    assert texts_of([]) == []
    assert texts_of(iter(())) == []


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class PointStruct(msgspec.Struct):
    x: int
    y: float = 0.5


class PointModel(BaseModel):
    x: int
    y: float = 0.5


@pytest.mark.parametrize(
    "record",
    [
        {"x": 1, "y": 0.5},
        OrderedDict(x=1, y=0.5),
        types.MappingProxyType({"x": 1, "y": 0.5}),
        Point(1),
        PointStruct(1),
        PointModel(x=1),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_can_have_many_types_alone_or_in_an_iterable(record):
    assert texts_of(record) == [b'{"x":1,"y":0.5}']
    assert texts_of([record, {"x": 2}]) == [b'{"x":1,"y":0.5}', b'{"x":2}']
    assert texts_of({"inner": record}) == [b'{"inner":{"x":1,"y":0.5}}']


def test_a_database_row_with_names_is_a_record():
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    assert texts_of(connection.execute("select 1 as x, 'a' as y")) == [b'{"x":1,"y":"a"}']
    connection.close()


def test_lists_of_records_are_pages():
    assert texts_of([[{"n": 0}, {"n": 1}], [], [{"n": 2}]]) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


@pytest.mark.parametrize("records", ["text", b"bytes", 12, 1.5, True, object()])
def test_values_that_are_not_records_are_refused(records):
    assert "no records" in refusal(records)


@pytest.mark.parametrize("record", ["text", b"bytes", 12, None, (1, 2), namedtuple("Row", "a")(1), Point])
def test_an_element_that_is_not_a_record_is_refused_by_its_number(record):
    assert "Record 3 is a" in refusal([{"n": 1}, {"n": 2}, record])


def test_asynchronous_records_are_refused():
    async def records():
        yield {"n": 1}

    assert "asynchronously" in refusal(records())


def test_an_array_like_struct_is_refused():
    class Row(msgspec.Struct, array_like=True):
        x: int

    assert "Record 1 is a Row" in refusal([Row(1)])


# Conversion of values


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**40, "1" + "0" * 40),
        (-(2**63) - 1, "-9223372036854775809"),
        (Decimal("1.10"), "1.10"),
        (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
        (0.1, "0.1"),
        (True, "true"),
        (None, "null"),
        (datetime(2024, 1, 31, 12, 0, 0, 5, UTC), '"2024-01-31T12:00:00.000005Z"'),
        (datetime(2024, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), '"2024-01-31T12:00:00+02:00"'),
        (date(2024, 1, 31), '"2024-01-31"'),
        (time(12, 30), '"12:30:00"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (b"ab", '"YWI="'),
        (Colour.RED, '"red"'),
        ((1, 2), "[1,2]"),
        ("a\nb\r\u2028", '"a\\nb\\r\u2028"'),
        (np.int64(5), "5"),
        (np.float64(1.5), "1.5"),
        (np.float32(1.5), "1.5"),
        (np.bool_(True), "true"),
        (np.str_("a"), '"a"'),
        (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
        (np.datetime64("2024-01-31T00:00:00.123456789"), '"2024-01-31T00:00:00.123456789"'),
        (types.MappingProxyType({"a": 1}), '{"a":1}'),
        (msgspec.Raw(b'{"a":\n 1}'), '{"a":1}'),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_values_are_written_exactly(value, text):
    assert texts_of([{"v": value}]) == [f'{{"v":{text}}}'.encode()]


class WholeNumber(int):
    pass


class Moment(datetime):
    pass


def test_subclasses_are_written_like_their_base_class():
    assert texts_of([{"n": WholeNumber(3), "t": Moment(2024, 1, 31)}]) == [b'{"n":3,"t":"2024-01-31T00:00:00"}']


NOT_FINITE = [
    float("nan"),
    float("inf"),
    float("-inf"),
    Decimal("NaN"),
    Decimal("-Infinity"),
    np.float64("nan"),
    np.float32("inf"),
]


@pytest.mark.parametrize("value", NOT_FINITE, ids=repr)
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda value: {"a": value}, "a"),
        (lambda value: {"a": {"b": [1, {"c": value}]}}, "a.b[1].c"),
        (lambda value: {"a": Point(1, value)}, "a.y"),
        (lambda value: {"a": PointStruct(1, value)}, "a.y"),
        (lambda value: {"a": types.MappingProxyType({"b": value})}, "a.b"),
        (lambda value: Point(1, value), "y"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_record_and_field(value, wrap, path):
    message = refusal([{"fine": 1}, {"fine": None}, wrap(value)])
    assert f"Record 3, field {path}: it is not a finite number" in message


def test_nulls_and_texts_like_nan_are_accepted():
    records = [{"a": None, "b": "null NaN Infinity", "c": b"\xcb\x7f\xcb\xff", "d": 10**30, "e": 1.5}]
    assert loaded(records)[0]["a"] is None
    assert loaded(records)[0]["b"] == "null NaN Infinity"


@pytest.mark.parametrize(
    ("record", "path", "reason"),
    [
        ({"a": object()}, "a", "object has no place in JSON"),
        ({"a": [1, {"b": 1 + 2j}]}, "a[1].b", "complex has no place in JSON"),
        ({"a": "\ud800"}, "a", "surrogate"),
        ({"a": {(1, 2): 1}}, "a", "one of its names"),
        ({"a": np.timedelta64(1, "M")}, "a", "timedelta64 in 'M' has no fixed length"),
        ({"a": iter([])}, "a", "list_iterator"),
    ],
)
def test_a_value_that_json_cannot_represent_is_refused_by_record_and_field(record, path, reason):
    message = refusal([*({"n": n} for n in range(1000)), record])
    assert f"Record 1,001, field {path}: " in message
    assert reason in message


def test_a_record_that_contains_itself_is_refused():
    record: dict = {"n": 1}
    record["self"] = record
    assert "contains itself" in refusal([record])


def test_a_refusal_does_not_show_the_value():
    assert "s3cret" not in refusal([{"a": "s3cret\ud800"}])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=5), max_size=40))
def test_json_values_come_back_as_they_were(records):
    texts = texts_of(records)
    assert [json.loads(text) for text in texts] == records
    assert all(b"\n" not in text for text in texts)


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False), max_size=20))
def test_decimals_come_back_as_they_were(values):
    read = [
        json.loads(text, parse_float=Decimal, parse_int=Decimal)["v"] for text in texts_of({"v": v} for v in values)
    ]
    assert [value.as_tuple() for value in read] == [value.as_tuple() for value in values]


@given(st.lists(st.one_of(st.none(), st.floats(), st.just(1)), min_size=1, max_size=600))
def test_no_float_ever_becomes_null(values):
    finite = all(value is None or np.isfinite(value) for value in values)
    if finite:
        assert [json.loads(text)["v"] for text in texts_of({"v": value} for value in values)] == values
    else:
        first = next(n for n, value in enumerate(values, 1) if value is not None and not np.isfinite(value))
        assert f"Record {first:,}, field v" in refusal({"v": value} for value in values)


# Batches


def test_batches_have_about_a_megabyte_and_their_sum_of_bytes():
    made = list(batches(({"n": n, "text": "x" * 500} for n in range(10_000)), emitted_at=lambda: 7))
    assert sum(batch.num_rows for batch in made) == 10_000
    assert all(1 << 20 <= batch.nbytes < 1.5 * (1 << 20) for batch in made[:-1])
    assert all(batch.nbytes == sum(map(len, batch.raws)) for batch in made)


def test_every_batch_has_the_time_of_its_creation():
    clock = iter(range(100, 200))
    made = list(batches(({"text": "x" * 1000} for _ in range(3000)), emitted_at=lambda: next(clock)))
    assert [set(batch.emitted_at.tolist()) for batch in made] == [{100 + n} for n in range(len(made))]
    assert all(len(batch.emitted_at) == batch.num_rows for batch in made)


def test_at_most_one_batch_of_the_stream_is_kept_or_read_ahead():
    alive = 0
    most = 0

    class Counted(dict):
        def __init__(self, n: int) -> None:
            nonlocal alive, most
            super().__init__(n=n, text="x" * 1000)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    total = sum(batch.num_rows for batch in batches((Counted(n) for n in range(20_000)), emitted_at=lambda: 7))
    assert total == 20_000
    assert most < 1000


def test_large_records_do_not_accumulate():
    consumed = 0

    def records() -> Iterator[dict]:
        nonlocal consumed
        for _ in range(50):
            consumed += 1
            yield {"text": "x" * (2 << 20)}

    for count, _ in enumerate(batches(records(), emitted_at=lambda: 7), 1):
        assert consumed <= count


def test_an_error_of_the_users_generator_passes_through():
    def records():
        yield {"n": 1}
        raise ConnectionError("their own")

    with pytest.raises(ConnectionError, match="their own"):
        texts_of(records())


# Arrow

TABLE = pa.table({"id": [1, 2, 3], "name": ["a", None, "c"]})


@pytest.mark.parametrize(
    "data",
    [
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_reader(),
        TABLE.to_batches(max_chunksize=1),
        iter([TABLE.slice(0, 2), TABLE.slice(2)]),
        pl.from_arrow(TABLE),
        [[TABLE]],
    ],
    ids=["table", "batch", "reader", "list of batches", "iterator of tables", "polars", "page"],
)
def test_arrow_data_is_passed_as_columns(data):
    made = list(batches(data, emitted_at=lambda: 7))
    assert all(isinstance(batch, ArrowBatch) for batch in made)
    whole = pa.Table.from_batches([batch.data for batch in made])
    assert whole.to_pylist() == TABLE.to_pylist()
    assert [stamp for batch in made for stamp in batch.emitted_at.tolist()] == [7, 7, 7]


def test_a_duckdb_relation_is_passed_as_columns():
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        (made,) = batches(connection.sql("select range as id from range(3)"), emitted_at=lambda: 7)
    assert made.data.to_pydict() == {"id": [0, 1, 2]}


def test_an_object_with_only_an_arrow_array_is_accepted():
    class Holder:
        def __arrow_c_array__(self, requested_schema=None):
            return TABLE.to_batches()[0].__arrow_c_array__(requested_schema)

    (made,) = batches(Holder(), emitted_at=lambda: 7)
    assert made.data.to_pylist() == TABLE.to_pylist()


def test_large_arrow_data_is_sliced_without_copying():
    table = pa.table({"n": np.arange(3_000_000), "m": np.arange(3_000_000)})
    made = list(batches(table, emitted_at=lambda: 7))
    assert len(made) > 10
    assert all(batch.nbytes <= 4 << 20 for batch in made)
    assert pa.Table.from_batches([batch.data for batch in made]).equals(table)
    address = table.column("n").chunk(0).buffers()[1].address
    assert {batch.data.column(0).buffers()[1].address for batch in made} == {address}


def test_dicts_and_arrow_may_be_mixed_and_keep_their_order():
    made = list(batches([{"id": 0}, TABLE, {"id": 4}, {"id": 5}], emitted_at=lambda: 7))
    assert [type(batch) for batch in made] == [JsonBatch, ArrowBatch, JsonBatch]
    assert [batch.num_rows for batch in made] == [1, 3, 2]


def test_empty_arrow_data_yields_nothing():
    assert list(batches(TABLE.slice(0, 0), emitted_at=lambda: 7)) == []


def test_arrow_tables_of_a_generator_are_consumed_one_by_one():
    consumed = 0

    def tables():
        nonlocal consumed
        for _ in range(5):
            consumed += 1
            yield TABLE

    for count, _ in enumerate(batches(tables(), emitted_at=lambda: 7), 1):
        assert consumed == count


@pytest.mark.parametrize("column", [pa.array([1, 2]), pl.Series([1, 2]), pa.chunked_array([[1]])])
def test_a_single_column_is_refused(column):
    assert "no table" in refusal(column)


def test_view_layouts_become_plain_at_any_depth_and_other_types_stay():
    frame = pl.DataFrame(
        {"t": ["x", None], "b": [b"1", b"2"], "l": [["a"], ["b"]], "s": [{"q": "z"}, {"q": None}], "n": [1, 2]}
    ).with_columns(pl.col("t").cast(pl.Categorical).alias("c"))
    (made,) = batches(frame, emitted_at=lambda: 7)
    assert made.data.schema.types == [
        pa.large_string(),
        pa.large_binary(),
        pa.large_list(pa.large_string()),
        pa.struct([("q", pa.large_string())]),
        pa.int64(),
        pa.dictionary(pa.uint32(), pa.large_string()),
    ]
    assert made.data.to_pylist() == frame.to_dicts()


def test_a_batch_names_the_fields_with_types_that_json_lacks() -> None:
    records = [{"n": row, "x": 1.5} for row in range(2000)]
    records[3] |= {"price": Decimal("1.10"), "lines": [{"net": Decimal(1)}, {"net": 2}], "seen": {"at": None}}
    first, *_ = batches([*records, {"late": Decimal(1)}], emitted_at=lambda: 7)
    assert first.types == {(("price",), ValueType.DECIMAL), (("lines", None, "net"), ValueType.DECIMAL)}
    (batch,) = batches([{"n": 1, "x": 2.5, "s": ["a"], "o": {"b": None}}], emitted_at=lambda: 7)
    assert not batch.types
