"""Arrow rows as JSON texts: every type, exactly."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from encoded import batch_of
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats.text import json_texts


def _texts(**columns) -> list[bytes]:
    data = pa.RecordBatch.from_pydict(columns)
    return list(json_texts(ArrowBatch(data, np.zeros(data.num_rows, np.int64))))


def _text(value, kind) -> str:
    (text, null) = _texts(x=pa.array([value, None], kind))
    assert null == b'{"x":null}'
    return text.decode().removeprefix('{"x":').removesuffix("}")


UTC, BERLIN = dt.UTC, "Europe/Berlin"
MOMENT = dt.datetime(2024, 7, 1, 12, 0, 0, 123456)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (-(2**63), pa.int64(), "-9223372036854775808"),
        (2**64 - 1, pa.uint64(), "18446744073709551615"),
        (0.1, pa.float64(), "0.1"),
        (5e-324, pa.float64(), "5e-324"),
        (np.float32(0.1), pa.float32(), "0.1"),
        (np.float16(0.5), pa.float16(), "0.5"),
        (True, pa.bool_(), "true"),
        ('a"\\\n\x1fé', pa.string(), r'"a\"\\\n\u001fé"'),
        ("plain", pa.large_string(), '"plain"'),
        ("view", pa.string_view(), '"view"'),
        (b"\x00\xff", pa.binary(), '"AP8="'),
        (b"ab", pa.binary(2), '"YWI="'),
        (dt.date(2024, 2, 29), pa.date32(), '"2024-02-29"'),
        (dt.date(2024, 2, 29), pa.date64(), '"2024-02-29"'),
        (dt.time(1, 2, 3), pa.time32("s"), '"01:02:03"'),
        (dt.time(1, 2, 3, 4), pa.time64("us"), '"01:02:03.000004"'),
        (MOMENT, pa.timestamp("us"), '"2024-07-01T12:00:00.123456"'),
        (MOMENT.replace(tzinfo=UTC), pa.timestamp("us", "UTC"), '"2024-07-01T12:00:00.123456Z"'),
        (MOMENT.replace(tzinfo=UTC), pa.timestamp("us", BERLIN), '"2024-07-01T12:00:00.123456Z"'),
        (MOMENT.replace(tzinfo=UTC), pa.timestamp("s", "UTC"), '"2024-07-01T12:00:00Z"'),
        (Decimal("12345678901234567890.50"), pa.decimal128(22, 2), "12345678901234567890.50"),
        (dt.timedelta(seconds=2), pa.duration("ms"), "2000"),
        ([1, None], pa.list_(pa.int8()), "[1,null]"),
        ([], pa.large_list(pa.string()), "[]"),
        ([["a"], None], pa.list_(pa.list_(pa.string())), '[["a"],null]'),
        ([1, 2], pa.list_(pa.int32(), 2), "[1,2]"),
        ({"a": 1, 'q"': None}, pa.struct([("a", pa.int64()), ('q"', pa.string())]), r'{"a":1,"q\"":null}'),
        ([("k", 1)], pa.map_(pa.string(), pa.int64()), '{"k":1}'),
        ([(1, "v")], pa.map_(pa.int64(), pa.string()), '[[1,"v"]]'),
        ("red", pa.dictionary(pa.int8(), pa.string()), '"red"'),
    ],
)
def test_a_value_has_one_exact_text(value, kind, text):
    assert _text(value, kind) == text
    json.loads(text)


def test_columns_of_nulls_and_nested_nulls_are_null():
    assert _texts(x=pa.nulls(1), y=pa.array([{"a": None}], pa.struct([("a", pa.null())]))) == [
        b'{"x":null,"y":{"a":null}}'
    ]


def test_slices_have_the_texts_of_their_rows():
    data = pa.RecordBatch.from_pydict(
        {"s": [{"a": [n]} if n % 3 else None for n in range(9)], "t": [str(n) for n in range(9)]}
    )
    whole = list(json_texts(ArrowBatch(data, np.zeros(9))))
    assert list(json_texts(ArrowBatch(data.slice(2, 5), np.zeros(5)))) == whole[2:7]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused_by_field_and_record(bad):
    with pytest.raises(RecordError, match=r"Field 'a\.b' is -?(nan|inf) in record 3 "):
        _texts(a=pa.array([{"b": 1.0}, {"b": None}, {"b": bad}]))


def _stored(number: int, kind: pa.DataType) -> pa.Array:
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array([None, number], width).cast(kind)


@pytest.mark.parametrize(
    ("kind", "first", "first_text", "last", "last_text"),
    [
        (pa.date32(), -719162, "0001-01-01", 2932896, "9999-12-31"),
        (pa.date64(), -719162 * 86_400_000, "0001-01-01", 2932897 * 86_400_000 - 1, "9999-12-31T23:59:59.999000"),
        (pa.timestamp("s"), -62135596800, "0001-01-01T00:00:00", 253402300799, "9999-12-31T23:59:59"),
        (pa.timestamp("s", BERLIN), -62135596800, "0001-01-01T00:00:00Z", 253402300799, "9999-12-31T23:59:59Z"),
        (
            pa.timestamp("ms", "UTC"),
            -62135596800000,
            "0001-01-01T00:00:00Z",
            253402300799999,
            "9999-12-31T23:59:59.999000Z",
        ),
        (
            pa.timestamp("us", "UTC"),
            -62135596800000000,
            "0001-01-01T00:00:00Z",
            253402300799999999,
            "9999-12-31T23:59:59.999999Z",
        ),
        (pa.time32("s"), 0, "00:00:00", 86399, "23:59:59"),
        (pa.time32("ms"), 0, "00:00:00", 86399999, "23:59:59.999000"),
        (pa.time64("us"), 0, "00:00:00", 86399999999, "23:59:59.999999"),
        (pa.time64("ns"), 0, "00:00:00", 86399999999999, "23:59:59.999999999"),
    ],
    ids=str,
)
def test_moments_within_the_bounds_have_a_text_and_others_are_refused(kind, first, first_text, last, last_text):
    assert _texts(x=_stored(first, kind))[1] == f'{{"x":"{first_text}"}}'.encode()
    assert _texts(x=_stored(last, kind))[1] == f'{{"x":"{last_text}"}}'.encode()
    for number in (first - 1, last + 1, 2 ** (kind.bit_width - 1) - 1):
        with pytest.raises(RecordError, match=rf"Field 'x' is {number} as .* in record 2 of a batch"):
            _texts(x=_stored(number, kind))


def test_nanoseconds_cannot_leave_the_range():
    assert _texts(x=_stored(2**63 - 1, pa.timestamp("ns", "UTC")))[1] == b'{"x":"2262-04-11T23:47:16.854775807Z"}'


def test_a_date64_that_is_not_at_midnight_keeps_its_time():
    days = pa.array([1609459200000, 1609462800001], pa.int64()).cast(pa.date64())
    assert _texts(x=days) == [b'{"x":"2021-01-01"}', b'{"x":"2021-01-01T01:00:00.001000"}']


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_seconds_have_no_fraction_or_six_digits_or_nine(unit):
    moments = ["2024-01-02T03:04:05", None, "1969-12-31T23:59:59"]
    moments += ["1969-12-31T23:59:59.120000"] if unit != "s" else []
    moments += ["2024-01-02T03:04:05.000001"] if unit in ("us", "ns") else []
    moments += ["2024-01-02T03:04:05.000000120"] if unit == "ns" else []
    column = pa.array(moments).cast(pa.timestamp("ns")).cast(pa.timestamp(unit))
    expected = [b'{"x":null}' if text is None else f'{{"x":"{text}"}}'.encode() for text in moments]
    assert _texts(x=column) == expected
    assert [text for row in range(len(moments)) for text in _texts(x=column.slice(row, 1))] == expected


_BROKEN = pa.array([b"ok", b"\xff\xfe"]).view(pa.string())


@pytest.mark.parametrize(
    ("column", "path"),
    [
        (_BROKEN, "x"),
        (pa.array([b"ok", b"\xff"], pa.large_binary()).view(pa.large_string()), "x"),
        (pa.StructArray.from_arrays([_BROKEN], ["y"]), "x.y"),
        (pa.ListArray.from_arrays([0, 1, 2], _BROKEN), r"x\[\]"),
        (pa.MapArray.from_arrays([0, 1, 2], _BROKEN, pa.array([1, 2])), "x"),
        (pa.MapArray.from_arrays([0, 1, 2], pa.array(["a", "b"]), _BROKEN), "x"),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1]), _BROKEN), "x"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_texts_that_are_not_utf8_are_refused_by_field(column, path):
    with pytest.raises(RecordError, match=f"Field '{path}' holds a text that is not valid UTF-8 in record 2 of"):
        _texts(x=column)
    assert len(_texts(x=column.slice(0, 1))) == 1


@pytest.mark.parametrize(
    ("months", "days", "nanos", "text"),
    [
        (14, 3, 1_500_000_000, "P14M3DT1.5S"),
        (0, 0, 0, "PT0S"),
        (1, 0, 0, "P1M"),
        (0, -2, 0, "P-2D"),
        (0, 0, 3_661_000_000_001, "PT3661.000000001S"),
        (-1, 2, -500_000_000, "P-1M2DT-0.5S"),
        (-(2**31), 2**31 - 1, -(2**63), "P-2147483648M2147483647DT-9223372036.854775808S"),
    ],
)
def test_an_interval_is_an_iso_8601_duration_whose_parts_keep_their_units(months, days, nanos, text):
    assert _texts(x=pa.array([pa.MonthDayNano([months, days, nanos]), None])) == [
        f'{{"x":"{text}"}}'.encode(),
        b'{"x":null}',
    ]


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_the_text_of_a_union_is_that_of_its_value(kind):
    codes = pa.array([0, 1, 1, 0], pa.int8())
    if kind == "sparse":
        column = pa.UnionArray.from_sparse(codes, [pa.array(["a", "", "", None]), pa.array([0, 1, None, 0])])
    else:
        members = [pa.array(["a", None]), pa.array([1, None])]
        column = pa.UnionArray.from_dense(codes, pa.array([0, 0, 1, 1], pa.int32()), members)
    assert _texts(x=column) == [b'{"x":"a"}', b'{"x":1}', b'{"x":null}', b'{"x":null}']
    assert _texts(x=column.slice(1, 2)) == [b'{"x":1}', b'{"x":null}']


def test_two_columns_with_the_same_name_are_refused():
    data = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(RecordError, match="Two Arrow columns are called 'a'"):
        json_texts(ArrowBatch(data, np.zeros(1)))


def test_json_batches_keep_their_texts():
    batch = batch_of([b'{"a" : 1}'])
    assert json_texts(batch) is batch.raws


_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-(2**63), 2**63 - 1),
            "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "s": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            "l": st.none()
            | st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=3),
        }
    ),
    min_size=1,
)
_SCHEMA = pa.schema([("i", pa.int64()), ("f", pa.float64()), ("s", pa.string()), ("l", pa.list_(pa.string()))])


@given(_ROWS)
def test_python_reads_the_same_values(rows):
    data = pa.RecordBatch.from_pylist(rows, _SCHEMA)
    texts = json_texts(ArrowBatch(data, np.zeros(len(rows))))
    assert [json.loads(text) for text in texts] == rows
