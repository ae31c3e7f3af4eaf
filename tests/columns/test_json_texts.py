"""Objects are split into their members. This includes repeated names, and keeps the source's own text."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.binary_columns import members_of, object_of, pairs_of
from s3dest_dagster.columns.json_losses import has_repeated_name, rows_with_repeated_names

NAMES = st.one_of(st.sampled_from(["a", "b", "é", 'q"', "x:y", "n", ":", " "]), st.text(max_size=3))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(['":', '{"a":1,"a":2}', ": n", "\\", ":null", '\\":'])
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.lists(st.tuples(NAMES, inner), max_size=2).map(tuple),
    max_leaves=4,
)  # fmt: skip
OBJECTS = st.lists(st.tuples(NAMES, VALUES), max_size=4).map(tuple)
"""Objects as tuples of names and values, so a name can occur twice."""
STYLES = st.tuples(st.sampled_from([":", ": ", " : ", "\t:", ":\r"]), st.sampled_from([",", ", "]), st.booleans())


def spelled(value: Any, style: tuple[str, str, bool]) -> str:
    """JSON text with the whitespace and escapes of a style."""
    colon, comma, ascii_only = style
    if isinstance(value, tuple):
        return "{" + comma.join(f"{spelled(n, style)}{colon}{spelled(v, style)}" for n, v in value) + "}"
    if isinstance(value, list):
        return "[" + comma.join(spelled(item, style) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


@given(OBJECTS, STYLES)
def test_pairs_contain_all_members_in_the_order_and_spelling_of_the_source(members, style):
    text = spelled(members, style).encode()
    read = [(json.dumps(name, ensure_ascii=style[2]).encode(), value) for name, value in pairs_of(text)]
    assert read == [(spelled(n, style).encode(), spelled(v, style).encode()) for n, v in members]


@given(OBJECTS, STYLES)
def test_the_last_value_of_a_name_is_its_member_and_earlier_ones_are_returned_separately(members, style):
    text = spelled(members, style).encode()
    last, earlier = members_of(text)
    pairs = pairs_of(text)
    assert {name: bytes(value) for name, value in last.items()} == dict(pairs)
    others = [pair for position, pair in enumerate(pairs) if pair[0] in dict(pairs[position + 1 :])]
    assert list(earlier) == [pair for pair in others if pair[1] != b"null"]
    assert has_repeated_name(text) == _is_any_repeated(members)


@given(st.lists(st.tuples(OBJECTS, STYLES), max_size=40))
def test_objects_that_repeat_a_name_are_found_among_many(objects):
    raws = [spelled(members, style).replace("\r", "\t").encode() for members, style in objects]
    assert rows_with_repeated_names(raws) == {
        position for position, (members, _) in enumerate(objects) if _is_any_repeated(members)
    }


@pytest.mark.parametrize("string", [r"\":", r"\u0022:", r"\"\u003a", r"\u0022\u003A", r"\\\":"])
def test_a_string_that_looks_like_a_name_hides_no_repeated_name(string):
    clean, twice = f'{{"a":"{string}","b":1}}', f'{{"a":"{string}","b":1,"b":2}}'
    assert rows_with_repeated_names([clean.encode(), twice.encode(), clean.encode()]) == {1}


def test_an_object_that_cannot_be_decoded_as_a_whole_is_also_searched():
    assert rows_with_repeated_names([b'{"a":1e400}', b'{"a":1e400,"a":1}']) == {1}


def _is_any_repeated(value: Any) -> bool:
    if isinstance(value, tuple):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(_is_any_repeated(inner) for _, inner in value)
    return isinstance(value, list) and any(map(_is_any_repeated, value))


@pytest.mark.parametrize("digits", ["9" * 5000, "0." + "9" * 5000])
def test_numbers_of_any_length_are_members(digits):
    text = b'{"a":%b,"a":1}' % digits.encode()
    assert members_of(text)[1] == [("a", digits.encode())]
    assert has_repeated_name(text)


def test_an_object_is_built_from_its_members():
    assert object_of([("a", b"1"), ('q"', msgspec.Raw(b"[ 2]")), ("a", b"null")]) == b'{"a":1,"q\\"":[ 2],"a":null}'
    assert object_of([]) == b"{}"
