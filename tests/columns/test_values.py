"""The rules of conversion: what each value becomes under each kind, and what is said about it."""

from __future__ import annotations

import base64
import struct
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.arrow_types import Layout
from s3dest_dagster.columns.conversion_log import Outcome, tally_of
from s3dest_dagster.columns.types import OVERFLOW, Array, Field, Record, Scalar, Union
from s3dest_dagster.columns.values import UNFIT, convert_record, convert_value

COERCED, OVERFLOWED, UNDECLARED = Outcome


def field_value(kind, raw: bytes, layout=Layout.NAMED):
    """The value of one field, its overflow text, and whether it was counted as coerced."""
    record = Record("s", None, (Field("f", "f", kind),))
    values, events = convert_record(record, b'{"f":%b}' % raw, layout=layout)
    over = dict(values[OVERFLOW] or ()).get("f")
    assert ((OVERFLOWED, "f") in events) == (over is not None)
    return values.get("f"), over, (COERCED, "f") in events


@pytest.mark.parametrize(
    ("kind", "raw", "value", "over", "coerced"),
    [
        (Scalar.LONG, b"12", 12, None, False),
        (Scalar.LONG, b"-0", 0, None, False),
        (Scalar.LONG, b"9223372036854775807", 2**63 - 1, None, False),
        (Scalar.LONG, b"9223372036854775808", None, "9223372036854775808", False),
        (Scalar.LONG, b'"12"', 12, None, True),
        (Scalar.LONG, b'"-9223372036854775808"', -(2**63), None, True),
        (Scalar.LONG, b'"007"', None, "007", False),
        (Scalar.LONG, b'"-0"', None, "-0", False),
        (Scalar.LONG, b'" 1"', None, " 1", False),
        (Scalar.LONG, b'"30.0"', None, "30.0", False),
        (Scalar.LONG, b"30.0", 30, None, True),
        (Scalar.LONG, b"1e3", 1000, None, True),
        (Scalar.LONG, b"0e400", 0, None, True),
        (Scalar.LONG, b"1e400", None, "1e400", False),
        (Scalar.LONG, b"1e99999999", None, "1e99999999", False),
        (Scalar.LONG, b"1e999999999999999999999", None, "1e999999999999999999999", False),
        (Scalar.LONG, b"1.5", None, "1.5", False),
        (Scalar.LONG, b"true", None, "true", False),
        (Scalar.DOUBLE, b"1", 1.0, None, False),
        (Scalar.DOUBLE, b"1e5", 1e5, None, False),
        (Scalar.DOUBLE, b'"1.50"', 1.5, None, True),
        (Scalar.DOUBLE, b'"0.1000000000000000055"', None, "0.1000000000000000055", False),
        (Scalar.DOUBLE, b'"NaN"', None, "NaN", False),
        (Scalar.DOUBLE, b'"1_0"', None, "1_0", False),
        (Scalar.DOUBLE, b"0.1000000000000000055", 0.1, "0.1000000000000000055", False),
        (Scalar.DOUBLE, b"9007199254740993", 9007199254740992.0, "9007199254740993", False),
        (Scalar.DOUBLE, b"1e-400", 0.0, "1e-400", False),
        (Scalar.DOUBLE, b"1e400", None, "1e400", False),
        (Scalar.FLOAT, b"0.1", float(np.float32(0.1)), None, False),
        (Scalar.FLOAT, b"16777217", 16777216.0, "16777217", False),
        (Scalar.FLOAT, b"3.5e38", None, "3.5e38", False),
        (Scalar.STRING, b'"a\\u00e9"', "aé", None, False),
        (Scalar.STRING, b"1.50", "1.50", None, True),
        (Scalar.STRING, b'{"a" : 1}', '{"a" : 1}', None, True),
        (Scalar.BOOLEAN, b"true", True, None, False),
        (Scalar.BOOLEAN, b'"true"', None, "true", False),
        (Scalar.BOOLEAN, b"1", None, "1", False),
        (Scalar.BYTES, b'"aGk="', b"hi", None, False),
        (Scalar.BYTES, b'""', b"", None, False),
        (Scalar.BYTES, b'"aGk"', None, "aGk", False),
        (Scalar.BYTES, b'"aGl="', None, "aGl=", False),
        (Scalar.BYTES, b'"a Gk="', None, "a Gk=", False),
        (Scalar.BYTES, '"é"'.encode(), None, "é", False),
        (Scalar.NULL, b"1", None, "1", False),
        (Scalar.DATE, b'"2021-01-02"', 18629, None, False),
        (Scalar.DATE, b'"soon"', None, "soon", False),
        (Scalar.DATE, b"18629", None, "18629", False),
        (Array(Scalar.STRING), b'["a",1.50,null]', ["a", "1.50", None], None, True),
        (Array(Scalar.LONG), b'[1,"2"]', [1, 2], None, True),
        (Array(Scalar.LONG), b'[1, "x"]', None, '[1, "x"]', False),
        (Array(Scalar.LONG), b"5", None, "5", False),
        (Array(Scalar.DOUBLE), b"[1,9007199254740993]", [1.0, 9007199254740992.0], "[1,9007199254740993]", False),
        (Array(Array(Scalar.LONG)), b"[[1],null,[]]", [[1], None, []], None, False),
        (Array(Array(Scalar.LONG)), b'[[1],["x"]]', None, '[[1],["x"]]', False),
        (Record("r", None, ()), b'"x"', None, "x", False),
    ],
)
def test_what_a_value_becomes(kind, raw, value, over, coerced):
    assert field_value(kind, raw) == (value, over, coerced)


