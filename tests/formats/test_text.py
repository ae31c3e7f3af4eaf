"""What text lines are put together from: numbers as digits, and lines as heads, bodies and tails."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.formats.text import decimal_texts, spliced
from s3dest_dagster.schema.binary_columns import glued

OUR_TIME = st.integers(10**12, 10**13 - 1)
NEAR_ITS_ENDS = st.sampled_from([10**12 - 1, 10**12, 10**13 - 1, 10**13])
ANY_TIME = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(OUR_TIME) | st.lists(OUR_TIME | NEAR_ITS_ENDS) | st.lists(ANY_TIME))
def test_integers_become_their_decimal_digits(numbers):
    texts = decimal_texts(np.array(numbers, np.int64))
    assert glued([texts, b";"], len(numbers)).to_pylist() == [b"%d;" % number for number in numbers]


@given(st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=3))), st.binary(max_size=2))
def test_lines_are_head_body_and_tail_in_turn(lines, tail):
    whole = spliced([head for head, _ in lines], [memoryview(body) for _, body in lines], tail)
    assert whole == b"".join(head + body + tail for head, body in lines)
