"""A hash depends on the value, not on its spelling; different values have different canonical texts."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.hidden_values import Hasher, canonical_json
from s3dest_dagster.errors import RecordError

KEY = "a key of at least sixteen characters"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('"Ada"', '"Ada"'),
        (r'"\u0041da"', '"Ada"'),
        (r'"a\/b\u00e9\u001F\u0008\"\\"', '"a/bé\\u001f\\b\\"\\\\"'),
        ('{"b": 1, "a" : [ 1.0,true , null]}', '{"a":[1,true,null],"b":1}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        # U+E000 comes before U+10000 in code points, and after it in UTF-16.
        ('{"\ue000":1,"\U00010000":2}', '{"\U00010000":2,"\ue000":1}'),
        # The examples of ECMAScript's numbers in RFC 8785, appendix B.
        ("333333333.33333329", "333333333.33333329"),
        ("1E30", "1e+30"),
        ("4.50", "4.5"),
        ("2e-3", "0.002"),
        ("0.000000000000000000000000001", "1e-27"),
        ("-0", "0"),
        ("-0.0e7", "0"),
        ("999999999999999900000", "999999999999999900000"),
        ("1000000000000000000000", "1e+21"),
        ("9.999999999999997e-7", "9.999999999999997e-7"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("12345678901234567890.123450", "12345678901234567890.12345"),
        ("123456789012345678901234567890", "1.2345678901234567890123456789e+29"),
        ("1e400", "1e+400"),
    ],
)
def test_the_canonical_text_is_that_of_rfc_8785_with_every_digit(text, canonical):
    assert canonical_json(text.encode()).decode() == canonical


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 5))
def test_all_spellings_of_a_number_are_one_and_no_digit_is_lost(number, zeros):
    written = canonical_json(str(number).encode()).decode()
    assert Decimal(written) == number
    longer = f"{number:f}" + ("" if "." in f"{number:f}" else ".0") + "0" * zeros
    assert canonical_json(longer.encode()).decode() == written


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_has_the_text_that_ecmascript_gives_it(number):
    written = canonical_json(json.dumps(number).encode()).decode()
    assert float(written) == number
    assert "e" in written or len(written.lstrip("-").partition(".")[0]) <= 21


def test_a_hash_is_the_hmac_of_the_canonical_text():
    expected = hmac.new(KEY.encode(), b'{"a":1.5}', hashlib.sha256).hexdigest()
    assert Hasher(KEY).hash(b'{ "a" : 1.50 }') == expected
    assert Hasher(KEY).json_hash(b'{"a":15e-1}') == f'"{expected}"'.encode()
    assert Hasher(KEY + "x").hash(b'{"a":1.5}') != expected


def test_the_id_of_a_key_tells_keys_apart_and_is_short():
    assert Hasher(KEY).key_id == Hasher(KEY).key_id != Hasher(KEY + "x").key_id
    assert len(Hasher(KEY).key_id) == 16


def test_a_value_that_nests_too_deeply_is_refused_without_being_shown():
    deep = b"[" * 100_000 + b'"secret"' + b"]" * 100_000
    with pytest.raises(RecordError, match="nested too deeply") as refused:
        canonical_json(deep)
    assert "secret" not in refused.value.message
