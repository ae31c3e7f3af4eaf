"""The conversion rules: the result of each value under each kind, and what is reported about it."""

from __future__ import annotations

import base64
import struct
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.conversion_log import Outcome, tally_of
from s3dest_dagster.columns.converter import convert_record
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.number import DOUBLE, FLOAT, LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import BOOLEAN, BYTES, NULL, STRING
from s3dest_dagster.columns.kinds.temporal import DATE
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.names import OVERFLOW

COERCED, OVERFLOWED, UNDECLARED = Outcome


def field_value(kind, raw: bytes, layout=Layout.NAMED):
    """The value of one field, its overflow text, and whether it was counted as coerced."""
    record = Record("s", None, (Field("f", "f", kind),))
    values, entries = convert_record(record, b'{"f":%b}' % raw, layout=layout)
    over = dict(values[OVERFLOW] or ()).get("f")
    assert ((OVERFLOWED, "f") in entries) == (over is not None)
    return values.get("f"), over, (COERCED, "f") in entries


@pytest.mark.parametrize(
    ("kind", "raw", "value", "over", "coerced"),
    [
        (LONG, b"12", 12, None, False),
        (LONG, b"-0", 0, None, False),
        (LONG, b"9223372036854775807", 2**63 - 1, None, False),
        (LONG, b"9223372036854775808", None, "9223372036854775808", False),
        (LONG, b'"12"', 12, None, True),
        (LONG, b'"-9223372036854775808"', -(2**63), None, True),
        (LONG, b'"007"', None, "007", False),
        (LONG, b'"-0"', None, "-0", False),
        (LONG, b'" 1"', None, " 1", False),
        (LONG, b'"30.0"', None, "30.0", False),
        (LONG, b"30.0", 30, None, True),
        (LONG, b"1e3", 1000, None, True),
        (LONG, b"0e400", 0, None, True),
        (LONG, b"1e400", None, "1e400", False),
        (LONG, b"1e99999999", None, "1e99999999", False),
        (LONG, b"1e999999999999999999999", None, "1e999999999999999999999", False),
        (LONG, b"1.5", None, "1.5", False),
        (LONG, b"true", None, "true", False),
        (DOUBLE, b"1", 1.0, None, False),
        (DOUBLE, b"1e5", 1e5, None, False),
        (DOUBLE, b'"1.50"', 1.5, None, True),
        (DOUBLE, b'"0.1000000000000000055"', None, "0.1000000000000000055", False),
        (DOUBLE, b'"NaN"', None, "NaN", False),
        (DOUBLE, b'"1_0"', None, "1_0", False),
        (DOUBLE, b"0.1000000000000000055", 0.1, "0.1000000000000000055", False),
        (DOUBLE, b"9007199254740993", 9007199254740992.0, "9007199254740993", False),
        (DOUBLE, b"1e-400", 0.0, "1e-400", False),
        (DOUBLE, b"1e400", None, "1e400", False),
        (FLOAT, b"0.1", float(np.float32(0.1)), None, False),
        (FLOAT, b"16777217", 16777216.0, "16777217", False),
        (FLOAT, b"3.5e38", None, "3.5e38", False),
        (STRING, b'"a\\u00e9"', "aé", None, False),
        (STRING, b"1.50", "1.50", None, True),
        (STRING, b'{"a" : 1}', '{"a" : 1}', None, True),
        (BOOLEAN, b"true", True, None, False),
        (BOOLEAN, b'"true"', None, "true", False),
        (BOOLEAN, b"1", None, "1", False),
        (BYTES, b'"aGk="', b"hi", None, False),
        (BYTES, b'""', b"", None, False),
        (BYTES, b'"aGk"', None, "aGk", False),
        (BYTES, b'"aGl="', None, "aGl=", False),
        (BYTES, b'"a Gk="', None, "a Gk=", False),
        (BYTES, '"é"'.encode(), None, "é", False),
        (NULL, b"1", None, "1", False),
        (DATE, b'"2021-01-02"', 18629, None, False),
        (DATE, b'"soon"', None, "soon", False),
        (DATE, b"18629", None, "18629", False),
        (Array(STRING), b'["a",1.50,null]', ["a", "1.50", None], None, True),
        (Array(LONG), b'[1,"2"]', [1, 2], None, True),
        (Array(LONG), b'[1, "x"]', None, '[1, "x"]', False),
        (Array(LONG), b"5", None, "5", False),
        (Array(DOUBLE), b"[1,9007199254740993]", [1.0, 9007199254740992.0], "[1,9007199254740993]", False),
        (Array(Array(LONG)), b"[[1],null,[]]", [[1], None, []], None, False),
        (Array(Array(LONG)), b'[[1],["x"]]', None, '[[1],["x"]]', False),
        (Record("r", None, ()), b'"x"', None, "x", False),
    ],
)
def test_a_value_is_converted_by_the_rules(kind, raw, value, over, coerced):
    assert field_value(kind, raw) == (value, over, coerced)


def test_the_text_of_a_null_or_missing_value_is_null():
    record = Record("s", None, (Field("f", "f", LONG),))
    for raw in (b"{}", b'{"f":null}', b'{"f":null,"g":null}'):
        assert convert_record(record, raw) == ({OVERFLOW: None}, [])


