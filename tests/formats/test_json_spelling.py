"""Compact JSON keeps the spelling of every value."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import compact_json
from s3dest_dagster.formats.csv import compact_lines


def test_only_whitespace_between_tokens_is_removed():
    assert compact_json(b'{ "a b" :\t[ 1.50 , "x , y" ] , "c":{ } }') == b'{"a b":[1.50,"x , y"],"c":{}}'


def test_numbers_and_escapes_keep_their_spelling():
    text = rb'{"n":[1.50,1e5,-0,12345678901234567890],"t":"\u00e9\/\n"}'
    assert compact_json(text) == text


_TEXTS = st.text(max_size=5)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)
_RECORDS = st.dictionaries(_TEXTS, _VALUES, max_size=3)
_SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" , ", "\t:")])


@given(st.lists(st.tuples(_RECORDS, _SEPARATORS), max_size=5))
def test_lines_are_compact_whatever_is_between_the_tokens(records):
    raws = [json.dumps(record, separators=separators).encode() for record, separators in records]
    expected = [json.dumps(record, separators=(",", ":")).encode() for record, _ in records]
    assert compact_lines(raws) == b"\n".join(expected)


@given(st.lists(_RECORDS, min_size=1, max_size=3), st.data())
def test_whitespace_between_any_two_tokens_is_found(records, data):
    raws = [json.dumps(record, separators=(",", ":")).encode() for record in records]
    number = data.draw(st.integers(0, len(raws) - 1))
    tokens = [position for position in range(1, len(raws[number])) if _is_between_tokens(raws[number], position)]
    position = data.draw(st.sampled_from(tokens))
    spaced = raws[number][:position] + b" " + raws[number][position:]
    assert compact_lines([*raws[:number], spaced, *raws[number + 1 :]]) == b"\n".join(raws)


def _is_between_tokens(text: bytes, position: int) -> bool:
    """Whether whitespace at this position leaves the same JSON values."""
    try:
        return json.loads(text[:position] + b" " + text[position:]) == json.loads(text)
    except ValueError:
        return False