def test_the_text_of_a_null_or_missing_value_is_null():
    record = Record("s", None, (Field("f", "f", Scalar.LONG),))
    for raw in (b"{}", b'{"f":null}', b'{"f":null,"g":null}'):
        assert convert_record(record, raw) == ({OVERFLOW: None}, [])


@pytest.mark.parametrize(
    ("branches", "raw", "member", "coerced"),
    [
        ((Scalar.LONG, Scalar.STRING), b'"12"', {"string": "12"}, False),
        ((Scalar.LONG, Scalar.BOOLEAN), b'"12"', {"integer": 12}, True),
        ((Scalar.LONG, Scalar.DOUBLE), b"1.5", {"number": 1.5}, False),
        ((Scalar.LONG, Scalar.DOUBLE), b"30.0", {"number": 30.0}, False),
        ((Scalar.DOUBLE, Scalar.LONG), b"30", {"number": 30.0}, False),
        ((Scalar.DOUBLE, Scalar.LONG), b"9007199254740993", {"integer": 9007199254740993}, False),
        ((Scalar.LONG, Scalar.STRING), b"9223372036854775808", {"string": "9223372036854775808"}, True),
        ((Scalar.DOUBLE, Scalar.STRING), b"0.1000000000000000055", {"string": "0.1000000000000000055"}, True),
        ((Scalar.DATE, Scalar.STRING), b'"2021-01-02"', {"date": 18629}, False),
        ((Scalar.DATE, Scalar.STRING), b'"soon"', {"string": "soon"}, False),
        ((Scalar.STRING, Scalar.DATE), b'"2021-01-02"', {"string": "2021-01-02"}, False),
        ((Scalar.BYTES, Scalar.STRING), b'"aGk="', {"bytes": b"hi"}, False),
        ((Scalar.BYTES, Scalar.STRING), b'"hi!"', {"string": "hi!"}, False),
        ((Scalar.FLOAT, Scalar.DOUBLE), b"16777217", {"number": 16777217.0}, False),
        ((Array(Scalar.LONG), Scalar.STRING), b'["x"]', {"string": '["x"]'}, True),
        ((Record("r", None, ()), Scalar.STRING), b"{}", {"object": {OVERFLOW: None}}, False),
    ],
)
def test_a_union_takes_the_exact_branch_then_the_lossless_one(branches, raw, member, coerced):
    assert field_value(Union(branches), raw) == (member, None, coerced)


