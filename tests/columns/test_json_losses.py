"""Numbers that a double may not preserve are found in the bytes of the records, at any position."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.json_losses import rows_at_risk

RISKY = re.compile(rb"[:,\[\s]-?([0-9.]{16}|[0-9.]*[eE]-[0-9]{3})|[0-9.]{16}[eE]-[0-9]{3}")
DIGITS = st.text("0123456789.", min_size=0, max_size=40)
PARTS = DIGITS | st.sampled_from([":", ",", "[", " ", "-", "e-", "E-", "e", '"', "/", "\t", "é", "a" * 7, "a" * 8])
OBJECTS = st.lists(PARTS, max_size=12).map(lambda parts: ("{" + "".join(parts) + "}").encode())


def rows(raws: list[bytes]) -> list[int]:
    return rows_at_risk(b"\n".join(raws), raws).tolist()


@given(st.lists(OBJECTS, min_size=1, max_size=6))
def test_rows_with_a_long_run_of_digits_or_a_large_exponent_are_found(raws):
    assert rows(raws) == [number for number, raw in enumerate(raws) if RISKY.search(raw)]


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 8))
def test_a_number_of_more_than_15_digits_is_never_missed(number, shift):
    raw = b'{"%b":%b}' % (b"x" * shift, json.dumps(number).encode())
    if json.loads(f"{number:.15g}") != number:
        assert rows([raw]) == [0]


@pytest.mark.parametrize("shift", range(17))
@pytest.mark.parametrize(
    ("number", "at_risk"),
    [
        (b"123456789012345", False),
        (b"1234567890123456", True),
        (b"-1234567890123456", True),
        (b"0.123456789012345", True),
        (b'"1234567890123456"', False),
        (b'"a1234567890123456"', False),
        (b'"20/20/20202020/20202020/"', False),
        (b"1" * 400, True),
        (b"1e-99", False),
        (b"1e-100", True),
        (b"1E-100", True),
        (b"1e100", False),
        (b"-12.345e-100", True),
        (b'"9f1c2d3e-123a-45e-1234-12345e-999"', False),
    ],
)
def test_the_position_of_a_number_makes_no_difference(number, at_risk, shift):
    raw = b'{"%b":%b}' % (b"x" * shift, number)
    assert rows([b"{}", raw, b"{}"]) == ([1] if at_risk else [])