@pytest.mark.parametrize(
    ("branches", "raw", "member", "coerced"),
    [
        ((LONG, STRING), b'"12"', {"string": "12"}, False),
        ((LONG, BOOLEAN), b'"12"', {"integer": 12}, True),
        ((LONG, DOUBLE), b"1.5", {"number": 1.5}, False),
        ((LONG, DOUBLE), b"30.0", {"number": 30.0}, False),
        ((DOUBLE, LONG), b"30", {"number": 30.0}, False),
        ((DOUBLE, LONG), b"9007199254740993", {"integer": 9007199254740993}, False),
        ((LONG, STRING), b"9223372036854775808", {"string": "9223372036854775808"}, True),
        ((DOUBLE, STRING), b"0.1000000000000000055", {"string": "0.1000000000000000055"}, True),
        ((DATE, STRING), b'"2021-01-02"', {"date": 18629}, False),
        ((DATE, STRING), b'"soon"', {"string": "soon"}, False),
        ((STRING, DATE), b'"2021-01-02"', {"string": "2021-01-02"}, False),
        ((BYTES, STRING), b'"aGk="', {"bytes": b"hi"}, False),
        ((BYTES, STRING), b'"hi!"', {"string": "hi!"}, False),
        ((FLOAT, DOUBLE), b"16777217", {"number": 16777217.0}, False),
        ((Array(LONG), STRING), b'["x"]', {"string": '["x"]'}, True),
        ((Record("r", None, ()), STRING), b"{}", {"object": {OVERFLOW: None}}, False),
    ],
)
def test_a_union_prefers_the_exact_branch_to_the_lossless_one(branches, raw, member, coerced):
    assert field_value(Union(branches), raw) == (member, None, coerced)


def test_a_union_of_numbers_tries_an_inexact_branch_last_and_keeps_the_text():
    value = field_value(Union((BOOLEAN, DOUBLE)), b"9007199254740993")
    assert value == ({"number": 9007199254740992.0}, "9007199254740993", False)


def test_a_text_that_is_no_date_goes_to_the_string_that_avro_adds():
    assert field_value(DATE, b'"soon"', Layout.AVRO) == ({"member1": "soon"}, None, False)
    assert field_value(DATE, b"5", Layout.AVRO) == (None, "5", False)
    union = Union((LONG, DATE))
    assert field_value(union, b'"soon"', Layout.AVRO) == ({"member2": "soon"}, None, False)
    assert field_value(union, b'"12"', Layout.AVRO) == ({"member0": 12}, None, True)
    assert field_value(Array(DATE, fallback=False), b'["soon"]', Layout.AVRO) == (None, '["soon"]', False)


def test_every_level_has_its_own_overflow_with_original_names():
    inner = Record("o", None, (Field("x_y", "x-y", LONG),))
    record = Record("s", None, (Field("o", "o", inner), Field("l", "l", Array(inner))))
    values, entries = convert_record(record, b'{"o":{"x-y":"a","z z":1},"l":[{"q":[ 1 ]},null],"x":{"a":"\\u00e9"}}')
    assert values == {
        "o": {OVERFLOW: [("x-y", "a"), ("z z", "1")]},
        "l": [{OVERFLOW: [("q", "[ 1 ]")]}, None],
        OVERFLOW: [("x", '{"a":"\\u00e9"}')],
    }
    tally = tally_of(Counter(entries))
    assert (tally.overflowed, tally.undeclared) == ({"o.x-y": 1}, {"o.z z": 1, "l.q": 1, "x": 1})


def test_an_inexact_item_next_to_records_is_kept():
    kind = Array(Union((DOUBLE, Record("r", None, (Field("x", "x", LONG),)))))
    value, over, _ = field_value(kind, b'[9007199254740993,{"x":1}]')
    assert over == '[9007199254740993,{"x":1}]'
    assert value[1] == {"object": {"x": 1, OVERFLOW: None}}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_is_restored_from_its_shortest_text(value):
    assert field_value(DOUBLE, repr(value).encode()) == (value, None, False)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_float_is_restored_from_its_shortest_text(value):
    assert field_value(FLOAT, str(np.float32(value)).encode()) == (value, None, False)


@given(st.integers())
def test_an_integer_lands_exactly_or_overflows(value):
    landed, over, _ = field_value(LONG, str(value).encode())
    assert (landed, over) == ((value, None) if -(2**63) <= value < 2**63 else (None, str(value)))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_the_text_of_a_changed_number_is_always_kept(value):
    text = str(value).replace("E+", "e").replace("E", "e")
    for kind in (DOUBLE, FLOAT, LONG):
        landed, over, _ = field_value(kind, text.encode())
        shortest = str(np.float32(landed)) if kind is FLOAT and landed is not None else repr(landed)
        assert over == text or Decimal(shortest) == Decimal(text)


@given(st.binary())
def test_bytes_are_restored(value):

    assert field_value(BYTES, b'"%b"' % base64.b64encode(value)) == (value, None, False)


def test_the_largest_float_is_not_infinite():
    largest = struct.unpack("f", b"\xff\xff\x7f\x7f")[0]
    assert field_value(FLOAT, b"3.4028235e38") == (largest, None, False)
