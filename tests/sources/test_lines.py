"""Line breaks are counted, and a line that is not JSON is described by its error."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.sources.lines import BLOCK_BYTES, count_line_breaks, describe_json_error


@given(st.binary() | st.text("\n\r a", max_size=20).map(str.encode))
def test_all_line_breaks_are_counted(block):
    assert count_line_breaks(block) == block.count(b"\n")


@pytest.mark.parametrize("length", [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_line_breaks_of_large_blocks_are_counted(length):
    assert count_line_breaks(b"\n" * length) == length


def fault(text: str) -> str | None:
    """The reason why the text is refused, or `None` if it is accepted."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return describe_json_error(text.encode(), error)
    return None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r'{"a":"x\ud800y"}', r"the text at byte 7 has half of a surrogate pair (\ud800)"),
        (r'["\uDFFF"]', r"(\uDFFF)"),
        (r'["\ud800\ud800\udc00"]', r"byte 2 has half of a surrogate pair (\ud800)"),
        (r'["\\\ud83d"]', r"(\ud83d)"),
        ("[1,NaN]", "NaN at byte 3 is no JSON number"),
        ('{"a":-Infinity}', "-Infinity at byte 5 is no JSON number"),
        ("[1,]", "trailing comma"),
        (r'["\ud83d\ude00", 01]', "invalid number"),
        (r'["\\ud800", 01]', "invalid number"),
        (r'{"a":"cut \ud83d', "truncated"),
        ("{", "truncated"),
    ],
)
def test_an_error_is_reported_with_its_position(text, message):
    assert message in fault(text)


@given(st.text(st.characters(categories=["Cs", "Lu", "So"]), min_size=1).map(json.dumps))
def test_every_escape_of_python_is_read_or_reported_as_a_surrogate(text):
    refused = fault(text)
    assert refused is None or "surrogate" in refused
