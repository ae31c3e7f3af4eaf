"""Objects of lines: how the lines are assembled, and their compression in the background."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.binary_columns import glued
from s3dest_dagster.formats import Encoded
from s3dest_dagster.formats.integers import decimal_texts
from s3dest_dagster.formats.text import JoinedLines, LineColumn, Lines, TextObject
from s3dest_dagster.settings.formats import CsvFormat, JsonlFormat, TextCompression

OUR_TIME = st.integers(10**12, 10**13 - 1)
NEAR_ITS_ENDS = st.sampled_from([10**12 - 1, 10**12, 10**13 - 1, 10**13])
ANY_TIME = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(OUR_TIME) | st.lists(OUR_TIME | NEAR_ITS_ENDS) | st.lists(ANY_TIME))
def test_integers_become_their_decimal_digits(numbers):
    texts = decimal_texts(np.array(numbers, np.int64))
    assert glued([texts, b";"], len(numbers)).to_pylist() == [b"%d;" % number for number in numbers]


@given(st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=3))), st.binary(max_size=2))
def test_lines_consist_of_head_body_and_tail(lines, tail):
    made = JoinedLines([head for head, _ in lines], [memoryview(body) for _, body in lines], tail)
    assert made.texts([len(lines)]) == [b"".join(head + body + tail for head, body in lines)]


@given(st.lists(st.binary(max_size=3), min_size=1), st.data())
def test_lines_are_divided_where_groups_end(bodies, data):
    ends = sorted(data.draw(st.sets(st.integers(1, len(bodies))) | st.just(set())) | {len(bodies)})
    expected = [b"".join(body + b"|" for body in bodies[start:end]) for start, end in pairwise([0, *ends])]
    column = pa.array([b"earlier", *(body + b"|" for body in bodies)], pa.binary())[1:]
    every: list[Lines] = [JoinedLines(None, bodies, b"|"), JoinedLines([b""] * len(bodies), bodies, b"|")]
    for made in [*every, LineColumn(column)]:
        assert made.texts(ends) == expected


@pytest.mark.parametrize("compression", [TextCompression.NONE, TextCompression.GZIP])
def test_several_texts_are_written_in_their_order(compression):
    texts = [b"first\n", b"second\n" * 9, b"third\n"]
    chunks: list[bytes] = []
    made = TextObject(chunks.append, JsonlFormat(compression=compression), b"head\n")
    made.append(Encoded(11, texts, 0))
    assert made.in_background in (0, sum(map(len, texts)))
    made.close()
    content = b"".join(chunks)
    assert (gzip.decompress(content) if compression is TextCompression.GZIP else content) == b"head\n" + b"".join(texts)


def _lines(number: int) -> Encoded:
    text = Random(number).randbytes(200_000).hex().encode() + b"\n"
    return Encoded(1, text, len(text))


@pytest.mark.parametrize(
    "settings", [CsvFormat(), JsonlFormat(), JsonlFormat(compression=TextCompression.NONE)], ids=repr
)
def test_an_object_does_not_depend_on_where_its_lines_are_compressed(settings):
    written: list[bytes] = []
    with ThreadPoolExecutor(2) as threads:
        for background in (None, lambda work: threads.submit(work).result):
            chunks: list[bytes] = []
            made = TextObject(chunks.append, settings, b"head\n", **({"background": background} if background else {}))
            sizes = []
            for number in range(5):
                made.append(_lines(number))
                sizes.append(sum(map(len, chunks)))
            made.close()
            written.append(b"".join([*chunks, repr(sizes).encode()]))
    assert written[0] == written[1]


def test_lines_compressed_in_the_background_are_reported_and_arrive_with_the_next_call():
    begun: list[Callable[[], bytes]] = []

    def background(work: Callable[[], bytes]) -> Callable[[], bytes]:
        begun.append(work)
        return work

    chunks: list[bytes] = []
    made = TextObject(chunks.append, JsonlFormat(), background=background)
    assert made.in_background == 0
    made.append(_lines(1))
    assert made.in_background == _lines(1).nbytes
    assert len(begun) == 1
    before = len(chunks)
    made.append(_lines(2))
    assert len(chunks) > before
    made.close()
    assert made.in_background == 0
    assert gzip.decompress(b"".join(chunks)) == _lines(1).payload + _lines(2).payload


def test_an_error_of_background_compression_is_raised_by_the_next_call():
    def background(work: Callable[[], bytes]) -> Callable[[], bytes]:
        def outcome() -> bytes:
            raise MemoryError

        return outcome

    made = TextObject(list[bytes]().append, JsonlFormat(), background=background)
    made.append(_lines(1))
    with pytest.raises(MemoryError):
        made.close()