def test_a_union_of_numbers_takes_the_nearest_last_and_keeps_the_text():
    value = field_value(Union((Scalar.BOOLEAN, Scalar.DOUBLE)), b"9007199254740993")
    assert value == ({"number": 9007199254740992.0}, "9007199254740993", False)


def test_a_text_that_does_not_parse_stands_beside_the_dates_where_avro_has_a_string():
    assert field_value(Scalar.DATE, b'"soon"', Layout.AVRO) == ({"member1": "soon"}, None, False)
    assert field_value(Scalar.DATE, b"5", Layout.AVRO) == (None, "5", False)
    union = Union((Scalar.LONG, Scalar.DATE))
    assert field_value(union, b'"soon"', Layout.AVRO) == ({"member2": "soon"}, None, False)
    assert field_value(union, b'"12"', Layout.AVRO) == ({"member0": 12}, None, True)
    assert field_value(Array(Scalar.DATE, fallback=False), b'["soon"]', Layout.AVRO) == (None, '["soon"]', False)


def test_every_level_has_an_overflow_of_its_own_with_original_names():
    inner = Record("o", None, (Field("x_y", "x-y", Scalar.LONG),))
    record = Record("s", None, (Field("o", "o", inner), Field("l", "l", Array(inner))))
    values, events = convert_record(record, b'{"o":{"x-y":"a","z z":1},"l":[{"q":[ 1 ]},null],"x":{"a":"\\u00e9"}}')
    assert values == {
        "o": {OVERFLOW: [("x-y", "a"), ("z z", "1")]},
        "l": [{OVERFLOW: [("q", "[ 1 ]")]}, None],
        OVERFLOW: [("x", '{"a":"\\u00e9"}')],
    }
    tally = tally_of(Counter(events))
    assert (tally.overflowed, tally.undeclared) == ({"o.x-y": 1}, {"o.z z": 1, "l.q": 1, "x": 1})


def test_an_inexact_item_beside_records_is_not_forgotten():
    kind = Array(Union((Scalar.DOUBLE, Record("r", None, (Field("x", "x", Scalar.LONG),)))))
    value, over, _ = field_value(kind, b'[9007199254740993,{"x":1}]')
    assert over == '[9007199254740993,{"x":1}]'
    assert value[1] == {"object": {"x": 1, OVERFLOW: None}}


def test_a_value_alone_can_be_converted():
    assert convert_value(Scalar.LONG, b'"5"') == 5
    assert convert_value(Scalar.LONG, b"null") is None
    assert convert_value(Scalar.LONG, b"1.5") is UNFIT


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_is_given_back_by_its_shortest_text(value):
    assert field_value(Scalar.DOUBLE, repr(value).encode()) == (value, None, False)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_float_is_given_back_by_its_shortest_text(value):
    assert field_value(Scalar.FLOAT, str(np.float32(value)).encode()) == (value, None, False)


@given(st.integers())
def test_an_integer_lands_exactly_or_overflows(value):
    landed, over, _ = field_value(Scalar.LONG, str(value).encode())
    assert (landed, over) == ((value, None) if -(2**63) <= value < 2**63 else (None, str(value)))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_a_number_is_never_changed_without_its_text_being_kept(value):
    text = str(value).replace("E+", "e").replace("E", "e")
    for kind in (Scalar.DOUBLE, Scalar.FLOAT, Scalar.LONG):
        landed, over, _ = field_value(kind, text.encode())
        shortest = str(np.float32(landed)) if kind is Scalar.FLOAT and landed is not None else repr(landed)
        assert over == text or Decimal(shortest) == Decimal(text)


@given(st.binary())
def test_bytes_are_given_back(value):

    assert field_value(Scalar.BYTES, b'"%b"' % base64.b64encode(value)) == (value, None, False)


def test_the_largest_float_is_not_infinite():
    largest = struct.unpack("f", b"\xff\xff\x7f\x7f")[0]
    assert field_value(Scalar.FLOAT, b"3.4028235e38") == (largest, None, False)
